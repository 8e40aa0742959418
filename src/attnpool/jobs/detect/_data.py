"""The data of a detector's job: sources of one kind of objects, and anchors for them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from attnpool.data.source import DataError
from attnpool.detection.anchors import Anchors, fit_anchors
from attnpool.detection.data.source import BoxSource, open_boxes

SUBSETS = {
    "traffic": ("person", "bicycle", "car", "motorcycle", "bus", "train", "truck", "traffic light"),
}
"""Names of several classes of COCO; traffic: the eight of Chen et al., WACV 2023."""
COUNTS = {"yolov3": 9, "ssd": 30, "ssdlite": 36}
"""Anchors of a detector that has some: YOLOv3's of three levels, SSD's of six."""


def classes_of(names: Sequence[str]) -> tuple[str, ...]:
    """The classes that are meant: those named, or those of the subset that is named alone."""
    return SUBSETS.get(names[0], tuple(names)) if len(names) == 1 else tuple(names)


def open_splits(
    data: str, val_data: str | None, test_data: str | None, classes: Sequence[str]
) -> tuple[BoxSource, BoxSource | None, BoxSource | None]:
    """The sources to train on, to validate on and to test on; the others are read with the classes of the first."""
    train = open_boxes(data, classes=classes_of(classes))
    val, test = (open_boxes(text, classes=train.classes) if text else None for text in (val_data, test_data))
    return train, val, test


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
    return fit_anchors(torch.cat(shapes), count, seed)


def read_anchors(file: str) -> tuple[tuple[float, float], ...]:
    """The anchors in a file that `attnpool detect anchors` wrote.

    Raises:
        ValueError: if it is not such a file.
    """
    try:
        content: Any = json.loads(Path(file).read_text())
        return tuple((float(width), float(height)) for width, height in content["anchors"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"anchors has to be published, fit, or a file of `detect anchors`, but {file}: {error}"
        ) from error
