"""The data of a detector's job: sources of one kind of objects, and anchors for them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from attnpool.data.source import DataError
from attnpool.detection.anchors import Anchors, Shapes, fit_anchors
from attnpool.detection.data.source import BoxSource, open_boxes
from attnpool.jobs._write import write_whole

SUBSETS = {
    "traffic": ("person", "bicycle", "car", "motorcycle", "bus", "train", "truck", "traffic light"),
}
"""Names of several classes of COCO; traffic: our reading of the eight of Chen et al., WACV 2023."""
ANCHORS = "anchors.json"
COUNTS = {"yolov3": 9, "ssd": 30, "ssdlite": 36}
"""Anchors of a detector that has some: YOLOv3's of three levels, SSD's of six."""
Splits = tuple[BoxSource, BoxSource | None, BoxSource | None]
"""To train on, to validate on and to test on."""


def classes_of(names: Sequence[str]) -> tuple[str, ...]:
    """The classes that are meant: those named, or those of the subset that is named alone."""
    return SUBSETS.get(names[0], tuple(names)) if len(names) == 1 else tuple(names)


def open_splits(data: str, val_data: str | None, test_data: str | None, classes: Sequence[str]) -> Splits:
    """The sources to train on, to validate on and to test on; the others are read with the classes of the first."""
    train = open_boxes(data, classes=classes_of(classes))
    others = (val_data, test_data)
    val, test = (text and open_boxes(text, classes=train.classes, all_there=False) for text in others)
    return train, val or None, test or None


def fitted(source: BoxSource, image_size: tuple[int, int], count: int, seed: int = 0) -> Anchors:
    """Anchors for the boxes of a source, in pixels of images that were resized to `image_size` (height, width)."""
    height, width = image_size
    shapes = []
    for index in range(len(source.images)):
        here = source.images.annotations(index)
        boxes = here.where(~here.crowd).boxes
        high, wide = source.images.size(index)
        sides = boxes[:, 2:] - boxes[:, :2]
        shapes.append(sides * torch.tensor((width / wide, height / high)))
    if not sum(map(len, shapes)):
        raise DataError(f"data has to have boxes to fit anchors to, but {source.name} has none")
    try:
        return fit_anchors(torch.cat(shapes), count, seed)
    except ValueError as error:  # fewer different boxes than anchors
        raise DataError(f"data has to suit {count} anchors, but {source.name} does not: {error}") from error


def read_anchors(file: str, image_size: tuple[int, int]) -> Shapes:
    """The anchors in a file that `attnpool detect anchors` wrote for images of this size.

    Raises:
        ValueError: if it is not such a file.
    """
    try:
        content: Any = json.loads(Path(file).read_text())
        size, shapes = tuple(content["image_size"]), content["anchors"]
        found = tuple((float(width), float(height)) for width, height in shapes)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"anchors has to be published, fit, or a file of `detect anchors`, but {file}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if size != image_size:
        raise ValueError(f"anchors has to be a file for images of {image_size}, but {file} is for {size}")
    return found


def write_anchors(file: Path, shapes: Shapes, image_size: tuple[int, int], **about: Any) -> None:
    """Write anchors as `read_anchors` reads them."""
    write_whole(file, json.dumps({"anchors": shapes, "image_size": image_size, **about}, indent=2) + "\n")


def check_same_anchors(folder: Path, shapes: Shapes) -> None:
    """Refuse to go on with other anchors than those of the run in the folder, e.g. of data that has changed.

    Raises:
        ValueError: if they differ.
    """
    begun = json.loads((folder / ANCHORS).read_text())["anchors"]
    if begun != json.loads(json.dumps(shapes)):
        raise ValueError(f"anchors has to give those in {folder / ANCHORS} to go on with the run, but gives others")


def check_count(detector: str, count: int) -> int:
    """The number of anchors, if the detector takes so many.

    Raises:
        ValueError: if it does not.
    """
    if count < 1 or (count != 9 if detector == "yolov3" else count % 6):
        rule = "9 for yolov3" if detector == "yolov3" else f"a positive multiple of 6 for {detector}"
        raise ValueError(f"count has to be {rule}, but got {count}")
    return count
