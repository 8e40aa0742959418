"""Hugging Face's data sets and tar files of webdataset: written here, read back whole, shared out and gone on with."""

import io
import json
import tarfile
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnpool.data.augmentation import Augmentation
from attnpool.data.loaders import Loaders, Share, make_loaders
from attnpool.data.preprocessing import Preprocessing
from attnpool.data.source import DataError, Stream, open_source
from attnpool.data.stream import StreamBatches

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more than there are CPUs
RGB = Preprocessing((8, 8), 3, (0.5,) * 3, (0.25,) * 3)


def png(number: int, size: int = 8) -> bytes:
    """An image whose red value says which it is."""
    file = io.BytesIO()
    Image.new("RGB", (size, size), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def numbers(batches: Iterable[Any]) -> list[list[int]]:
    return [[round((image[0].mean().item() * 0.25 + 0.5) * 255) for image in images] for images, _ in batches]


def flat(batches: Iterable[Any]) -> list[int]:
    return [*chain.from_iterable(numbers(batches))]


# hfds/NAME


def save_parquet(folder: Path, labels: Any = ("cat", "dog"), **splits: list[int]) -> Path:
    import datasets

    kind = datasets.ClassLabel(names=[*labels]) if labels else datasets.Value("int32")
    features = datasets.Features(picture=datasets.Image(), label=kind, note=datasets.Value("string"))
    folder.mkdir()
    for split, targets in splits.items():
        rows: dict[str, list[Any]] = {"picture": [], "label": targets, "note": ["x"] * len(targets)}
        rows["picture"] = [{"bytes": png(i), "path": None} for i in range(len(targets))]
        datasets.Dataset.from_dict(rows, features).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def test_hfds_of_parquet_files(tmp_path: Path) -> None:
    folder = save_parquet(tmp_path / "pets", train=[0, 1] * 6, validation=[0, 1], test=[1, 0, 1])
    source = open_source(f"hfds/{folder}", data_dir=tmp_path / "cache", download=False)
    assert (source.classes, source.image_size, source.name) == (("cat", "dog"), (224, 224), f"hfds/{folder}")
    assert source.val is not None
    splits: list[Any] = [source.train, source.val, source.test]
    assert [list(split.targets) for split in splits] == [[0, 1] * 6, [0, 1], [1, 0, 1]]
    image, label = splits[2][2]
    assert (image.mode, image.getpixel((0, 0)), label) == ("RGB", (2, 0, 0), 1)
    loaders = make_loaders(source, RGB, batch_size=4, workers=1)
    assert sorted(flat(loaders.train)) == [*range(12)]
    assert open_source(source.name, data_dir=tmp_path / "cache", download=False).classes == source.classes


def test_hfds_of_a_folder_of_images_is_held_out_from(tmp_path: Path) -> None:
    for split, count in {"train": 4, "test": 2}.items():
        for name in ("cat", "dog"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / "photos" / split / name / f"{i}.png").write_bytes(png(i))
    source = open_source(f"hfds:{tmp_path / 'photos'}", data_dir=tmp_path / "cache", download=False)
    assert (len(make_loaders(source, RGB).val.dataset), source.val) == (2, None)  # type: ignore[arg-type]
    broken = tmp_path / "photos/test/dog/1.png"
    broken.write_bytes(b"no image")
    test: Any = source.test
    with pytest.raises(DataError, match=f"cannot read the image {broken} in test of hfds/"):
        [test[i] for i in range(4)]


def test_hfds_labels_that_are_numbers_and_splits_without_labels(tmp_path: Path) -> None:
    folder = save_parquet(tmp_path / "data", (), train=[0, 1, 2], validation=[2, 1, 0], test=[-1, -1, -1])
    source = open_source(f"hfds/{folder}", data_dir=tmp_path / "cache", download=False)
    assert (source.classes, source.val) == (("0", "1", "2"), None)
    assert vars(source.test)["targets"] == [2, 1, 0]


def test_hfds_errors(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match=r"cannot load hfds/no/where: ") as caught:
        open_source("hfds/no/where", data_dir=cache, download=False)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="written hfds:NAME, but got 'hfds/'"):
        open_source("hfds/")
    folder = save_parquet(tmp_path / "untested", train=[0, 1])
    with pytest.raises(DataError, match=r"has to have labelled train and test \(or validation\) splits, but has train"):
        open_source(f"hfds/{folder}", data_dir=cache, download=False)
    folder = save_parquet(tmp_path / "unlearnt", test=[0, 1])
    with pytest.raises(DataError, match="has to have a split train, but has test"):
        open_source(f"hfds/{folder}", data_dir=cache, download=False)
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "train.csv").write_text("word,label\nyes,1\nno,0\n")
    with pytest.raises(
        DataError, match=r"one column of images \(or one called image\), but has none among word, label"
    ):
        open_source(f"hfds/{tmp_path / 'words'}", data_dir=cache, download=False)


# wds/PATH


