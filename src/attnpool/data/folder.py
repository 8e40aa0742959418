"""Images in one folder a class, read when they are asked for."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset
from torchvision.datasets.folder import (
    IMG_EXTENSIONS,
    has_file_allowed_extension,
    make_dataset,
)

from attnpool.data.images import BrokenImageError, read_image
from attnpool.data.source import DataError, Source
from attnpool.data.split import stratified_split
from attnpool.registry import SOURCES

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Sample = tuple[str, int]  # file, label


class FolderImages(Dataset[tuple[Image.Image, int]]):
    """Labelled image files, each decoded to RGB when it is read. A broken one is a `DataError` that names it.

    Args:
        samples: Files and labels.
        upright: Turn photographs as their EXIF orientation says.
    """

    def __init__(self, samples: Sequence[Sample], *, upright: bool = False) -> None:
        self.samples = list(samples)
        self.targets = [label for _, label in self.samples]
        self.upright = upright

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        file, label = self.samples[index]
        try:
            return read_image(file, upright=self.upright), label
        except BrokenImageError as error:
            hint = "--on-bad-image skip leaves out such images"
            raise BrokenImageError(f"{error}; {hint}", error.file, error.reason) from error


@SOURCES.register("folder")
def folder(path: str) -> Source:
    """Images in one folder a class: PATH/train/CLASS/*, PATH/test/CLASS/* (and val), or PATH/CLASS/* alone.

    A `val` folder beside `test` is the validation split; without `test` it is the test split. With class folders only,
    a fixed fifth of each class is the test split. Images become RGB, photographs upright as their EXIF
    orientation says; mean and std are those of ImageNet.

    Raises:
        DataError: A missing path, no images, an empty class, or classes that differ between the splits.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"path of a folder source has to be a folder, but {root} {_what(root)}")
    names = [name for name in ("train", "val", "test") if (root / name).is_dir()]
    if not names:
        classes = _classes(root)
        samples = _samples(root, classes)
        labels = [label for _, label in samples]
        kept, held = stratified_split(labels, [str(root / name) for name in classes], fraction=0.2, seed=0)
        splits = {"train": [samples[i] for i in kept], "test": [samples[i] for i in held]}
    elif "train" not in names or len(names) == 1:
        raise DataError(f"{root} has to have train and test (or val) folders, but got only {' and '.join(names)}")
    else:
        classes, splits = labelled_files(root, names)
    images = {name: FolderImages(samples, upright=True) for name, samples in splits.items()}
    test = images.pop("test" if "test" in images else "val")
    name = f"folder:{root.resolve()}"
    return Source(name, images["train"], test, classes, 3, IMAGENET_MEAN, IMAGENET_STD, val=images.get("val"))


def labelled_files(root: Path, names: Sequence[str]) -> tuple[tuple[str, ...], dict[str, list[Sample]]]:
    """The classes of ROOT/NAME/CLASS/*, the same for all of `names`; and the files of each."""
    classes = _classes(root / names[0])
    for name in names[1:]:
        _check_same(root / names[0], classes, root / name)
    return classes, {name: _samples(root / name, classes) for name in names}


def _what(path: Path) -> str:
    return "is a file" if path.exists() else "does not exist"


def _classes(split: Path) -> tuple[str, ...]:
    names = sorted(entry.name for entry in split.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{split} has to have one folder a class, but got none")
    return tuple(names)


def _check_same(train: Path, classes: tuple[str, ...], split: Path) -> None:
    here = _classes(split)
    for name in sorted({*classes} ^ {*here}):
        has, lacks = (train, split) if name in classes else (split, train)
        raise DataError(f"splits have to have the same classes, but {name!r} is in {has} and not in {lacks}")


def _samples(split: Path, classes: tuple[str, ...]) -> list[Sample]:
    positions = {name: label for label, name in enumerate(classes)}
    samples: list[Sample] = make_dataset(str(split), positions, is_valid_file=_is_image, allow_empty=True)
    if not samples:
        raise DataError(f"no images in the class folders of {split} (known endings: {', '.join(IMG_EXTENSIONS)})")
    for label in {*positions.values()} - {label for _, label in samples}:
        raise DataError(f"each class has to have an image, but {split / classes[label]} has none")
    return samples


def _is_image(file: str) -> bool:
    return not Path(file).name.startswith(".") and bool(has_file_allowed_extension(file, IMG_EXTENSIONS))
