"""Detector strings: `DETECTOR:ARCHITECTURE`, and what they cannot say, as a frozen `DetectionSpec`."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import attnpool.detection.detectors  # noqa: F401  (fills the registry)
from attnpool.detection.anchors import Shapes
from attnpool.poolspec import require
from attnpool.registry import DETECTORS, did_you_mean
from attnpool.spec import ModelSpec, SpecError, parse

GRAMMAR = "DETECTOR:[prepool-POOL-STRIDE-]BACKBONE-POOL-STRIDES"


@dataclass(frozen=True)
class DetectionSpec:
    """A detector: what its string says, and what the string cannot say.

    `parse_detector(str(spec), **spec.settings) == spec` for every spec.

    Args:
        detector: A name in `DETECTORS`.
        network: Of the backbone; its number of classes and its input size do not count.
        num_classes: Kinds of objects; background is not counted.
        image_size: What images are resized to, in pixels: (height, width), or for `faster_rcnn` and `retinanet`
            (shortest side, longest side at most), which keep the proportions.
        sizes: Further sizes, one of which is drawn for each step (or image) of training.
        anchors: (width, height) of anchor boxes, in pixels at `image_size`, the smallest first; (): as published.
        neck: Channels of the pyramid; None: as published.

    Raises:
        SpecError: where a value breaks its rule.
    """

    detector: str
    network: ModelSpec
    num_classes: int = 1
    image_size: tuple[int, int] = (320, 320)
    sizes: tuple[tuple[int, int], ...] = ()
    anchors: Shapes = ()
    neck: int | None = None

    def __post_init__(self) -> None:
        for name in ("sizes", "anchors"):
            pairs = tuple(tuple(pair) for pair in getattr(self, name))  # as JSON and YAML have them, lists
            object.__setattr__(self, name, pairs)
        object.__setattr__(self, "image_size", tuple(self.image_size))
        network = replace(self.network, num_classes=ModelSpec.num_classes, input_size=None)  # they do not count
        object.__setattr__(self, "network", network)
        near = did_you_mean(self.detector, DETECTORS)
        require(self.detector in DETECTORS, "detector", f"the name of a detector{near}", self.detector)
        require(self.num_classes >= 1, "num_classes", "positive", self.num_classes)
        require(self.network.in_channels == 3, "in_channels", "3 for a detector", self.network.in_channels)
        for size in (self.image_size, *self.sizes):
            whole = _are_positive(size) and all(isinstance(side, int) for side in size)
            require(whole, "image_size", "two positive whole numbers of pixels", size)
            keeps = self.detector not in KEEP_PROPORTIONS or size[0] <= size[1]
            require(keeps, "image_size", f"the shortest side, then the longest, for {self.detector}", size)
        for anchor in self.anchors:
            require(_are_positive(anchor), "anchors", "pairs of a positive width and height", anchor)
        for option, value in (("anchors", self.anchors), ("sizes", self.sizes), ("neck", self.neck)):
            takes = DETECTORS[self.detector].takes(option)
            require(takes or not value, option, f"left out: {self.detector} has none", value)
        require(self.neck is None or self.neck >= 8, "neck", "at least 8", self.neck)

    def __str__(self) -> str:
        return f"{self.detector}:{self.network}"

    @property
    def settings(self) -> dict[str, Any]:
        """The fields that the string cannot say, those of the backbone among them, where they are not the defaults."""
        own = {f.name: (getattr(self, f.name), f.default) for f in fields(self) if f.name not in OF_STRING}
        return {**self.network.settings, **{name: value for name, (value, default) in own.items() if value != default}}


KEEP_PROPORTIONS = ("faster_rcnn", "retinanet")
"""Detectors whose images keep their proportions when they are resized."""
OF_STRING = ("detector", "network")
OF_DETECTOR = tuple(f.name for f in fields(DetectionSpec) if f.name not in OF_STRING)


def parse_detector(text: str, **settings: Any) -> DetectionSpec:
    """The spec of a string such as "yolov3:resnet18-nlp-1222".

    Args:
        text: DETECTOR:ARCHITECTURE.
        settings: Any field of `DetectionSpec` or, for the backbone, of `ModelSpec`, that the string cannot say.

    Raises:
        SpecError: if the string or a setting is not valid.
    """
    detector, colon, architecture = text.partition(":")
    if not colon:
        raise SpecError(f"detector has to be written {GRAMMAR}, e.g. yolov3:resnet18-nlp-1222, but got {text!r}", text)
    own = {name: settings.pop(name) for name in OF_DETECTOR if name in settings}
    return DetectionSpec(detector, parse(architecture, **settings), **own)


def resized(spec: DetectionSpec, side: int) -> DetectionSpec:
    """The spec at another size: `side` pixels each way, or for detectors that keep proportions the shortest side."""
    keeps = spec.detector in KEEP_PROPORTIONS
    return replace(spec, image_size=(side, round(side * 5 / 3) if keeps else side))


def _are_positive(pair: Any) -> bool:
    return len(pair) == 2 and all(isinstance(value, int | float) and 0 < value < math.inf for value in pair)
