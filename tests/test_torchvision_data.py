"""Published data sets: files in their real formats, missing ones, half of them, and downloads."""

import gzip
import hashlib
import io
import json
import pickle
import re
import tarfile
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from attnpool.data._published import PUBLISHED
from attnpool.data.arrays import ArrayImages
from attnpool.data.augmentation import Augmentation
from attnpool.data.loaders import make_loaders
from attnpool.data.preprocessing import Preprocessing
from attnpool.data.source import DataError, open_source
from attnpool.data.torchvision import default_data_dir
from attnpool.registry import SOURCES, import_all


def pixels(count: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def expect(monkeypatch: pytest.MonkeyPatch, name: str, classes: int | None = None, **images: int) -> None:
    """Let the table expect as many images as a test writes."""
    classes = classes or PUBLISHED[name].classes
    monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], images=images, classes=classes))


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", fail)


# Real formats


def write_idx(root: Path, train: int, test: int) -> None:
    root.mkdir(parents=True)
    for name, count in {"train": train, "t10k": test}.items():
        head = np.array([0x803, count, 28, 28], ">u4").tobytes()
        (root / f"{name}-images-idx3-ubyte").write_bytes(head + pixels(count, 28, 28).tobytes())
        labels = np.arange(count, dtype=np.uint8) % 10
        (root / f"{name}-labels-idx1-ubyte").write_bytes(np.array([0x801, count], ">u4").tobytes() + labels.tobytes())


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist_full", "FashionMNIST")])
def test_idx_files(name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / folder / "raw", 60, 20)
    expect(monkeypatch, name, train=60, test=20)
    source = open_source(name, data_dir=tmp_path, download=False)
    assert (source.name, source.channels, source.image_size, len(source.classes)) == (name, 1, (28, 28), 10)
    image, label = source.test[7]
    assert (np.asarray(image) == pixels(20, 28, 28)[7]).all()
    assert label == 7
    assert source.mean == pytest.approx([pixels(60, 28, 28).mean() / 255])
    preprocessing = Preprocessing(source.image_size, source.channels, source.mean, source.std)
    batch, _ = next(iter(make_loaders(source, preprocessing, batch_size=5, augment=True).train))
    assert batch.shape == (5, 1, 28, 28)


class OldDtype:
    """Pickles as NumPy 1 wrote its dtypes, with 0 and 1 for False and True."""

    def __reduce__(self) -> Any:
        return np.dtype, ("u1", 0, 1)


def old_pickle(**values: Any) -> bytes:
    return pickle.dumps({**values, "written by": OldDtype()}, protocol=2)


def cifar_files(name: str) -> dict[str, bytes]:
    """The files of CIFAR-10 (or 100) with 10 (or 100) images each."""
    fine = name == "cifar100"
    count, key = (100, "fine_labels") if fine else (10, "labels")
    reader = datasets.CIFAR100 if fine else datasets.CIFAR10
    data = pixels(count, 3 * 32 * 32)
    batch = old_pickle(data=data, **{key: list(range(count))})
    files = {file: batch for file, _ in reader.train_list + reader.test_list}
    names = {reader.meta["key"]: [f"class {label}" for label in range(count)]}
    return {**files, reader.meta["filename"]: old_pickle(**names)}


def pin(monkeypatch: pytest.MonkeyPatch, name: str, files: dict[str, bytes]) -> Any:
    """Let torchvision take these files for the published ones."""
    reader = datasets.CIFAR100 if name == "cifar100" else datasets.CIFAR10
    for part in ("train_list", "test_list"):
        monkeypatch.setattr(reader, part, [[file, md5(files[file])] for file, _ in getattr(reader, part)])
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": md5(files[reader.meta["filename"]])})
    return reader


@pytest.mark.parametrize(("name", "train", "test"), [("cifar10", 50, 10), ("cifar100", 100, 100)])
def test_cifar(name: str, train: int, test: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = cifar_files(name)
    folder = tmp_path / pin(monkeypatch, name, files).base_folder
    folder.mkdir()
    for file, data in files.items():
        (folder / file).write_bytes(data)
    expect(monkeypatch, name, train=train, test=test)
    source = open_source(name, data_dir=tmp_path, download=False)
    assert (source.channels, source.image_size, source.classes[3]) == (3, (32, 32), "class 3")
    image, label = source.train[4]
    planes = pixels(test if name == "cifar10" else 100, 3 * 32 * 32)[4].reshape(3, 32, 32)
    assert (np.asarray(image) == planes.transpose(1, 2, 0)).all()
    assert label == 4


def test_a_pickle_that_is_not_the_published_one_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for file, data in cifar_files("cifar10").items():
        (folder / file).write_bytes(data)

    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "load", opened)
    with pytest.raises(DataError, match=r"not whole \(Dataset not found or corrupted.*remove .*cifar-10-batches-py"):
        open_source("cifar10", data_dir=tmp_path, download=False)


