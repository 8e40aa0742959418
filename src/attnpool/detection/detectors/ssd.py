"""SSD and SSDlite, by torchvision, on our backbones."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.models.detection.ssdlite import SSDLiteHead

from attnpool.detection.levels import Levels
from attnpool.detection.pyramid import named
from attnpool.models.features import StageFeatures
from attnpool.registry import DETECTORS

LEVELS = 6
SSD_BOXES = {
    "aspect_ratios": [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
    "scales": [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],  # of Liu et al. for COCO
}
SSDLITE_BOXES = {"aspect_ratios": [[2, 3]] * LEVELS, "min_ratio": 0.2, "max_ratio": 0.95}
"""The published boxes: proportions on each level, and sizes in parts of the image."""
SSDLITE_PICKS = {"score_thresh": 0.001, "nms_thresh": 0.55, "detections_per_img": 300, "topk_candidates": 300}


class FittedBoxes(DefaultBoxGenerator):
    """Boxes of given shapes at every position of a map, in place of the published ones.

    Args:
        shapes: (width, height) of boxes, in parts of the image, the smallest first; each level gets as many.
    """

    def __init__(self, shapes: list[tuple[float, float]]) -> None:
        if not shapes or len(shapes) % LEVELS:
            raise ValueError(
                f"anchors has to be a multiple of {LEVELS}, the levels of SSD, but there are {len(shapes)}"
            )
        super().__init__([[]] * LEVELS)
        self._wh_pairs = list(torch.tensor(shapes).chunk(LEVELS))

    def num_anchors_per_location(self) -> list[int]:
        return [len(pairs) for pairs in self._wh_pairs]


class _Maps(nn.Module):
    """Levels under the names that SSD knows them by."""

    def __init__(self, levels: Levels) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return named(self.levels(x))


@DETECTORS.register("ssd", paper="Liu et al., ECCV 2016, arXiv 1512.02325")
def ssd(
    features: StageFeatures,
    num_classes: int,
    image_size: tuple[int, int],
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    anchors: tuple[tuple[float, float], ...] = (),
) -> SSD:
    """SSD: default boxes at every position of six maps, from 8 times smaller than the image.

    Args:
        features: The maps of the backbone.
        num_classes: Kinds of objects, without background.
        image_size: (height, width) that images are resized to, in pixels.
        mean, std: Of the pixels, in units of 0..1, for each channel.
        anchors: (width, height) of default boxes, in pixels at `image_size`, the smallest first, a multiple of 6;
            (): the published proportions and sizes.
    """
    levels = Levels(features, LEVELS, finest=8)
    boxes = _boxes(SSD_BOXES, anchors, image_size)
    head = SSDHead(levels.channels, boxes.num_anchors_per_location(), num_classes + 1)
    return _ssd(levels, boxes, head, image_size, num_classes, mean, std)


@DETECTORS.register("ssdlite", paper="Sandler et al., CVPR 2018, arXiv 1801.04381")
def ssdlite(
    features: StageFeatures,
    num_classes: int,
    image_size: tuple[int, int],
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    anchors: tuple[tuple[float, float], ...] = (),
) -> SSD:
    """SSDlite: SSD with separable convolutions in its heads, on six maps from 16 times smaller than the image.

    The maps that a backbone lacks are made as SSD's are, by whole convolutions: see `Levels`.

    Args:
        features: The maps of the backbone.
        num_classes: Kinds of objects, without background.
        image_size: (height, width) that images are resized to, in pixels.
        mean, std: Of the pixels, in units of 0..1, for each channel.
        anchors: (width, height) of default boxes, in pixels at `image_size`, the smallest first, a multiple of 6;
            (): the published proportions and sizes.
    """
    levels = Levels(features, LEVELS, finest=16)
    boxes = _boxes(SSDLITE_BOXES, anchors, image_size)
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    head = SSDLiteHead(levels.channels, boxes.num_anchors_per_location(), num_classes + 1, norm)
    return _ssd(levels, boxes, head, image_size, num_classes, mean, std, **SSDLITE_PICKS)


def _boxes(
    published: dict[str, Any], anchors: tuple[tuple[float, float], ...], image_size: tuple[int, int]
) -> DefaultBoxGenerator:
    height, width = image_size
    return FittedBoxes([(w / width, h / height) for w, h in anchors]) if anchors else DefaultBoxGenerator(**published)


def _ssd(
    levels: Levels,
    boxes: DefaultBoxGenerator,
    head: nn.Module,
    image_size: tuple[int, int],
    num_classes: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    **picks: float,
) -> SSD:
    height, width = image_size
    return SSD(
        _Maps(levels),
        boxes,
        (width, height),
        num_classes + 1,
        image_mean=list(mean),
        image_std=list(std),
        head=head,
        **picks,
    )
