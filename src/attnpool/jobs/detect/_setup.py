"""What the arguments of `detect train` come to: checked, and put together for the data, before anything is written."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from attnpool.data.loaders import ALL, Share
from attnpool.detection.anchors import Shapes
from attnpool.detection.data.batches import BoxLoaders, make_box_loaders
from attnpool.detection.data.source import BoxSource
from attnpool.detection.data.transforms import BoxAugmentation
from attnpool.detection.spec import DetectionSpec, parse_detector, resized
from attnpool.jobs._learner import Recipe
from attnpool.jobs._setup import check_numbers, make_recipe
from attnpool.jobs.detect._data import COUNTS, Splits, fitted, read_anchors

OF_BACKBONE = ("width", "placement", "attention", "query_blocks")
OF_AUGMENTATION = ("hflip", "crop", "zoom_out", "jitter")


@dataclass(frozen=True)
class Setup:
    """A training that is ready to start.

    Args:
        spec: Of the detector.
        recipe: How it learns.
        loaders: Of the data.
    """

    spec: DetectionSpec
    recipe: Recipe
    loaders: BoxLoaders


def check_settings(settings: Mapping[str, Any]) -> DetectionSpec:
    """Refuse what breaks its rule whatever the data; returns what is known of the detector without them.

    Raises:
        ValueError: naming the argument; `SpecError` for the architecture.
    """
    size = settings["image_size"]
    if len(size) not in (1, 2):
        raise ValueError(f"image_size has to be one number or two, but got {size}")
    of_backbone = {name: settings[name] for name in OF_BACKBONE}
    spec = parse_detector(settings["architecture"], neck=settings["neck"], **of_backbone)
    spec = resized(spec, size[0]) if len(size) == 1 else replace(spec, image_size=tuple(size))
    if any(side < 1 for side in settings["sizes"]):
        raise ValueError(f"sizes has to be positive numbers of pixels, but got {settings['sizes']}")
    height, width = spec.image_size
    part = [side / min(height, width) for side in settings["sizes"]]
    check_numbers(settings)
    _augmentation(settings)
    return replace(spec, sizes=tuple((round(height * p), round(width * p)) for p in part))


def set_up(
    spec: DetectionSpec,
    settings: Mapping[str, Any],
    splits: Splits,
    share: Share = ALL,
) -> Setup:
    """Everything but the detector itself.

    Args:
        spec: What the arguments say: see `check_settings`.
        settings: The arguments of `detect train`.
        splits: To train on, to validate on and to test on.
        share: What part of the images this process takes.

    Raises:
        ValueError: for an argument that breaks its rule, or does not suit the data.
    """
    source = splits[0]
    spec = replace(spec, num_classes=len(source.classes), anchors=_anchors(settings["anchors"], spec, source))
    loaders = make_box_loaders(
        *splits,
        augment=_augmentation(settings) if settings["augment"] else None,
        share=share,
        **{name: settings[name] for name in ("batch_size", "val_fraction", "seed", "workers")},
    )
    return Setup(spec, make_recipe(settings), loaders)


def _augmentation(settings: Mapping[str, Any]) -> BoxAugmentation:
    scale = settings["scale"]
    if len(scale) != 2:
        raise ValueError(f"scale has to be two numbers, but got {scale}")
    return BoxAugmentation(**{name: settings[name] for name in OF_AUGMENTATION}, scale=(scale[0], scale[1]))


def _anchors(anchors: str, spec: DetectionSpec, source: BoxSource) -> Shapes:
    """What the argument says: (width, height) of each, none for the published ones."""
    if anchors == "published":
        return ()
    if spec.detector not in COUNTS:
        raise ValueError(f"anchors has to be published for {spec.detector}, but got {anchors!r}")
    if anchors == "fit":
        return fitted(source, spec.image_size, COUNTS[spec.detector]).shapes
    return read_anchors(anchors, spec.image_size)
