"""From a detector string to a detector."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from attnpool.detection.raw import RawHeads
from attnpool.detection.spec import DetectionSpec, parse_detector, resized
from attnpool.models.build import build as build_network
from attnpool.models.features import StageFeatures
from attnpool.pools._eval_mode import eval_mode
from attnpool.registry import DETECTORS
from attnpool.spec import ModelSpec

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels, in units of 0..1: the detectors normalise images themselves."""


def build(
    detector: str,
    architecture: str | ModelSpec,
    *,
    num_classes: int,
    image_size: int | tuple[int, int] = 320,
    pretrained: bool | str = False,
    **settings: Any,
) -> nn.Module:
    """A detector on one of our backbones, with torchvision's conventions; its `spec` attribute says what it is.

    `detector.raw()` is a network of its layers alone: see `RawHeads`.

    Training: `detector(images, targets)` gives a dict of losses. Eval: `detector(images)` gives for each image a dict
    of `boxes` (N, 4), x1, y1, x2, y2 in its pixels, `labels` (N,) and `scores` (N,), the surest first.

    Args:
        detector: faster_rcnn, retinanet, ssd, ssdlite or yolov3.
        architecture: Of the backbone, e.g. "resnet18-nlp-1222".
        num_classes: Kinds of objects; background is not counted. Labels are 1 to `num_classes`.
        image_size: (height, width) that images are resized to, in pixels; for `faster_rcnn` and `retinanet` (shortest
            side, longest side at most). One number: both sides, or the shortest one with 5/3 of it as the longest.
        pretrained: Load timm's weights for the backbone, as in `attnpool.create_model`.
        settings: Any other field of `DetectionSpec` (sizes, anchors, neck) or of `ModelSpec` (width, placement, ...).

    Shape:
        images: a list of (3, H, W), each of any size, in 0..1. targets: a list of dicts, `boxes` (N, 4) and `labels`
        (N,), integers from 1.

    Raises:
        SpecError: if the string or a setting is not valid, or the pretrained weights cannot be had.
        ValueError: if the backbone does not suit the detector.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if isinstance(architecture, ModelSpec):
        settings = {**architecture.settings, **settings}
    spec = parse_detector(f"{detector}:{architecture}", **{**settings, "num_classes": num_classes}, image_size=size)
    return build_detector(resized(spec, image_size) if isinstance(image_size, int) else spec, pretrained=pretrained)


def build_detector(spec: DetectionSpec, *, pretrained: bool | str = False) -> nn.Module:
    """The detector of a spec; see `build`."""
    features = StageFeatures(build_network(replace(spec.network, num_classes=1), pretrained=pretrained))
    _trim_(features)
    entry = DETECTORS[spec.detector]
    options = {name: value for name in ("anchors", "sizes", "neck") if (value := getattr(spec, name))}
    model: nn.Module = entry(features, spec.num_classes, spec.image_size, mean=MEAN, std=STD, **options)
    model.register_forward_pre_hook(partial(_check_labels, spec.num_classes))
    model.spec = spec  # type: ignore[assignment]
    model.raw = partial(RawHeads, model)  # type: ignore[assignment]
    return model


def _check_labels(num_classes: int, _detector: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Refuse labels that are none: 0 is the background, and torchvision's detectors would learn it without a word."""
    for target in (inputs[1] or ()) if len(inputs) > 1 else ():
        wrong = [label for label in target["labels"].tolist() if not 1 <= label <= num_classes]
        if wrong:
            raise ValueError(f"labels have to be from 1 to {num_classes}, but one is {wrong[0]}")


def _trim_(features: StageFeatures) -> None:
    """Leave out the layers after the last stage, whose outputs no detector reads."""
    with torch.enable_grad(), eval_mode(features):
        sum(level.sum() for level in features(torch.zeros(1, 3, 64, 64))).backward()
    unread = [p for p, m in features.named_modules() if p and _has_none(m)]
    features.zero_grad()
    for path in unread:
        if not path.startswith(tuple(f"{other}." for other in unread)):
            features.set_submodule(path, nn.Identity())


def _has_none(module: nn.Module) -> bool:
    """Whether it has parameters, and none of them got a gradient."""
    parameters = list(module.parameters())
    return bool(parameters) and all(p.grad is None for p in parameters)
