"""Faster R-CNN with a feature pyramid, by torchvision, on our backbones."""

from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from attnpool.detection._resize import keep_a_pixel_
from attnpool.detection.levels import Levels
from attnpool.detection.pyramid import Pyramid
from attnpool.models.features import StageFeatures
from attnpool.registry import DETECTORS

POOLED = 7
"""Side of what is cut out of a map for each proposal."""


@DETECTORS.register("faster_rcnn", paper="Ren et al., NeurIPS 2015, arXiv 1506.01497; Lin et al., CVPR 2017")
def faster_rcnn(
    features: StageFeatures,
    num_classes: int,
    image_size: tuple[int, int],
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    sizes: tuple[tuple[int, int], ...] = (),
    neck: int = 256,
) -> FasterRCNN:
    """Faster R-CNN: proposals from a feature pyramid, each then classified and moved.

    Four levels from 4 times smaller than the image, and a fifth of the coarsest one; anchors of 8 times the reduction
    of their level, as published, and three proportions.

    Args:
        features: The maps of the backbone.
        num_classes: Kinds of objects, without background.
        image_size: (shortest side, longest side at most) that images are resized to, in pixels.
        mean, std: Of the pixels, in units of 0..1, for each channel.
        sizes: Further such pairs; a training image is resized to one of them or `image_size`, by its shortest side.
        neck: Channels of the pyramid; the box head has four times as many.
    """
    levels = Levels(features, 4, finest=4)
    reductions = [*levels.reductions, 2 * levels.reductions[-1]]
    names = [str(i) for i in range(len(levels.reductions))]
    detector = FasterRCNN(
        Pyramid(levels, neck, LastLevelMaxPool()),
        num_classes=None,
        min_size=(*(size[0] for size in sizes), image_size[0]),
        max_size=max(size[1] for size in (*sizes, image_size)),
        image_mean=list(mean),
        image_std=list(std),
        rpn_anchor_generator=AnchorGenerator(tuple((8 * r,) for r in reductions), ((0.5, 1.0, 2.0),) * len(reductions)),
        box_roi_pool=MultiScaleRoIAlign(names, POOLED, sampling_ratio=2),
        box_head=TwoMLPHead(neck * POOLED**2, 4 * neck),
        box_predictor=FastRCNNPredictor(4 * neck, num_classes + 1),
        size_divisible=max(32, levels.reductions[-1]),
    )
    keep_a_pixel_(detector)
    return detector
