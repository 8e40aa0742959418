"""What each pool keeps of a map, and what it throws away."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnpool.models.sites import POOLING
from attnpool.pools._half import widened
from attnpool.pools._weighted import WeightedPool2d
from attnpool.pools.blurpool import BlurPool2d
from attnpool.pools.gaussian_pool import GaussianPool2d
from attnpool.pools.softpool import SoftPool2d
from attnpool.visualise._pools import Pool, find_pools
from attnpool.visualise._watch import Images


@dataclass(frozen=True)
class KeptMap:
    """A pool's map before and after it; strength is the root mean square over the channels.

    Args:
        before: Strength of the map before the pool, (B, H, W).
        after: Strength of the map after it, (B, H', W').
        lost: Strength of what is gone, in units of the mean strength (root mean square) of the map before, (B, H, W);
            None where what comes after the pool are other channels than before (convolutions, recurrent networks).
        part: Which part of the energy of the map before is gone, 0 to 1, (B,); None likewise.
    """

    before: Tensor
    after: Tensor
    lost: Tensor | None
    part: Tensor | None


def kept_maps(model: nn.Module, x: Images) -> dict[str, KeptMap]:
    """What is gone: x - a * up(y) of every pool, y the map after it at the size of x, a the best factor of a channel.

    The factor makes pools comparable that scale what they keep (`nowin`, max pooling): what counts as lost is what no
    multiple of the smaller map says. Path of the pool to its `KeptMap`; the network stays as it is.

    Args:
        model: Any network with pools of this library or of torch, or a detector on one.
        x: What it takes: (B, C, H, W), normalised; for a detector a list of images (3, H, W) in 0..1.
    """
    return {path: _compare(pool) for path, pool in find_pools(model, x).items()}


def _compare(pool: Pool) -> KeptMap:
    x, y = widened(pool.given), widened(pool.made)
    before, after = _strength(x), _strength(y)
    if not _keeps_channels(pool.module):
        return KeptMap(before, after, None, None)
    up = F.interpolate(y, size=x.shape[-2:], mode="nearest")  # (B, C, H, W)
    energy = up.square().sum((2, 3), keepdim=True)
    factor = torch.where(energy > 0, (x * up).sum((2, 3), keepdim=True) / energy, 0.0)  # (B, C, 1, 1)
    gone = _strength(x - factor * up)
    mean = before.square().mean((1, 2), keepdim=True).sqrt().clamp(min=torch.finfo(x.dtype).tiny)
    lost = gone / mean
    return KeptMap(before, after, lost, lost.square().mean((1, 2)))


def _strength(x: Tensor) -> Tensor:
    return x.square().mean(1).sqrt()


def _keeps_channels(module: nn.Module) -> bool:
    """Whether a channel after the pool is the same channel as before."""
    if isinstance(module, BlurPool2d):
        return not isinstance(module.dense, nn.Sequential)  # which begins with a convolution
    return isinstance(module, (WeightedPool2d, SoftPool2d, GaussianPool2d, *POOLING))
