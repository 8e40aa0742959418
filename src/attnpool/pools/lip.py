"""Local importance pooling in the simplified form of the published comparison."""

from torch import Tensor, nn

from attnpool.pools._size import Size
from attnpool.pools._weighted import WeightedPool2d
from attnpool.registry import POOLS


@POOLS.register("lip", paper="Gao et al., ICCV 2019, arXiv 1908.04156, as simplified by Chen et al., WACV 2023")
class LocalImportancePool2d(WeightedPool2d):
    """Local importance pooling, simplified: y = avg(x * w) / avg(w), w = exp(sigmoid(BN(conv_1x1(x)))).

    Gao, Wang, Wu, ICCV 2019, https://arxiv.org/abs/1908.04156. This is the form that Chen et al. compare with
    (WACV 2023): a 1x1 logit and a plain sigmoid instead of the original bottleneck and its gain of 12.

    Args and shape: see `WeightedPool2d`.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(channels, kernel_size, stride, padding, ceil_mode)
        self.logit = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def weight(self, x: Tensor) -> Tensor:
        """The weights of every position: (B, C, H, W) -> (B, C, H, W)."""
        return self.logit(x).sigmoid().exp()
