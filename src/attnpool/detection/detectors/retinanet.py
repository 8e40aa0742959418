"""RetinaNet, by torchvision, on our backbones."""

from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from attnpool.detection._resize import keep_a_pixel_
from attnpool.detection.levels import Levels
from attnpool.detection.pyramid import Pyramid
from attnpool.models.features import StageFeatures
from attnpool.registry import DETECTORS

OCTAVE = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))


@DETECTORS.register("retinanet", paper="Lin et al., ICCV 2017, arXiv 1708.02002")
def retinanet(
    features: StageFeatures,
    num_classes: int,
    image_size: tuple[int, int],
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    sizes: tuple[tuple[int, int], ...] = (),
    neck: int = 256,
) -> RetinaNet:
    """RetinaNet: every position of a feature pyramid is classified, with a focal loss.

    Three levels from 8 times smaller than the image, and two coarser ones made of the last; anchors of 4 times the
    reduction of their level, three sizes an octave and three proportions, as published.

    Args:
        features: The maps of the backbone.
        num_classes: Kinds of objects, without background.
        image_size: (shortest side, longest side at most) that images are resized to, in pixels.
        mean, std: Of the pixels, in units of 0..1, for each channel.
        sizes: Further such pairs; a training image is resized to one of them or `image_size`, by its shortest side.
        neck: Channels of the pyramid and the heads.
    """
    levels = Levels(features, 3)
    reductions = [levels.reductions[0] * 2**i for i in range(5)]
    anchors = tuple(tuple(int(4 * r * part) for part in OCTAVE) for r in reductions)
    detector = RetinaNet(
        Pyramid(levels, neck, LastLevelP6P7(neck, neck)),
        num_classes + 1,  # the first is never used: labels count from 1
        min_size=(*(size[0] for size in sizes), image_size[0]),
        max_size=max(size[1] for size in (*sizes, image_size)),
        image_mean=list(mean),
        image_std=list(std),
        anchor_generator=AnchorGenerator(anchors, ((0.5, 1.0, 2.0),) * len(anchors)),
    )
    keep_a_pixel_(detector)
    return detector
