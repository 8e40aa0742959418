"""Max pooling."""

from torch import nn

from attnpool.pools._size import Size, positive, window
from attnpool.registry import POOLS


@POOLS.register("maxp", paper="Riesenhuber and Poggio, Nature Neuroscience 1999")
def max_pool2d(
    channels: int, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False
) -> nn.MaxPool2d:
    """Max pooling: y = the largest value of each window, a channel at a time.

    `nn.MaxPool2d` itself, with the arguments of the other pools. Args and shape: see `WeightedPool2d`.
    """
    positive("channels", channels)
    return nn.MaxPool2d(*window(kernel_size, stride, padding), ceil_mode=ceil_mode)
