"""The weighted mean of each window and its derivatives, by rows of the windows: x * w is never made at full size."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attnpool.pools._axis import Axis
from attnpool.pools._half import widened


class WeightedMean(torch.autograd.Function):
    """avg(x * w) / avg(w), or avg(x * w) if not `normalize`; keeps x and w only, and can be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, rows: Axis, cols: Axis, normalize: bool) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.rest = rows, cols, normalize
        return mean_and_divisor(x, w, rows, cols, normalize)[0].to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        rows, cols, normalize = ctx.rest
        mean, divisor = mean_and_divisor(x, w, rows, cols, normalize)
        share = widened(grad) / divisor
        whole = rows.is_tiled and cols.is_tiled and not (rows.is_coarse or cols.is_coarse)
        derive = _derive_tiles if whole else _derive_overlapping
        return *derive(x, w, share, mean if normalize else None, rows, cols, ctx.needs_input_grad), None, None, None


def _derive_tiles(
    x: Tensor, w: Tensor, share: Tensor, mean: Tensor | None, rows: Axis, cols: Axis, needs: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x, w * share, and of w, (x - mean) * share, where every position has one window."""
    a, b = (widened(t).unflatten(2, (rows.windows, rows.kernel)) for t in (x, w))  # (B, C, H', k, W)
    g = _spread(share, cols).unsqueeze(3)  # (B, C, H', 1, W)
    dx = dw = None
    if needs[0]:
        dx = (b * g).flatten(2, 3).to(x.dtype)
    if needs[1]:
        dw = a * g if mean is None else (a - _spread(mean, cols).unsqueeze(3)).mul_(g)
        dw = dw.flatten(2, 3).to(w.dtype)
    return dx, dw


def _derive_overlapping(
    x: Tensor, w: Tensor, share: Tensor, mean: Tensor | None, rows: Axis, cols: Axis, needs: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """The same, summed over the windows of a position and the positions of a weight."""
    g = _spread(share, cols)  # (B, C, H', W)
    m = None if mean is None else _spread(share * mean, cols)
    dx, dw = (torch.zeros_like(t, dtype=g.dtype) if need else None for t, need in zip((x, w), needs, strict=False))
    for out, inside in rows.places:
        if dx is not None:
            dx[:, :, inside].addcmul_(_weights(w, inside, rows, cols), g[:, :, out])
        if dw is not None:
            part = widened(x[:, :, inside]) * g[:, :, out]
            _add_weights_(dw, part if m is None else part - m[:, :, out], inside, rows, cols)
    return None if dx is None else dx.to(x.dtype), None if dw is None else dw.to(w.dtype)


def mean_and_divisor(x: Tensor, w: Tensor, rows: Axis, cols: Axis, normalize: bool) -> tuple[Tensor, Tensor]:
    """The mean, and what the sums of the windows were divided by: both (B, C, H', W')."""
    ax = aw = None  # (B, C, H', W)
    for out, inside in rows.places:
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
    for out, inside in cols.places:
        part = _padded(x[..., inside], (out.start, cols.windows - out.stop))
        total = part if total is None else total + part
    assert total is not None
    return total


def _spread(y: Tensor, cols: Axis) -> Tensor:
    """The transposed of `_columns`: (B, C, H', W') to (B, C, H', W)."""
    if cols.is_tiled:
        return F.interpolate(y, scale_factor=(1, cols.kernel))
    total = F.pad(y, (0, cols.length - cols.windows)).zero_()  # zeros in the layout of y
    for out, inside in cols.places:
        total[..., inside].add_(y[..., out])
    return total


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
