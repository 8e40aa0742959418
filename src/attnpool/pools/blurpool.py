"""Anti-aliased pooling: a blur before the map is sampled."""

from math import comb
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnpool.pools._size import Size, check_input, fill_for_ceil, positive, window, window_counts
from attnpool.registry import POOLS


@POOLS.register(
    "blurpool",
    paper="Zhang, ICML 2019, arXiv 1904.11486",
    variants={"maxblurpool": {"dense": "max"}, "convblurpool": {"dense": "conv"}},
)
class BlurPool2d(nn.Module):
    """Anti-aliased pooling: y = the binomial blur of dense(x), sampled at the stride.

    Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019, https://arxiv.org/abs/1904.11486.
    The blur stands in the middle of each window and reflects the map at its border (repeats it where it is too small).

    Args:
        channels: Channels C of the input.
        kernel_size: Window height and width, in pixels: of the dense step; without one only the sizes follow it.
        stride: Step of the sampling, in pixels; default: `kernel_size`.
        padding: Border on each side, in pixels.
        ceil_mode: Whether a last, incomplete window counts.
        filter_size: Taps of the binomial filter a side, 2 to 5: (1, 1), (1, 2, 1), (1, 3, 3, 1), (1, 4, 6, 4, 1).
        dense: What runs at stride 1 before the blur: nothing, "max" (`maxblurpool`: max pooling), or "conv"
            (`convblurpool`: ReLU(BN(conv_k))).

    Shape:
        (B, C, H, W) to (B, C, H', W'), or unbatched, sizes as `nn.AvgPool2d`.
    """

    taps: Tensor

    def __init__(
        self,
        channels: int,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        *,
        filter_size: int = 4,
        dense: Literal["max", "conv"] | None = None,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        if filter_size not in (2, 3, 4, 5):
            raise ValueError(f"filter_size has to be 2, 3, 4 or 5, but got {filter_size!r}")
        if dense not in ("max", "conv", None):
            raise ValueError(f"dense has to be 'max', 'conv' or None, but got {dense!r}")
        self.kernel_size, self.stride, self.padding = window(kernel_size, stride, padding)
        self.ceil_mode, self.filter_size = ceil_mode, filter_size
        taps = torch.tensor([comb(filter_size - 1, i) for i in range(filter_size)]) / 2 ** (filter_size - 1)
        self.register_buffer("taps", torch.outer(taps, taps).repeat(channels, 1, 1, 1), persistent=False)
        self.dense: nn.Module | None = None
        if dense == "max":
            self.dense = nn.MaxPool2d(self.kernel_size, 1, self.padding)
        elif dense == "conv":
            conv = nn.Conv2d(channels, channels, self.kernel_size, 1, self.padding, bias=False)
            self.dense = nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.channels)
        if x.ndim == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        counts = window_counts(x.shape[-2:], self.kernel_size, self.stride, self.padding, self.ceil_mode)
        if self.dense is not None:
            x = self.dense(self._filled(x))  # of every window, at stride 1
        border: list[int] = []
        for axis in (0, 1):
            # the middle of the first window; what was dense has it at pixel 0
            middle = 0 if self.dense else (self.kernel_size[axis] - 1) // 2 - self.padding[axis]
            start = middle - (self.filter_size - 1) // 2
            stop, length = start + (counts[axis] - 1) * self.stride[axis] + self.filter_size, x.shape[axis + 2]
            x = x.narrow(axis + 2, max(0, start), min(length, stop) - max(0, start))
            border = [max(0, -start), max(0, stop - length), *border]  # F.pad begins with the last side
        fits = max(border[2:]) < x.shape[2] and max(border[:2]) < x.shape[3]
        x = F.pad(x, border, mode="reflect" if fits else "replicate")
        return F.conv2d(x, self.taps, stride=self.stride, groups=self.channels)  # (B, C, H', W')

    def _filled(self, x: Tensor) -> Tensor:
        """The map with what an incomplete window lacks, where it counts."""
        if not self.ceil_mode:
            return x
        value = float("-inf") if isinstance(self.dense, nn.MaxPool2d) else 0.0
        return fill_for_ceil(x, self.kernel_size, self.stride, self.padding, value)

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size={self.kernel_size}, stride={self.stride}, filter_size={self.filter_size}"
