"""SoftPool: each window's mean, every value weighted by its exponential."""

from functools import reduce
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnpool.pools._half import widened
from attnpool.pools._size import Size, check_input, fill_for_ceil, positive, window, window_counts
from attnpool.registry import POOLS


@POOLS.register("softpool", paper="Stergiou et al., ICCV 2021, arXiv 2101.00440")
class SoftPool2d(nn.Module):
    """SoftPool: y = sum over each window of softmax(x) * x.

    Stergiou, Poppe, Kalliatakis, ICCV 2021, https://arxiv.org/abs/2101.00440. The exponentials never overflow: the
    softmax is taken window by window, relative to the largest value there. Half precision is computed in float32.

    Args:
        channels: Channels C of the input.
        kernel_size: Window height and width, in pixels.
        stride: Step of the window, in pixels; default: `kernel_size`.
        padding: Border of weight 0 on each side, in pixels.
        ceil_mode: Whether a last, incomplete window counts.

    Shape:
        (B, C, H, W) to (B, C, H', W'), or unbatched, sizes as `nn.AvgPool2d`.
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
        self.kernel_size, self.stride, self.padding = window(kernel_size, stride, padding)
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.channels)
        wide = widened(x)
        values = self._positions(wide, 0.0)
        has_border = self.ceil_mode or any(self.padding)
        logits = self._positions(wide, float("-inf")) if has_border else values
        peak = reduce(torch.maximum, logits).detach()  # (B, C, H', W'); it cancels
        shares = [(logit - peak).exp() for logit in logits]
        weighted = [share * value for share, value in zip(shares, values, strict=True)]
        return (reduce(torch.add, weighted) / reduce(torch.add, shares)).to(x.dtype)

    def _positions(self, x: Tensor, border: float) -> list[Tensor]:
        """The value at each position of the window, for all windows: k * k maps (B, C, H', W')."""
        counts = window_counts(x.shape[-2:], self.kernel_size, self.stride, self.padding, self.ceil_mode)
        if self.ceil_mode:
            x = fill_for_ceil(x, self.kernel_size, self.stride, self.padding, border)
        height, width = self.padding
        x = F.pad(x, (width, width, height, height), value=border) if height or width else x
        steps = [
            [slice(first, first + (count - 1) * stride + 1, stride) for first in range(kernel)]
            for kernel, stride, count in zip(self.kernel_size, self.stride, counts, strict=True)
        ]
        return [x[..., rows, columns] for rows, columns in product(*steps)]

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
