"""The weighted mean of each window and its derivatives, by rows of the windows: x * w is never made at full size."""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from attnpool.pools._half import widened


class Axis(NamedTuple):
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

    def source(self, like: Tensor) -> Tensor:
        """The weight of each position: the nearest on the grid, as `F.interpolate` rounds."""
        places = torch.arange(self.length, device=like.device, dtype=torch.float32) * (self.weights / self.length)
        return places.long().clamp(max=self.weights - 1)

    def divisor(self, like: Tensor) -> Tensor:
        """The positions that each window counts, padding included as in `nn.AvgPool2d`."""
        start = torch.arange(self.windows, device=like.device, dtype=like.dtype) * self.stride
        return (self.length + 2 * self.padding - start).clamp(max=self.kernel)


class WeightedMean(torch.autograd.Function):
    """avg(x * w) / avg(w), or avg(x * w) if not `normalize`; keeps x and w only, and can be differentiated twice."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, w: Tensor, rows: Axis, cols: Axis, normalize: bool) -> Tensor:
        return mean_and_divisor(x, w, rows, cols, normalize)[0].to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, w, *ctx.rest = inputs
        ctx.save_for_backward(x, w)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        rows, cols, normalize = ctx.rest
        mean, divisor = mean_and_divisor(x, w, rows, cols, normalize)
        share = widened(grad) / divisor
        g = _spread(share, cols)  # (B, C, H', W)
        if rows.is_tiled and cols.is_tiled and not (rows.is_coarse or cols.is_coarse):
            a, b = (widened(t).unflatten(2, (rows.windows, rows.kernel)) for t in (x, w))  # (B, C, H', k, W)
            g = g.unsqueeze(3)
            dw = (a - _spread(mean, cols).unsqueeze(3)).mul_(g) if normalize else a * g
            dx, dw = (b * g).flatten(2, 3), dw.flatten(2, 3)
        else:
            m = _spread(share * mean, cols) if normalize else torch.zeros_like(g)
            dx, dw = (torch.zeros_like(t, dtype=g.dtype) for t in (x, w))
            for out, inside in _places(rows):
                dx[:, :, inside].addcmul_(_weights(w, inside, rows, cols), g[:, :, out])
                part = widened(x[:, :, inside]) * g[:, :, out] - m[:, :, out]
                _add_weights_(dw, part, inside, rows, cols)
        return dx.to(x.dtype), dw.to(w.dtype), None, None, None


def mean_and_divisor(x: Tensor, w: Tensor, rows: Axis, cols: Axis, normalize: bool) -> tuple[Tensor, Tensor]:
    """The mean, and what the sums of the windows were divided by: both (B, C, H', W')."""
    ax = aw = None  # (B, C, H', W)
    for out, inside in _places(rows):
        missing = (0, 0, out.start, rows.windows - out.stop)
        a, b = _padded(widened(x[:, :, inside]), missing), _padded(_weights(w, inside, rows, cols), missing)
        ax = a * b if ax is None else ax.addcmul_(a, b)
        aw = b if aw is None or not normalize else aw + b
    assert ax is not None
    assert aw is not None
    divisor = _columns(aw, cols) if normalize else rows.divisor(ax).unsqueeze(1) * cols.divisor(ax)
    return _columns(ax, cols) / divisor, divisor


def _columns(x: Tensor, cols: Axis) -> Tensor:
    """Sums over the columns of each window: (B, C, H', W) to (B, C, H', W')."""
    total = None
    for out, inside in _places(cols):
        part = _padded(x[..., inside], (out.start, cols.windows - out.stop))
        total = part if total is None else total + part
    assert total is not None
    return total


def _spread(y: Tensor, cols: Axis) -> Tensor:
    """The transposed of `_columns`: (B, C, H', W') to (B, C, H', W)."""
    if cols.is_tiled:
        return F.interpolate(y, scale_factor=(1, cols.kernel))
    total = F.pad(y, (0, cols.length - cols.windows)).zero_()
    for out, inside in _places(cols):
        total[..., inside].add_(y[..., out])
    return total


@lru_cache(maxsize=1024)
def _places(axis: Axis) -> list[tuple[slice, slice]]:
    """For each place in a window: the windows that have it inside the map, and where they have it."""
    found = []
    for place in range(axis.kernel):
        shift = place - axis.padding
        first = max(0, -(shift // axis.stride))
        stop = min(axis.windows, (axis.length - 1 - shift) // axis.stride + 1)
        if first < stop:
            inside = slice(first * axis.stride + shift, (stop - 1) * axis.stride + shift + 1, axis.stride)
            found.append((slice(first, stop), inside))
    return found


def _padded(x: Tensor, sides: tuple[int, ...]) -> Tensor:
    return F.pad(x, sides) if any(sides) else x


def _weights(w: Tensor, inside: slice, rows: Axis, cols: Axis) -> Tensor:
    """The weights of some rows of the map, (B, C, rows, W)."""
    w = w.index_select(2, rows.source(w)[inside]) if rows.is_coarse else w[:, :, inside]
    return widened(w.index_select(3, cols.source(w)) if cols.is_coarse else w)


def _add_weights_(dw: Tensor, part: Tensor, inside: slice, rows: Axis, cols: Axis) -> None:
    """The transposed of `_weights`, added to `dw`."""
    if cols.is_coarse:
        part = part.new_zeros((*part.shape[:3], cols.weights)).index_add_(3, cols.source(part), part)
    if rows.is_coarse:
        dw.index_add_(2, rows.source(part)[inside], part)
    else:
        dw[:, :, inside].add_(part)
