"""The maps of a backbone that a detector looks at: one for each resolution."""

from torch import Tensor, nn

from attnpool.models.features import StageFeatures

NARROWEST = 64


class Levels(nn.Module):
    """`count` maps of a backbone, each half the size of the one before, from `finest` times smaller than the image.

    Which resolutions a backbone has is up to the strides of its architecture string: of each the last map is taken. A
    resolution that it lacks is made of the next finer one: ReLU6(BN(conv_3x3, stride 2(ReLU6(BN(conv_1x1))))), half as
    many channels (Liu et al., ECCV 2016), but 64 at least. A backbone that shrinks the image more at once than `finest`
    starts with its own finest map.

    Args:
        features: The maps of all stages.
        count: Levels.
        finest: Factor by which the first level is smaller than the image, along a side.

    Attributes:
        channels: Channels of each level.
        reductions: Factor by which each level is smaller than the image, along a side.

    Shape:
        (B, C, H, W) to a list of `count` maps (B, channels[i], H / reductions[i], W / reductions[i]), up to rounding.

    Raises:
        ValueError: if `count` is below 1, or a reduction of the backbone is no power of two.
    """

    def __init__(self, features: StageFeatures, count: int, finest: int = 8) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"count has to be positive, but got {count}")
        if odd := [r for r in features.reductions if r & (r - 1)]:
            raise ValueError(f"strides have to shrink maps by powers of two for a detector, but one is {odd[0]} times")
        self.features = features
        last = {reduction: stage for stage, reduction in enumerate(features.reductions)}
        start = max(r for r in last if r <= max(finest, min(last)))
        self.stages: list[int | None] = []
        self.channels: list[int] = []
        self.reductions: list[int] = []
        self.between = nn.ModuleDict()  # by reduction
        reduction, skipped = start, 0 if start >= finest else (finest // start).bit_length() - 1
        while len(self.reductions) < count + skipped:
            stage = last.get(reduction)
            if stage is None:
                narrow = max(self.channels[-1] // 2, min(self.channels[-1], NARROWEST))
                self.between[str(reduction)] = _halved(self.channels[-1], narrow)
                self.channels.append(narrow)
            else:
                self.channels.append(features.channels[stage])
            self.stages.append(stage)
            self.reductions.append(reduction)
            reduction *= 2
        self.skipped = skipped
        self.channels, self.reductions = self.channels[skipped:], self.reductions[skipped:]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.features(x)
        made = iter(self.between.values())
        levels: list[Tensor] = []
        for stage in self.stages:
            levels.append(next(made)(levels[-1]) if stage is None else maps[stage])
        return levels[self.skipped :]


def _halved(channels: int, narrow: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, narrow, 1, bias=False),
        nn.BatchNorm2d(narrow),
        nn.ReLU6(inplace=True),
        nn.Conv2d(narrow, narrow, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(narrow),
        nn.ReLU6(inplace=True),
    )
