"""Where the windows lie along one side of a map, and the weight that each position has."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """`windows` along a side of `length` positions, whose weights are a grid of `weights`."""

    length: int
    weights: int
    kernel: int
    stride: int
    padding: int
    windows: int

    @property
    def is_tiled(self) -> bool:
        """Whether the windows lie side by side and cover everything."""
        return self.kernel == self.stride and self.windows * self.kernel == self.length and self.padding == 0

    @property
    def is_coarse(self) -> bool:
        return self.weights != self.length

    @cached_property
    def places(self) -> list[tuple[slice, slice]]:
        """For each place in a window: the windows that have it inside the map, and where they have it."""
        found = []
        for place in range(self.kernel):
            shift = place - self.padding
            first = max(0, -(shift // self.stride))
            stop = min(self.windows, (self.length - 1 - shift) // self.stride + 1)
            if first < stop:
                inside = slice(first * self.stride + shift, (stop - 1) * self.stride + shift + 1, self.stride)
                found.append((slice(first, stop), inside))
        return found

    def source(self, like: Tensor) -> Tensor:
        """The weight of each position: the nearest on the grid, as `F.interpolate` rounds."""
        places = torch.arange(self.length, device=like.device, dtype=torch.float32) * (self.weights / self.length)
        return places.long().clamp(max=self.weights - 1)

    def divisor(self, like: Tensor) -> Tensor:
        """The positions that each window counts, padding included as in `nn.AvgPool2d`."""
        start = torch.arange(self.windows, device=like.device, dtype=like.dtype) * self.stride
        return (self.length + 2 * self.padding - start).clamp(max=self.kernel)
