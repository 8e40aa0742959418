"""What the pools of a network weigh: their weights at the resolution of their input."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnpool.pools._half import widened
from attnpool.pools._weighted import WeightedPool2d, weighted_pool2d
from attnpool.pools.softpool import SoftPool2d
from attnpool.visualise._pools import Pool, find_pools
from attnpool.visualise._watch import Images

LEAST = -80.0
"""Logarithm below which a weight of SoftPool is taken for this, so that no window has weights of zero alone."""


@dataclass(frozen=True)
class WeightMap:
    """The weights of one pool.

    Args:
        weight: w, (B, C, H, W), at the resolution of the pool's input; positive. Within a window only their
            proportions count, where the pool divides by their sum.
        share: How much each position counts in the output, in units of what it would count in average pooling,
            (B, C, H, W): over windows that do not overlap, w / mean of w in the window. 0 outside all windows.
    """

    weight: Tensor
    share: Tensor


def weight_maps(model: nn.Module, x: Images) -> dict[str, WeightMap]:
    """w of every pool with weights: path of the pool to its `WeightMap`, in the order of the network.

    These are the weights that pool the map in eval mode: y = avg(x * w) / avg(w), without the division for `nowin`. Of
    SoftPool, whose weights are exp(x), they are relative to the largest of a channel. Pools that weigh nothing (max,
    average, blur, Gaussian, strided convolution, ...) are left out. The network stays as it is.

    Args:
        model: Any network with pools of this library, or a detector on one.
        x: What it takes: (B, C, H, W), normalised; for a detector a list of images (3, H, W) in 0..1.

    Raises:
        ValueError: if a map does not suit a pool.
    """
    pools = {path: pool for path, pool in find_pools(model, x).items() if has_weights(pool.module)}
    return {path: _weigh(pool) for path, pool in pools.items()}


def has_weights(module: nn.Module) -> bool:
    """Whether a pool has weights of positions to show."""
    return isinstance(module, WeightedPool2d | SoftPool2d)


def _weigh(pool: Pool) -> WeightMap:
    x = widened(pool.given)
    if isinstance(pool.module, SoftPool2d):
        w = (x - x.amax((2, 3), keepdim=True)).clamp(min=LEAST).exp()
    else:
        w = widened(pool.module.weight_map(pool.given))
    normalize = getattr(pool.module, "normalize", True)
    plain = _pull(pool.module, torch.ones_like(w), normalize)
    share = torch.where(plain > 0, _pull(pool.module, w, normalize) / plain, 0.0)
    return WeightMap(w, share)


def _pull(module: Any, w: Tensor, normalize: bool) -> Tensor:
    """What each position counts in the sum of all outputs: the derivative by the input, the weights held."""
    with torch.enable_grad():
        x = torch.zeros_like(w).requires_grad_()
        window = (module.kernel_size, module.stride, module.padding, module.ceil_mode)
        (grad,) = torch.autograd.grad(weighted_pool2d(x, w, *window, normalize).sum(), x)
    return grad
