"""The resize of torchvision's detectors that keep proportions, of images of any proportions."""

import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes


class KeepAPixel(GeneralizedRCNNTransform):
    """Torchvision's resize, but that no side of an image becomes 0: a thinner image is first made that thick.

    Torchvision rounds the sides down, and fails on an image that is more than `max_size` times as long as thick. What
    becomes of images of other proportions is the same, to the bit.
    """

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Resize an image (C, H, W) and the boxes of its target."""
        height, width = image.shape[-2:]
        thin, long = min(height, width), max(height, width)
        if int(thin * (self.max_size / long)) < 1:
            thick = long // int(self.max_size) + 1  # the least that becomes a pixel, whatever the rounding
            size = (max(height, thick), max(width, thick))
            image = F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]
            if target is not None:
                target["boxes"] = resize_boxes(target["boxes"], [height, width], [*size])
        resized: tuple[Tensor, dict[str, Tensor] | None] = super().resize(image, target)
        return resized


def keep_a_pixel_(detector: FasterRCNN | RetinaNet) -> None:
    """Give the detector a `KeepAPixel` of its own settings."""
    own = detector.transform
    detector.transform = KeepAPixel(own.min_size, own.max_size, own.image_mean, own.image_std, own.size_divisible)
