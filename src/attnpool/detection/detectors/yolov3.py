"""YOLOv3 on the three coarsest resolutions of a backbone."""

from attnpool.detection.levels import Levels
from attnpool.detection.yolov3 import LEVELS, YOLOv3
from attnpool.models.features import StageFeatures
from attnpool.registry import DETECTORS


@DETECTORS.register("yolov3", paper="Redmon and Farhadi, 2018, arXiv 1804.02767")
def yolov3(
    features: StageFeatures,
    num_classes: int,
    image_size: tuple[int, int],
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    anchors: tuple[tuple[float, float], ...] = (),
    sizes: tuple[tuple[int, int], ...] = (),
) -> YOLOv3:
    """YOLOv3: boxes of all cells of three levels in one pass, each an anchor that is moved and stretched.

    Args:
        features: The backbone.
        num_classes: Classes of objects; the background is none of them.
        image_size: (height, width) that images are resized to, in pixels.
        mean, std: Of the pixels in units of 0..1, one number a channel.
        anchors: Nine (width, height) in pixels of `image_size`, sorted by area; default: the paper's for COCO.
        sizes: Training on several scales: further (height, width), one of which or `image_size` each step draws.

    Raises:
        ValueError: As `YOLOv3`.
    """
    levels = Levels(features, LEVELS)
    several = (*sizes, image_size) if sizes else ()
    return YOLOv3(levels, num_classes + 1, image_size, anchors=anchors, image_mean=mean, image_std=std, sizes=several)
