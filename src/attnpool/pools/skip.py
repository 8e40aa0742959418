"""Strided convolution: the downsampling that the pools replace."""

from torch import Tensor, nn

from attnpool.pools._size import Size, check_input, fill_for_ceil, positive, window
from attnpool.registry import POOLS


@POOLS.register("skip", paper="Springenberg et al., ICLR 2015 workshop, arXiv 1412.6806")
class StridedConv2d(nn.Module):
    """Strided convolution: y = conv_k(x) at stride s, channels kept, no bias.

    Springenberg et al., 2015, https://arxiv.org/abs/1412.6806. In an architecture string `skip` means that the
    backbone's own convolutions stride; this layer is their stand-in where a pool has to be replaced or compared.

    Args and shape: see `WeightedPool2d`; incomplete windows (`ceil_mode`) are filled up with zeros.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.geometry = window(kernel_size, stride, padding)
        self.conv = nn.Conv2d(channels, channels, *self.geometry, bias=False)
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.channels)
        if self.ceil_mode:
            x = fill_for_ceil(x, *self.geometry)
        return self.conv(x)
