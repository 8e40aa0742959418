"""Gaussian pooling: each window's mean and spread, mixed by what the whole map says."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnpool.pools._half import in_range, widened
from attnpool.pools._size import Size, check_input, positive, window
from attnpool.registry import POOLS


@POOLS.register("gaussian_pool", paper="Kobayashi, NeurIPS 2019")
class GaussianPool2d(nn.Module):
    """Gaussian pooling: y = mean + softplus(m + s * noise) * std of each window, m and s from the global mean of x.

    Kobayashi, "Gaussian-Based Pooling for Convolutional Neural Networks", NeurIPS 2019.
    The noise is standard normal and drawn in training only. Half precision is computed in
    float32 and bounded by its largest value.

    Args:
        channels: Channels C of the input; kernel_size, stride, padding, ceil_mode: see `WeightedPool2d`.
        stochasticity: "HWCN" draws noise for every output, "CN" for every channel of an image, None draws none.
        eps: Smallest variance of a window.

    Shape:
        (B, C, H, W) to (B, C, H', W'), or unbatched, sizes as `nn.AvgPool2d`. Training needs more than one image.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        *,
        stochasticity: Literal["HWCN", "CN"] | None = "HWCN",
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if stochasticity not in ("HWCN", "CN", None):
            raise ValueError(f"stochasticity has to be 'HWCN', 'CN' or None, but got {stochasticity!r}")
        self.channels = positive("channels", channels)
        self.mean = nn.AvgPool2d(*window(kernel_size, stride, padding), ceil_mode)
        self.stochasticity, self.eps = stochasticity, eps
        hidden = max(1, channels // 2)
        self.hidden = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU())
        self.to_mean = nn.Sequential(nn.Conv2d(hidden, channels, 1), nn.BatchNorm2d(channels))
        self.to_sigma = nn.Sequential(nn.Conv2d(hidden, channels, 1), nn.BatchNorm2d(channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.channels)
        if x.ndim == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        mean, std = self._moments(widened(x))  # (B, C, H', W')
        z = self.hidden(x.mean((2, 3), keepdim=True))  # (B, C / 2, 1, 1)
        gain = self.to_mean(z)  # (B, C, 1, 1)
        if self.training and self.stochasticity is not None:
            noise = torch.randn_like(std if self.stochasticity == "HWCN" else gain)
            gain = gain + self.to_sigma(z) * noise
        return in_range(mean + _softplus(in_range(widened(gain), x.dtype)) * std, x.dtype).to(x.dtype)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.mean(x)
        return mean, (self.mean(x.square()) - mean.square()).clamp(min=self.eps).sqrt()


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), without the selection of torch's, which TensorFlow Lite Micro lacks."""
    return x.relu() + (-x.abs()).exp().log1p()
