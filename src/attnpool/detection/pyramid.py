"""The feature pyramid of torchvision's two detectors that keep an image's proportions."""

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from attnpool.detection.levels import Levels


class Pyramid(nn.Module):
    """Feature pyramid (Lin et al., CVPR 2017, https://arxiv.org/abs/1612.03144) over the levels of a backbone.

    Args:
        levels: The maps of the backbone.
        channels: Of every level of the pyramid.
        extra: Makes further, coarser levels.

    Shape:
        (B, C, H, W) to a dict of maps (B, channels, h, w), the finest first, as torchvision's detectors want it.
    """

    def __init__(self, levels: Levels, channels: int, extra: ExtraFPNBlock) -> None:
        super().__init__()
        self.levels, self.out_channels = levels, channels
        self.pyramid = FeaturePyramidNetwork(levels.channels, channels, extra)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self.pyramid(named(self.levels(x)))
        return maps


def named(maps: list[Tensor]) -> OrderedDict[str, Tensor]:
    """Maps under the names that torchvision's detectors know them by: "0", "1", ..."""
    return OrderedDict((str(i), level) for i, level in enumerate(maps))