def test_stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    planes = {"train": pixels(10, 3, 96, 96), "test": pixels(20, 3, 96, 96)}  # each plane column by column
    for split, images in planes.items():
        (folder / f"{split}_X.bin").write_bytes(images.tobytes())
        (folder / f"{split}_y.bin").write_bytes((np.arange(len(images)) % 10 + 1).astype(np.uint8).tobytes())
    (folder / "unlabeled_X.bin").write_bytes(b"")
    (folder / "class_names.txt").write_text("\n".join("abcdefghij"))
    for part in ("train_list", "test_list"):
        pinned = [[file, md5((folder / file).read_bytes())] for file, _ in getattr(datasets.STL10, part)]
        monkeypatch.setattr(datasets.STL10, part, pinned)
    expect(monkeypatch, "stl10", train=10, test=20)
    source = open_source("stl10", data_dir=tmp_path, download=False)
    image, label = source.test[13]
    assert (np.asarray(image) == planes["test"][13].transpose(2, 1, 0)).all()
    assert (source.classes[label], source.image_size) == ("d", (96, 96))


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pixels(20, 32, 32, 3)
    labels = np.arange(20)[:, None] % 10 + 1  # the digit 0 is written 10
    for split in ("train", "test"):
        file = tmp_path / f"{split}_32x32.mat"
        savemat(file, {"X": images.transpose(1, 2, 3, 0), "y": labels.astype(np.uint8)})
        url, name, _ = datasets.SVHN.split_list[split]
        monkeypatch.setitem(datasets.SVHN.split_list, split, [url, name, md5(file.read_bytes())])
    expect(monkeypatch, "svhn", train=20, test=20)
    source = open_source("svhn", data_dir=tmp_path, download=False)
    image, label = source.train[9]
    assert (np.asarray(image) == images[9]).all()
    assert (source.classes[label], source.train.targets[:3]) == ("0", [1, 2, 3])


def write_food(root: Path, per_class: int = 2) -> None:
    for split in ("train", "test"):
        files = {dish: [f"{dish}/{split}{i}" for i in range(per_class)] for dish in ("apple_pie", "waffles")}
        for names in files.values():
            for name in names:
                path = root / "food-101/images" / f"{name}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (20, 10), (200, 100, per_class)).save(path)
        (root / "food-101/meta").mkdir(exist_ok=True)
        (root / "food-101/meta" / f"{split}.json").write_text(json.dumps(files))


def test_files_of_many_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_food(tmp_path)
    expect(monkeypatch, "food101", train=4, test=4, classes=2)
    source = open_source("food101", data_dir=tmp_path, download=False)
    assert (source.classes, source.image_size) == (("apple_pie", "waffles"), (224, 224))
    image, label = source.train[3]
    assert (image.size, label) == ((20, 10), 1)
    broken = tmp_path / "food-101/images/waffles/test1.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(DataError, match=f"cannot read the image {broken}"):
        source.test[3]
    broken.unlink()
    with pytest.raises(DataError, match=rf"not whole \({broken} is missing\): remove {tmp_path}/food-101"):
        open_source("food101", data_dir=tmp_path, download=False)


def test_a_set_without_splits_gives_a_fixed_fifth_to_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for land in ("Forest", "River"):
        (tmp_path / "eurosat/2750" / land).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (64, 64), (0, i, 0)).save(tmp_path / "eurosat/2750" / land / f"{land}_{i}.jpg")
    expect(monkeypatch, "eurosat", classes=2, all=20)
    source = open_source("torchvision:eurosat", data_dir=tmp_path, download=False)
    assert (len(source.train), len(source.test), source.classes) == (16, 4, ("Forest", "River"))
    assert np.bincount(source.test.targets).tolist() == [2, 2]


def test_a_set_with_its_own_validation_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = tmp_path / "dtd/dtd/labels"
    labels.mkdir(parents=True)
    for split in ("train", "val", "test"):
        names = [f"{kind}/{kind}_{split}.jpg" for kind in ("banded", "dotted")]
        for name in names:
            file = tmp_path / "dtd/dtd/images" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(file)
        (labels / f"{split}1.txt").write_text("\n".join(names))
    expect(monkeypatch, "dtd", classes=2, train=2, val=2, test=2)
    source = open_source("dtd", data_dir=tmp_path, download=False)
    assert source.val is not None
    assert [vars(part)["samples"][0][0][-10:] for part in (source.train, source.val)] == ["_train.jpg", "ed_val.jpg"]


