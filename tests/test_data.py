"""Sources, their errors, and the loaders made of them."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnpool.data import fashion_mnist as embedded
from attnpool.data.arrays import ArrayImages, pixel_statistics
from attnpool.data.loaders import Loaders, Share, make_loaders
from attnpool.data.order import Order
from attnpool.data.preprocessing import Preprocessing
from attnpool.data.source import DataError, Source, open_source
from attnpool.data.split import stratified_split
from attnpool.registry import SOURCES, import_all

GREY = Preprocessing((8, 8), 1, (0.5,), (0.25,))
RGB = Preprocessing((8, 12), 3, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def save_images(folder: Path, count: int, size: tuple[int, int] = (12, 10)) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", size, (number, 0, 255)).save(folder / f"{number}.png")


def save_splits(root: Path, **counts: int) -> Path:
    for split, count in counts.items():
        for name in ("cat", "dog"):
            save_images(root / split / name, count)
    return root


def arrays(channels: tuple[int, ...] = (), **changed: Any) -> dict[str, Any]:
    """Valid arrays of 3 classes, 20 images each for training and 4 for test, some of them replaced."""
    random = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for split, count in (("train", 60), ("test", 12)):
        made[f"x_{split}"] = random.integers(0, 256, (count, 10, 9, *channels), dtype=np.uint8)
        made[f"y_{split}"] = np.arange(count) % 3
    return {key: value for key, value in {**made, **changed}.items() if value is not None}


def save_npz(path: Path, **changed: Any) -> Path:
    np.savez(path, **arrays(**changed))
    return path


def array_source(per_class: int = 20, classes: int = 3) -> Source:
    """Image i has the grey value i, which says in a batch which image it was."""
    labels = np.arange(per_class * classes) % classes
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None] * np.ones((8, 8), np.uint8)
    images = ArrayImages(pixels, labels)
    return Source("made", images, images, tuple("abcdefghij"[:classes]), 1, (0.5,), (0.25,))


def seen(loader: Any) -> list[int]:
    """Which images of `array_source` a loader gives, in its order."""
    return [round((image.mean().item() * 0.25 + 0.5) * 255) for images, _ in loader for image in images]


# Sources


def test_file_stem_is_the_registered_name() -> None:
    import_all("attnpool.data")
    known = {"fashion_mnist", "folder", "hfds", "imagenet", "npz", "torchvision", "vww", "wds"}
    assert {entry.base for entry in SOURCES.values()} == known
    for entry in SOURCES.values():
        assert entry.target.__module__ == f"attnpool.data.{entry.base}"
        assert entry.summary


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fashion_mnits", "did you mean 'fashion_mnist'"),
        ("", "unknown data source ''"),
        ("folder", "written folder:PATH, but got 'folder'"),
        ("npz:", "written npz:PATH, but got 'npz:'"),
        ("fashion_mnist:x", "written fashion_mnist, but got 'fashion_mnist:x'"),
    ],
)
def test_source_text_errors(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(text)


def test_a_folder_without_its_prefix_is_told_how_to_write_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_source(str(tmp_path))
    assert str(caught.value) == f"unknown data source '{tmp_path}': a folder of images is written 'folder:{tmp_path}'"


def test_fashion_mnist_is_balanced_small_and_licensed() -> None:
    source = open_source("fashion_mnist")
    assert np.bincount(source.train.targets).tolist() == [1000] * 10
    assert np.bincount(source.test.targets).tolist() == [200] * 10
    image, label = source.train[0]
    assert (image.mode, image.size, source.classes[label]) == ("L", (28, 28), "Ankle boot")
    assert embedded.FILE.stat().st_size < 7_000_000
    assert "Zalando SE" in embedded.FILE.with_name("LICENSE").read_text()
    assert "dataset-fashion-mnist" in embedded.FILE.with_name("README.md").read_text()
    assert isinstance(source.train, ArrayImages)
    mean, std = pixel_statistics(source.train.images)
    assert (source.mean, source.std) == ((round(mean[0], 4),), (round(std[0], 4),))


# folder:PATH


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"train": 5, "test": 2}, (10, None, 4)),
        ({"train": 5, "val": 3, "test": 2}, (10, 6, 4)),
        ({"train": 5, "val": 3}, (10, None, 6)),
    ],
)
def test_folder_with_splits(tmp_path: Path, counts: dict[str, int], expected: tuple[int, int | None, int]) -> None:
    source = open_source(f"folder:{save_splits(tmp_path, **counts)}")
    assert (len(source.train), source.val and len(source.val), len(source.test)) == expected
    assert (source.classes, source.channels, len(source.mean)) == (("cat", "dog"), 3, 3)
    image, label = source.test[expected[2] - 1]
    assert (image.mode, image.size, label) == ("RGB", (12, 10), 1)


def test_folder_of_classes_holds_out_a_fifth(tmp_path: Path) -> None:
    save_images(tmp_path / "cat", 10)
    save_images(tmp_path / "dog", 21)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "dog" / "._0.png").write_bytes(b"not an image")
    first, again = (open_source(f"folder:{tmp_path}") for _ in range(2))
    assert np.bincount(first.train.targets).tolist() == [8, 17]
    assert np.bincount(first.test.targets).tolist() == [2, 4]
    assert vars(first.test)["samples"] == vars(again.test)["samples"]
    assert not {*vars(first.test)["samples"]} & {*vars(first.train)["samples"]}


def test_folder_reads_grey_and_alpha_as_rgb(tmp_path: Path) -> None:
    save_splits(tmp_path, train=2, test=1)
    Image.new("L", (4, 4), 7).save(tmp_path / "test/cat/0.png")
    Image.new("RGBA", (4, 4), (1, 2, 3, 9)).save(tmp_path / "test/dog/0.png")
    test = open_source(f"folder:{tmp_path}").test
    assert [test[i][0].getpixel((0, 0)) for i in range(2)] == [(7, 7, 7), (1, 2, 3)]


def test_photographs_are_upright_in_a_folder_and_as_stored_in_published_sets(tmp_path: Path) -> None:
    """EXIF 6: the first row of what is stored is the right edge of what is shown."""
    stored, turned = Image.new("L", (4, 2), 10), Image.Exif()
    stored.paste(200, (0, 0, 4, 1))
    turned[0x112] = 6
    for split, name in product(("train", "val"), ("n01440764", "n01443537")):
        (tmp_path / split / name).mkdir(parents=True)
        stored.save(tmp_path / split / name / "0.png", exif=turned)
    shown, as_stored = (open_source(f"{kind}:{tmp_path}").train[0][0] for kind in ("folder", "imagenet"))
    assert (shown.size, as_stored.size) == ((2, 4), (4, 2))
    assert [shown.getpixel((x, 3)) for x in (0, 1)] == [(10,) * 3, (200,) * 3]
    assert as_stored.tobytes() == stored.convert("RGB").tobytes()


def test_folder_path_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        open_source(f"folder:{tmp_path / 'nowhere'}")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is a file"):
        open_source(f"folder:{tmp_path / 'file'}")
    with pytest.raises(DataError, match="one folder a class, but got none"):
        open_source(f"folder:{tmp_path}")
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match=f"no images in the class folders of {tmp_path}"):
        open_source(f"folder:{tmp_path}")


def test_folder_class_errors(tmp_path: Path) -> None:
    save_splits(tmp_path, train=2)
    with pytest.raises(DataError, match="got only train"):
        open_source(f"folder:{tmp_path}")
    save_images(tmp_path / "test" / "cat", 1)
    with pytest.raises(DataError, match=f"'dog' is in {tmp_path}/train and not in {tmp_path}/test"):
        open_source(f"folder:{tmp_path}")
    (tmp_path / "test" / "dog").mkdir()
    with pytest.raises(DataError, match=f"{tmp_path}/test/dog has none"):
        open_source(f"folder:{tmp_path}")
    save_images(tmp_path / "test" / "fox", 1)
    with pytest.raises(DataError, match=f"'fox' is in {tmp_path}/test and not in {tmp_path}/train"):
        open_source(f"folder:{tmp_path}")


def test_folder_class_with_one_image_cannot_be_split(tmp_path: Path) -> None:
    save_images(tmp_path / "cat", 3)
    save_images(tmp_path / "dog", 1)
    with pytest.raises(DataError, match=f"{tmp_path}/dog.*at least 2 images.*got 1"):
        open_source(f"folder:{tmp_path}")


def break_image(root: Path, kind: str) -> Path:
    """Make the only test image of `cat` unreadable."""
    file = root / "test/cat/0.png"
    if kind == "wide":
        Image.fromarray(np.full((4, 4), 4000, np.uint16)).save(file)
        return file
    if kind == "jpeg":
        file.unlink()
        file = file.with_suffix(".jpg")
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)
    whole = file.read_bytes()
    file.write_bytes({"text": b"not an image", "empty": b""}.get(kind, whole[: len(whole) // 2]))
    return file


@pytest.mark.parametrize("kind", ["png", "jpeg", "text", "empty", "wide"])
def test_broken_image_is_named(tmp_path: Path, kind: str) -> None:
    file = break_image(save_splits(tmp_path, train=2, test=1), kind)
    with pytest.raises(DataError, match=str(file)) as caught:
        open_source(f"folder:{tmp_path}").test[0]
    assert "\n" not in str(caught.value)


def test_broken_image_stays_one_line_in_a_worker(tmp_path: Path) -> None:
    file = break_image(save_splits(tmp_path, train=2, test=1), "jpeg")
    loaders = make_loaders(open_source(f"folder:{tmp_path}"), RGB, workers=2)
    with pytest.raises(DataError) as caught:
        next(iter(loaders.test))
    assert str(caught.value).startswith(f"cannot read the image {file}: OSError: image file is truncated")
    assert "\n" not in str(caught.value)


# npz:PATH


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_npz(tmp_path: Path, channels: tuple[int, ...]) -> None:
    y = (np.arange(60, dtype=np.uint8) % 3)[:, None]
    path = save_npz(tmp_path / "a.npz", channels=channels, y_train=y, classes=np.array(["a", "b", "c"]))
    source = open_source(f"npz:{path}")
    x = np.load(path)["x_train"]
    assert (source.classes, source.channels) == (("a", "b", "c"), 3 if channels == (3,) else 1)
    image, label = source.train[4]
    assert (np.asarray(image) == x[4].squeeze()).all()
    assert label == 1
    pixels = x.reshape(-1, source.channels) / 255
    assert source.mean == pytest.approx(pixels.mean(axis=0))
    assert source.std == pytest.approx(pixels.std(axis=0))


def test_npz_without_names(tmp_path: Path) -> None:
    assert open_source(f"npz:{save_npz(tmp_path / 'a.npz')}").classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None}, "no array 'y_test'"),
        ({"x_train": np.array([{}] * 60, dtype=object)}, "cannot read x_train: Object arrays cannot be loaded"),
        ({"x_train": np.zeros((60, 8, 8))}, "x_train has to be uint8.*float64"),
        ({"x_test": np.zeros((12, 8, 8, 2), np.uint8)}, r"x_test has to be.*\(12, 8, 8, 2\)"),
        ({"x_test": np.zeros((0, 8, 8), np.uint8)}, "x_test has to be.*not empty"),
        ({"x_test": np.zeros((12, 8, 8, 3), np.uint8)}, "x_train has 1 channels, but x_test has 3"),
        ({"y_train": np.zeros(60)}, "y_train has to be integers.*float64"),
        ({"y_train": np.zeros((60, 3), int)}, r"y_train has to be integers.*\(60, 3\)"),
        ({"y_train": np.zeros(59, int)}, "x_train and y_train have to be of one length, but got 60 and 59"),
        ({"y_train": np.arange(60) % 3 * 2}, "y_train has to hold labels from 0 to 2.*got 4"),
        ({"y_train": np.arange(60) % 3 - 1}, "y_train has to hold labels from 0 to 2.*got -1"),
        ({"y_test": np.arange(12) % 4}, "y_test has to hold labels from 0 to 2.*got 3"),
        ({"y_test": np.arange(12) % 2}, "y_test has to hold each class, but has no image of '2'"),
        ({"classes": np.array(["a", "b", "c", "d"])}, "y_train has to hold each class, but has no image of 'd'"),
        ({"classes": np.array([1, 2, 3])}, "classes has to be distinct str"),
        ({"classes": np.array(["a", "a", "b"])}, "classes has to be distinct str"),
    ],
)
def test_npz_errors_name_file_and_key(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    path = save_npz(tmp_path / "a.npz", **changed)
    with pytest.raises(DataError, match=f"{path}.*{message}"):
        open_source(f"npz:{path}")


def test_npz_file_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match=f"{path} does not exist"):
        open_source(f"npz:{path}")
    with pytest.raises(DataError, match=f"{tmp_path} is a folder"):
        open_source(f"npz:{tmp_path}")
    path.write_text("not an archive")
    with pytest.raises(DataError, match=f"{path} is not an npz file"):
        open_source(f"npz:{path}")
    whole = save_npz(path).read_bytes()
    path.write_bytes(whole[:200] + bytes(len(whole[200:400])) + whole[400:])
    with pytest.raises(DataError, match=f"{path}: cannot read x_train"):
        open_source(f"npz:{path}")


# Loaders


@pytest.mark.parametrize(("fraction", "held"), [(0.1, [2, 1]), (0.001, [1, 1]), (0.5, [10, 3]), (0.999, [19, 5])])
def test_stratified_split_counts(fraction: float, held: list[int]) -> None:
    targets = [0] * 20 + [1] * 6
    kept, out = stratified_split(targets, ("a", "b"), fraction, seed=0)
    assert np.bincount([targets[i] for i in out]).tolist() == held
    assert sorted(kept + out) == list(range(26))


def test_splits_do_not_overlap_and_follow_the_seed() -> None:
    def parts(seed: int) -> tuple[list[int], list[int]]:
        loaders = make_loaders(array_source(), GREY, val_fraction=0.2, seed=seed)
        return seen(loaders.train), seen(loaders.val)

    train, val = parts(0)
    assert sorted(train + val) == list(range(60))
    assert train != sorted(train)
    assert np.bincount(np.array(val) % 3).tolist() == [4, 4, 4]
    assert parts(0) == (train, val)
    assert parts(1)[1] != val


def run(loaders: Loaders, epochs: tuple[int, ...] = (0, 1)) -> list[torch.Tensor]:
    found = []
    for epoch in epochs:
        order_of(loaders).set_epoch(epoch)
        found += [images for images, _ in loaders.train]
    return found


def order_of(loaders: Loaders) -> Order:
    assert isinstance(loaders.train.sampler, Order)
    return loaders.train.sampler


@pytest.mark.parametrize("workers", [0, 2])
def test_a_seed_fixes_order_and_augmentation_and_leaves_the_global_state(tmp_path: Path, workers: int) -> None:
    source = open_source(f"npz:{save_npz(tmp_path / 'a.npz')}")
    before = torch.get_rng_state()
    first = run(make_loaders(source, GREY, batch_size=8, augment=True, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    again = run(make_loaders(source, GREY, batch_size=8, augment=True, workers=workers))
    other = run(make_loaders(source, GREY, batch_size=8, augment=True, workers=workers, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    half = len(first) // 2
    assert not torch.equal(torch.cat(first[:half]), torch.cat(first[half:]))
    alone = run(make_loaders(source, GREY, batch_size=8, augment=True), epochs=(1,))
    assert all(torch.equal(a, b) for a, b in zip(first[half:], alone, strict=True))  # whatever came before it


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 3), (2, 1), (3, 2)])
def test_processes_together_take_the_batches_of_one(tmp_path: Path, processes: int, accumulate: int) -> None:
    source = open_source(f"npz:{save_npz(tmp_path / 'a.npz')}")

    def loaders(process: int = 0, processes: int = 1, accumulate: int = 1) -> Loaders:
        share = Share(process, processes, accumulate)
        return make_loaders(source, GREY, batch_size=12, augment=True, share=share)

    def rows(batches: list[torch.Tensor]) -> list[list[float]]:
        return sorted(torch.cat(batches).flatten(1).tolist())

    alone, shares = run(loaders(), epochs=(3,)), [loaders(i, processes, accumulate) for i in range(processes)]
    parts = [run(share, epochs=(3,)) for share in shares]
    for k, batch in enumerate(alone):
        mine = [part for share in parts for part in share[k * accumulate : (k + 1) * accumulate]]
        assert len({len(part) for part in mine}) == 1
        assert rows(mine) == rows([batch])
    assert all(len(part) == len(alone) * accumulate for part in parts)
    held = [images for share in shares for images, _ in share.val]
    assert rows(held) == rows([images for images, _ in loaders().val])  # none twice, none left out


def test_each_process_has_an_image_of_each_split() -> None:
    with pytest.raises(DataError, match="has to have an image for each of 9 processes"):
        make_loaders(array_source(), GREY, batch_size=9, val_fraction=0.1, share=Share(0, 9))


def test_an_epoch_goes_on_after_the_batches_that_were_taken(tmp_path: Path) -> None:
    source = open_source(f"npz:{save_npz(tmp_path / 'a.npz')}")
    whole = run(make_loaders(source, GREY, batch_size=8, augment=True), epochs=(2, 3))
    rest = make_loaders(source, GREY, batch_size=8, augment=True)
    order_of(rest).skip(epoch=2, images=24)
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], run(rest, epochs=(2, 3)), strict=True))


@pytest.mark.parametrize(
    ("length", "batch_size", "parts", "says"),
    [(9, 8, 3, "batch_size has to be a multiple of 3"), (2, 9, 3, "data has")],
)
def test_an_order_that_cannot_be_shared(length: int, batch_size: int, parts: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Order(length, batch_size, seed=0, processes=parts, parts=parts)


def test_augmentation_only_on_train(tmp_path: Path) -> None:
    source = open_source(f"npz:{save_npz(tmp_path / 'a.npz')}")
    plain, augmented = (make_loaders(source, GREY, augment=augment) for augment in (False, True))
    for name, same in {"train": False, "val": True, "test": True}.items():
        one, two = (next(iter(getattr(loaders, name)))[0] for loaders in (plain, augmented))
        assert one.shape == two.shape
        assert torch.equal(one, two) is same


def test_val_of_the_source_is_used(tmp_path: Path) -> None:
    source = open_source(f"folder:{save_splits(tmp_path, train=5, val=3, test=2)}")
    loaders = make_loaders(source, RGB, batch_size=4, workers=0)
    assert [sum(len(labels) for _, labels in part) for part in (loaders.train, loaders.val, loaders.test)] == [8, 6, 4]


@pytest.mark.parametrize(("batch_size", "batches"), [(53, [53]), (54, [54]), (100, [54]), (26, [26, 26])])
def test_last_batch_is_dropped_only_from_a_larger_training_set(batch_size: int, batches: list[int]) -> None:
    loaders = make_loaders(array_source(), GREY, batch_size=batch_size)
    assert [len(labels) for _, labels in loaders.train] == batches
    assert sum(len(labels) for _, labels in loaders.test) == 60


@pytest.mark.parametrize(("preprocessing", "shape"), [(GREY, (1, 8, 8)), (RGB, (3, 8, 12))])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_channels_and_size(
    tmp_path: Path, preprocessing: Preprocessing, shape: tuple[int, ...], channels: tuple[int, ...]
) -> None:
    source = open_source(f"npz:{save_npz(tmp_path / 'a.npz', channels=channels)}")
    for images, labels in vars(make_loaders(source, preprocessing, batch_size=5, augment=True))["train"]:
        assert (images.shape, labels.shape) == ((5, *shape), (5,))
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)


def test_workers_default_to_none_for_arrays_and_some_for_files(tmp_path: Path) -> None:
    assert make_loaders(array_source(), GREY).train.num_workers == 0
    assert make_loaders(open_source(f"folder:{save_splits(tmp_path, train=2, test=1)}"), RGB).train.num_workers > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 0.0}, "val_fraction has to be above 0 and below 1, but got 0.0"),
        ({"val_fraction": 1}, "val_fraction has to be above 0 and below 1, but got 1"),
        ({"batch_size": 0}, "batch_size has to be a positive integer, but got 0"),
        ({"workers": -1}, "workers has to be 0 or a positive integer, but got -1"),
    ],
)
def test_loader_argument_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_loaders(array_source(), GREY, **options)


def test_too_few_images_to_hold_one_out() -> None:
    with pytest.raises(DataError, match="class 'a' has to have at least 2 images to hold one out, but got 1"):
        make_loaders(array_source(per_class=1), GREY)


# Preprocessing


def test_preprocessing_normalises_and_survives_json() -> None:
    tensor = RGB.transform(augment=False)(Image.new("L", (5, 7), 255))
    assert type(tensor) is torch.Tensor
    assert torch.equal(tensor, torch.full((3, 8, 12), 2.0))
    assert Preprocessing.from_dict(json.loads(json.dumps(RGB.to_dict()))) == RGB


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_size": (0, 8)}, r"image_size has to be two positive integers.*got \(0, 8\)"),
        ({"image_size": (8,)}, "image_size has to be two positive integers"),
        ({"channels": 2}, "channels has to be 1 or 3, but got 2"),
        ({"mean": (0.1, 0.2)}, "mean and std have to hold 1 numbers"),
        ({"std": (0.0,)}, "std above 0"),
    ],
)
def test_preprocessing_errors(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_dict({**GREY.to_dict(), **changed})
