"""Average pooling."""

from torch import nn

from attnpool.pools._size import Size, positive, window
from attnpool.registry import POOLS


@POOLS.register("avgp", paper="LeCun et al., Proceedings of the IEEE 1998")
def avg_pool2d(
    channels: int, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False
) -> nn.AvgPool2d:
    """Average pooling: y = the mean of each window, a channel at a time.

    `nn.AvgPool2d` itself, with the arguments of the other pools. Args and shape: see `WeightedPool2d`.
    """
    positive("channels", channels)
    return nn.AvgPool2d(*window(kernel_size, stride, padding), ceil_mode=ceil_mode)