# Missing, half, downloaded


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_missing_is_one_line_that_says_which_files_go_where(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_network(monkeypatch)
    files = PUBLISHED[name].files
    with pytest.raises(DataError) as offline:
        open_source(name, data_dir=tmp_path, download=False)
    assert str(offline.value) == f"{name} is not in {tmp_path}, which has to hold {files}; or let it be downloaded"
    with pytest.raises(DataError) as failed:
        open_source(name, data_dir=tmp_path)
    assert str(failed.value).startswith(f"cannot download {name} (")
    assert "no network" in str(failed.value)
    assert str(failed.value).endswith(f"; {tmp_path} (data_dir) has to hold {files}")
    assert "\n" not in str(failed.value)
    assert not [*tmp_path.iterdir()]


def test_half_a_file_and_too_few_images_are_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_network(monkeypatch)
    write_idx(tmp_path / "MNIST/raw", 60, 20)
    message = (
        rf"mnist in {tmp_path} is not whole \(train has to have 60000 images, but has 60\): remove {tmp_path}/MNIST"
    )
    with pytest.raises(DataError, match=message):
        open_source("mnist", data_dir=tmp_path)
    expect(monkeypatch, "mnist", train=60, test=20)
    file = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"mnist in .* is not whole") as caught:
        open_source("mnist", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small CIFAR-10 as an archive that a server of this machine gives out, in place of the published one."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr("urllib.request._opener", None)
        yield serve_cifar(folder, f"http://127.0.0.1:{server.server_port}", monkeypatch)
        server.shutdown()
        thread.join()


def serve_cifar(folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = cifar_files("cifar10")
    archive = folder / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    reader = pin(monkeypatch, "cifar10", files)
    monkeypatch.setattr(reader, "url", f"{address}/{archive.name}")
    monkeypatch.setattr(reader, "tgz_md5", md5(archive.read_bytes()))
    expect(monkeypatch, "cifar10", train=50, test=10)
    return archive


def test_a_download_arrives_whole_and_only_once(archive: Path, tmp_path: Path) -> None:
    data = tmp_path / "not yet there"
    assert len(open_source("cifar10", data_dir=data).train) == 50
    assert {entry.name for entry in data.iterdir()} == {"cifar-10-batches-py", "cifar-10-python.tar.gz"}
    archive.unlink()
    assert len(open_source("cifar10", data_dir=data).test) == 10


def test_a_download_cut_short_leaves_nothing(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.write_bytes(archive.read_bytes()[:5000])
    data = tmp_path / "data"
    with pytest.raises(DataError, match=r"cannot download cifar10 \(File not found or corrupted"):
        open_source("cifar10", data_dir=data)
    assert not [*data.iterdir()]
    short = gzip.compress(b"no tar file")
    archive.write_bytes(short)
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(short))
    with pytest.raises(DataError, match="cannot download cifar10"):
        open_source("cifar10", data_dir=data)
    assert not [*data.iterdir()]


# The table


def test_the_table_names_readers_and_says_what_they_hold() -> None:
    for name, published in PUBLISHED.items():
        assert hasattr(datasets, published.reader), name
        assert published.images.keys() == published.splits.keys(), name
        assert published.folder in published.files, name
        assert str(published.classes) in published.summary


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("torchvision:cifra10", "unknown data set of torchvision 'cifra10'.*'cifar10'"),
        ("torchvision", "written torchvision:DATASET, but got 'torchvision'"),
        ("cifar10:x", "data source cifar10 has to be written cifar10, but got 'cifar10:x'"),
    ],
)
def test_names_that_are_none(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(text)


def test_the_data_folder_is_that_of_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "attnpool"
    with pytest.raises(DataError, match=f"mnist is not in {tmp_path}/attnpool"):
        open_source("mnist", download=False)
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_data_dir() == Path.home() / ".cache/attnpool"


def test_statistics_are_measured_only_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "KMNIST/raw", 30, 10)
    expect(monkeypatch, "kmnist", train=30, test=10)
    source = open_source("kmnist", data_dir=tmp_path, download=False)
    assert isinstance(source.train, ArrayImages)
    assert source.std == pytest.approx([pixels(30, 28, 28).std() / 255])


def test_without_scipy_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, "svhn", replace(PUBLISHED["svhn"], needs="no_such_library"))
    with pytest.raises(ImportError, match=r"svhn needs no_such_library .*pip install attnpool\[report\]"):
        open_source("svhn", data_dir=tmp_path)


def test_the_page_says_of_every_source_what_it_holds_and_where_its_files_go() -> None:
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
    import_all("attnpool.data")
    for name, entry in SOURCES.items():
        assert name == "torchvision" or re.search(rf"`{name}[`:/]", page), name
        assert entry.base != "torchvision" or name == entry.base or f"| {PUBLISHED[name].files} |" in page, name
    for field in fields(Augmentation):
        assert f"`{field.name}`" in page, field.name