def write_shard(file: Path, samples: Iterable[dict[str, bytes]]) -> None:
    with tarfile.open(file, "w") as tar:
        for number, sample in enumerate(samples):
            for ending, data in sample.items():
                info = tarfile.TarInfo(f"{number:04}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def save_wds(root: Path, train: tuple[int, ...] = (10, 10, 10, 10), **changed: Any) -> Path:
    """Shards of train, and two of 5 and 4 images each of validation and test; image i of a split has label i % 2."""
    root.mkdir()
    splits = {}
    for split, lengths in {"train": train, "validation": (5, 4), "test": (5, 4)}.items():
        files, first = [], 0
        for shard, length in enumerate(lengths):
            files.append(f"{split}-{shard:04}.tar")
            inside = range(first, first + length)
            write_shard(root / files[-1], [{"png": png(i), "cls": str(i % 2).encode(), "json": b"{}"} for i in inside])
            first += length
        splits[split] = {"name": split, "filenames": files, "shard_lengths": lengths, "num_samples": sum(lengths)}
    (root / "_info.json").write_text(json.dumps({"splits": splits, "classes": ["even", "odd"], **changed}))
    return root


def opened(root: Path, workers: int = 0, share: Share | None = None, **options: Any) -> Loaders:
    source = open_source(f"wds/{root}")
    return make_loaders(source, RGB, batch_size=4, workers=workers, share=share or Share(), **options)


def test_wds_is_read_whole(tmp_path: Path) -> None:
    source = open_source(f"wds/{save_wds(tmp_path / 'data')}")
    assert (source.classes, source.name) == (("even", "odd"), f"wds/{tmp_path / 'data'}")
    assert isinstance(source.train, Stream)
    assert sum(source.train.lengths) == 40
    image, label = [*source.train.read(2)][3]
    assert (image().getpixel((0, 0)), label) == ((23, 0, 0), 1)
    assert open_source(source.name).classes == source.classes


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_evaluation_takes_each_image_once(tmp_path: Path, workers: int) -> None:
    loaders = opened(save_wds(tmp_path / "data"), workers)
    for loader in (loaders.val, loaders.test):
        batches = numbers(loader)
        assert sorted(chain.from_iterable(batches)) == [*range(9)]
        assert len(loader) == len(batches)
    halves = [flat(opened(tmp_path / "data", workers, Share(i, 2)).test) for i in range(2)]
    assert [sorted(half) for half in halves] == [[*range(5)], [*range(5, 9)]]


@pytest.mark.parametrize("workers", [0, 1])
def test_training_takes_each_image_once_an_epoch_in_an_order_of_the_epoch(tmp_path: Path, workers: int) -> None:
    loaders = opened(save_wds(tmp_path / "data"), workers)
    first, again = numbers(loaders.train), numbers(loaders.train)
    assert sorted(chain.from_iterable(first)) == [*range(40)]
    assert (len(loaders.train), first) == (10, again)
    loaders.order.set_epoch(1)
    second = numbers(loaders.train)
    assert sorted(chain.from_iterable(second)) == [*range(40)]
    assert second != first
    other = numbers(opened(tmp_path / "data", workers, seed=1).train)
    assert other != first
    anew = opened(tmp_path / "data", workers)
    anew.order.set_epoch(1)
    assert numbers(anew.train) == second


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_processes_and_workers_share_the_images_out(tmp_path: Path, workers: int) -> None:
    root = save_wds(tmp_path / "data")
    alone = opened(root, workers)
    assert (alone.train.num_workers, len(alone.train)) == (workers, 10)
    taken = flat(alone.train)
    assert (len(taken), len({*taken}) == 40) == (40, workers == 2)  # others cannot take ten batches of ten images each
    together = [opened(root, workers, Share(i, 2)) for i in range(2)]
    assert [(len(part.train), part.train.batch_size) for part in together] == [(10, 2), (10, 2)]
    assert sorted(chain.from_iterable(flat(part.train) for part in together)) == [*range(40)]


def test_shards_of_different_sizes_give_equally_many_batches(tmp_path: Path) -> None:
    root = save_wds(tmp_path / "data", train=(13, 3))
    parts = [numbers(opened(root, 0, Share(i, 2)).train) for i in range(2)]
    assert [[len(batch) for batch in part] for part in parts] == [[2] * 4] * 2
    assert not {*chain.from_iterable(parts[0])} & {*chain.from_iterable(parts[1])}


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize("taken", [1, 4, 9])
def test_a_run_goes_on_within_an_epoch_with_the_same_batches(tmp_path: Path, workers: int, taken: int) -> None:
    root = save_wds(tmp_path / "data")
    whole = opened(root, workers, augment=Augmentation(auto_augment="rand-m9-mstd0.5"))
    whole.order.set_epoch(3)
    resumed = opened(root, workers, augment=Augmentation(auto_augment="rand-m9-mstd0.5"))
    resumed.order.skip(3, taken * 4)
    rest, expected = [*resumed.train], [*whole.train][taken:]
    assert len(rest) == len(expected) == 10 - taken
    for (images, labels), (images2, labels2) in zip(rest, expected, strict=True):
        assert torch.equal(images, images2)
        assert torch.equal(labels, labels2)
    resumed.order.set_epoch(3)  # which is the one that goes on
    assert len([*resumed.train]) == 10 - taken
    resumed.order.set_epoch(4)
    assert len([*resumed.train]) == 10


def test_augmentation_depends_on_the_image_and_not_on_who_reads_it(tmp_path: Path) -> None:
    root = save_wds(tmp_path / "data")
    before = torch.get_rng_state()

    def images(workers: int, process: int, processes: int) -> dict[bytes, int]:
        loaders = opened(root, workers, Share(process, processes), augment=Augmentation(reprob=1.0))
        return {
            image.numpy().tobytes(): int(label)
            for batch, labels in loaders.train
            for image, label in zip(batch, labels, strict=True)
        }

    alone = images(0, 0, 1)
    assert len(alone) == 40
    assert images(2, 0, 2) | images(2, 1, 2) == alone
    assert torch.equal(torch.get_rng_state(), before)


def test_a_worker_mixes_what_it_reads(tmp_path: Path) -> None:
    order = np.array(flat(opened(save_wds(tmp_path / "data")).train))
    assert (np.diff(order) != 1).sum() > 20
    assert {*(order[:20] // 10).tolist()} == {0, 1, 2, 3}


def rewrite(root: Path, **samples: bytes | None) -> None:
    """Replace parts of the third sample of the first training file, or leave them out."""
    made = [{"png": png(i), "cls": b"0"} for i in range(10)]
    made[2] = {key: data for key, data in {**made[2], **samples}.items() if data is not None}
    write_shard(root / "train-0000.tar", made)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ({"png": b"no image"}, "cannot read the image 0002 in .*train-0000.tar: it is of no kind Pillow"),
        ({"png": None, "txt": b""}, r"an image \(jpg, jpeg, png, webp\), but 0002 in .*train-0000.tar has none"),
        ({"cls": None}, "a cls from 0 to 1, but 0002 in .*train-0000.tar has ''"),
        ({"cls": b"2"}, "a cls from 0 to 1, but 0002 in .*train-0000.tar has '2'"),
        ({"cls": b"dog"}, "a cls from 0 to 1, but 0002 in .*train-0000.tar has 'dog'"),
    ],
)
def test_a_broken_sample_is_named(tmp_path: Path, samples: dict[str, Any], message: str) -> None:
    rewrite(save_wds(tmp_path / "data"), **samples)
    with pytest.raises(DataError, match=message) as caught:
        [*opened(tmp_path / "data").train]
    assert "\n" not in str(caught.value)


def test_a_file_with_more_or_fewer_images_or_half_a_file_is_named(tmp_path: Path) -> None:
    root = save_wds(tmp_path / "data")
    write_shard(root / "test-0001.tar", [{"png": png(i), "cls": b"0"} for i in range(3)])
    with pytest.raises(DataError, match=r"test-0001.tar has to hold 4 images, as _info.json says, but holds 3"):
        [*opened(root).test]
    file = root / "test-0001.tar"
    file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(DataError, match=r"cannot read the shard .*test-0001.tar: ReadError"):
        [*opened(root).test]


SPLITS = ("train", "validation", "test")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"splits": {name: {} for name in SPLITS[:2]}},
            "a stream cannot be split: .*_info.json has to have splits train, ",
        ),
        (
            {"splits": {name: {} for name in SPLITS}},
            "split train of .* has to have filenames and shard_lengths, but Key",
        ),
        ({"classes": []}, r"the classes have to be named, one a line, in .*classes.txt"),
        ({"splits": 3}, "_info.json has to be JSON with splits, but TypeError"),
        (
            {"splits": {name: {"filenames": ["a.tar"], "shard_lengths": [3, 4]} for name in SPLITS}},
            "a positive shard length for each file, but has 1 files",
        ),
        (
            {"splits": {name: {"filenames": ["pipe:touch x"], "shard_lengths": [3]} for name in SPLITS}},
            "names .*pipe:touch x, which does not exist",
        ),
    ],
)
def test_wds_errors(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    root = save_wds(tmp_path / "data", **changed)
    with pytest.raises(DataError, match=message):
        open_source(f"wds/{root}")
    with pytest.raises(DataError, match=r"a folder with _info.json, but .*nowhere/_info.json does not exist"):
        open_source(f"wds/{tmp_path}/nowhere")


def test_wds_classes_of_a_file_and_too_many_processes(tmp_path: Path) -> None:
    root = save_wds(tmp_path / "data", train=(10, 10), classes=None)
    (root / "classes.txt").write_text("no\nyes\n")
    source = open_source(f"wds/{root}")
    assert source.classes == ("no", "yes")
    with pytest.raises(DataError, match="a stream has to have a file for each process, but has 2 files"):
        make_loaders(source, RGB, batch_size=6, share=Share(0, 3))


def test_the_length_of_a_part_without_files_is_zero(tmp_path: Path) -> None:
    source = open_source(f"wds/{save_wds(tmp_path / 'data')}")
    assert isinstance(source.test, Stream)
    third = StreamBatches(source.test, RGB.transform(), 4, process=2, processes=3, workers=2)
    assert (len(third), [*third], third.workers) == (0, [], 0)
