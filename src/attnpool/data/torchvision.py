"""Published data sets, as torchvision reads and downloads them."""

import importlib.util
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torchvision import datasets

from attnpool.data._published import PUBLISHED, Published
from attnpool.data.arrays import ArrayImages, pixel_statistics
from attnpool.data.folder import IMAGENET_MEAN, IMAGENET_STD, FolderImages
from attnpool.data.source import DataError, Source
from attnpool.data.split import stratified_split
from attnpool.registry import SOURCES, did_you_mean

Images = ArrayImages | FolderImages


@SOURCES.register("torchvision", variants={name: {"dataset": name} for name in PUBLISHED})
def torchvision(dataset: str, *, data_dir: Path | None = None, download: bool = True) -> Source:
    """A published data set, read by torchvision, and downloaded if it is missing; its short name alone will do.

    A download is made in a folder of its own and moved when it is whole, and what lies in the data folder has to hold
    every image. The files of CIFAR are pickles: torchvision unpickles them only if their MD5 is that of the published
    files, for which nobody knows other content. Mean and std are those of the training data where all of it lies in
    memory, else those of ImageNet.

    Args:
        dataset: cifar10, mnist, ...; `attnpool list data` has all.
        data_dir: Folder of the data sets, laid out as torchvision does; by default ~/.cache/attnpool.
        download: Whether a missing data set is downloaded.

    Raises:
        DataError: An unknown name, files that are missing or not whole, or a download that failed.
        ImportError: The data set needs SciPy, which is not installed.
    """
    if dataset not in PUBLISHED:
        raise DataError(f"unknown data set of torchvision {dataset!r}{did_you_mean(dataset, PUBLISHED)}")
    published = PUBLISHED[dataset]
    if published.needs and importlib.util.find_spec(published.needs) is None:
        raise ImportError(f"{dataset} needs {published.needs} to read its .mat files: pip install attnpool[report]")
    root = data_dir or default_data_dir()
    if not _there(published, root):
        if not download:
            raise DataError(f"{dataset} is not in {root}, which has to hold {published.files}; or let it be downloaded")
        _download(dataset, published, root)
    try:
        splits, classes = _read(published, root)
    except Exception as error:  # readers raise errors of many types
        remedy = f"remove {root / published.folder}" if published.folder else f"remove {published.files} there"
        reason = " ".join(str(error).split("\n")) or type(error).__name__
        raise DataError(f"{dataset} in {root} is not whole ({reason}): {remedy}, and download it again") from error
    return _source(dataset, published, splits, classes)


def default_data_dir() -> Path:
    """`attnpool` in $XDG_CACHE_HOME, or in ~/.cache if that is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "attnpool"


def _there(published: Published, root: Path) -> bool:
    """Whether anything of the data set lies in the folder; whole or not is seen when it is read."""
    if published.folder:
        return (root / published.folder).exists()
    return all((root / file).exists() for file in published.files.split(" and "))


def _download(name: str, published: Published, root: Path) -> None:
    """Download into a folder beside the place, and move what came when all of it can be read: files first."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{name}-", dir=root) as part:
            for options in published.splits.values():
                getattr(datasets, published.reader)(part, download=True, **options)
            _read(published, Path(part))
            for entry in sorted(Path(part).iterdir(), key=Path.is_dir):
                if not (root / entry.name).is_dir():  # another process was faster
                    entry.replace(root / entry.name)
    except Exception as error:  # the network, the server, the disk, an archive
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"cannot download {name} ({reason}); {root} (data_dir) has to hold {published.files}"
        ) from error


def _read(published: Published, root: Path) -> tuple[dict[str, Images], tuple[str, ...]]:
    splits: dict[str, Images] = {}
    names: Sequence[Any] = [str(label) for label in range(published.classes)]
    for split, options in published.splits.items():
        with warnings.catch_warnings():  # NumPy 2.4 warns of how NumPy wrote the pickles of CIFAR in 2009
            warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
            reader = getattr(datasets, published.reader)(str(root), **options)
        names = getattr(reader, "classes", names)
        splits[split] = images = _images(reader)
        _check(split, images, published.images[split], published.classes)
    return splits, tuple(name if isinstance(name, str) else name[0] for name in names)  # synonyms: the first


def _images(reader: Any) -> Images:
    """What a reader of torchvision found: one array, or files. Files are read by ours, which names a broken one."""
    if hasattr(reader, "data"):
        pixels = np.asarray(reader.data)
        if pixels.ndim == 4 and pixels.shape[3] != 3:
            pixels = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))  # (N, 3, H, W) -> (N, H, W, 3)
        return ArrayImages(pixels, reader.targets if hasattr(reader, "targets") else reader.labels)
    found: Mapping[str, Any] = vars(reader)
    samples = found.get("_samples") or found.get("samples")
    if samples is None:
        samples = zip(found.get("_image_files") or found["_images"], found["_labels"], strict=True)
    return FolderImages([(str(file), int(label)) for file, label in samples])


def _check(split: str, images: Images, count: int, classes: int) -> None:
    if len(images) != count:
        raise DataError(f"{split} has to have {count} images, but has {len(images)}")
    if {*images.targets} != {*range(classes)}:
        raise DataError(f"{split} has to have images of {classes} classes, but has {len({*images.targets})}")
    for file, _ in images.samples if isinstance(images, FolderImages) else ():
        if not os.path.exists(file):
            raise DataError(f"{file} is missing")


def _source(name: str, published: Published, splits: dict[str, Images], classes: tuple[str, ...]) -> Source:
    if "all" in splits:
        every = splits["all"]
        assert isinstance(every, FolderImages)
        parts = stratified_split(every.targets, classes, fraction=0.2, seed=0)
        train, test = (FolderImages([every.samples[i] for i in part]) for part in parts)
        splits = {"train": train, "test": test}
    images = splits["train"]
    mean, std = pixel_statistics(images.images) if isinstance(images, ArrayImages) else (IMAGENET_MEAN, IMAGENET_STD)
    size = {} if published.image_size is None else {"image_size": published.image_size}
    return Source(name, images, splits["test"], classes, published.channels, mean, std, val=splits.get("val"), **size)
