"""What a data source with boxes is, and how a text such as `coco:IMAGES:ANNOTATIONS.json` becomes one."""

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from attnpool.data.source import DataError
from attnpool.registry import BOX_SOURCES, did_you_mean, import_all


@dataclass(frozen=True, eq=False)
class Boxes:
    """The objects of one image.

    Args:
        boxes: (N, 4) float: left, top, right and bottom edge in pixels.
        labels: (N,) int64: position in the classes, plus 1.
        crowd: (N,) bool: whether the box is neither to be found nor wrong to be found.
        area: (N,) float: of the object in pixels; COCO counts its outline, and where there is none, it is the box's.
        image_id: Of the image, another for each image of a source.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    area: Tensor
    image_id: int

    def where(self, mask: Tensor) -> "Boxes":
        """Those that `mask`, (N,) bool, names."""
        return Boxes(self.boxes[mask], self.labels[mask], self.crowd[mask], self.area[mask], self.image_id)


class BoxImages(Protocol):
    """A map-style dataset of (RGB image, its boxes) whose boxes can be had without decoding an image."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Image.Image, Boxes]: ...

    def annotations(self, index: int) -> Boxes:
        """The boxes of an image."""
        ...

    def file(self, index: int) -> str:
        """Where an image lies."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image, in pixels."""
        ...


@dataclass(frozen=True)
class BoxSource:
    """Images with boxes.

    Args:
        name: What it was opened as.
        images: The images and their boxes.
        classes: The names of the classes: label 1 is the first, since 0 is the background.
        dropped: How many boxes of the files were left out, by the reason.
    """

    name: str
    images: BoxImages
    classes: tuple[str, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)


def open_boxes(text: str, *, classes: Sequence[str] = (), all_there: bool = True) -> BoxSource:
    """Open the source that `text` names: `NAME:ARGUMENT`, with more arguments after further colons.

    Args:
        text: The name and the arguments; no path may hold a colon.
        classes: Which classes to keep, in the order of their new labels; by default all, as they are. The boxes of the
            others are left out, and images that have no other boxes stay.
        all_there: Whether the source has to have each of these classes; else one of them is enough.

    Raises:
        DataError: An unknown name or class, an argument missing or too many, or data that cannot be used.
    """
    import_all("attnpool.detection.data")
    name, *arguments = text.split(":")
    if name not in BOX_SOURCES:
        raise DataError(f"unknown data source with boxes {name!r}{did_you_mean(name, BOX_SOURCES)}")
    parameters = inspect.signature(BOX_SOURCES[name].target).parameters.values()
    wanted = [parameter.name.upper() for parameter in parameters]
    needed = [parameter.name.upper() for parameter in parameters if parameter.default is parameter.empty]
    if not len(needed) <= len(arguments) <= len(wanted) or not all(arguments):
        forms = dict.fromkeys(":".join([name, *names]) for names in (needed, wanted))
        raise DataError(
            f"data source {name} has to be written {' or '.join(forms)}, without a colon inside (nor that of a drive), "
            f"but got {text!r}"
        )
    source: BoxSource = BOX_SOURCES[name](*arguments)
    return _picked(source, tuple(classes), all_there) if classes else source


def _picked(source: BoxSource, classes: tuple[str, ...], all_there: bool) -> BoxSource:
    if not all_there and not {*classes} & {*source.classes}:
        raise DataError(
            f"{source.name} has to have some of the classes {', '.join(classes)}, but has {', '.join(source.classes)}"
        )
    for name, count in Counter(classes).items():
        if name not in source.classes and all_there:
            raise DataError(
                f"classes has to name classes of {source.name}, but got {name!r}{did_you_mean(name, source.classes)}"
            )
        if count > 1:
            raise DataError(f"classes has to name each class once, but got {name!r} {count} times")
    labels = [0, *(1 + classes.index(name) if name in classes else 0 for name in source.classes)]
    return replace(source, images=_PickedBoxes(source.images, torch.tensor(labels)), classes=classes)


class _PickedBoxes:
    """`images` with boxes of new labels: `labels[old]`, where 0 means that the box is left out."""

    def __init__(self, images: BoxImages, labels: Tensor) -> None:
        self.images = images
        self.labels = labels
        self.file = images.file
        self.size = images.size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, Boxes]:
        image, boxes = self.images[index]
        return image, self._picked(boxes)

    def annotations(self, index: int) -> Boxes:
        return self._picked(self.images.annotations(index))

    def _picked(self, boxes: Boxes) -> Boxes:
        labels = self.labels[boxes.labels]
        return replace(boxes, labels=labels).where(labels > 0)
