"""The maps of a backbone that a detector looks at: one for each resolution."""

from torch import Tensor, nn

from attnpool.models.features import StageFeatures


class Levels(nn.Module):
    """The last map of each resolution of a backbone, the finest first: its `count` coarsest resolutions.

    Which resolutions there are is up to the strides of the architecture string. Where a backbone has fewer than
    `count`, convolutions of stride 2 go on from its last map: ReLU6(BN(conv_3x3)), of as many channels.

    Args:
        features: The maps of all stages.
        count: Levels.

    Attributes:
        channels: Channels of each level.
        reductions: Factor by which each level is smaller than the image, along a side.

    Shape:
        (B, C, H, W) to a list of `count` maps (B, channels[i], H / reductions[i], W / reductions[i]), up to rounding.
    """

    def __init__(self, features: StageFeatures, count: int) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"count has to be positive, but got {count}")
        self.features = features
        last = {reduction: stage for stage, reduction in enumerate(features.reductions)}
        self.stages = list(last.values())[-count:]
        self.channels = [features.channels[stage] for stage in self.stages]
        self.reductions = [features.reductions[stage] for stage in self.stages]
        self.further = nn.ModuleList()
        while len(self.channels) < count:
            self.further.append(halved(self.channels[-1]))
            self.channels.append(self.channels[-1])
            self.reductions.append(2 * self.reductions[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.features(x)
        levels = [maps[stage] for stage in self.stages]
        for layer in self.further:
            levels.append(layer(levels[-1]))
        return levels


def halved(channels: int) -> nn.Sequential:
    """ReLU6(BN(conv_3x3)) of stride 2."""
    conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU6(inplace=True))
