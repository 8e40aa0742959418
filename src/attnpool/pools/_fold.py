"""What is linear one after the other, made one: for inference."""

from typing import Any

import torch
from torch import nn


@torch.no_grad()
def fold_(conv: Any, norm: nn.BatchNorm2d) -> None:
    """Make `conv(x)` what `norm(conv(x))` is in eval mode, in place: exact but for rounding.

    Args:
        conv: A convolution; one of several kernels holds them one after the other, with a bias for each.
        norm: Its running statistics are used.
    """
    assert norm.running_mean is not None and norm.running_var is not None  # noqa: PT018
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    kernels = conv.weight.shape[0] // scale.shape[0]
    conv.weight.mul_(scale.repeat(kernels)[:, None, None, None])
    shape = (kernels, -1) if kernels > 1 else (-1,)
    bias = torch.zeros_like(scale.repeat(kernels)).view(shape) if conv.bias is None else conv.bias
    bias = (bias - norm.running_mean) * scale
    conv.bias = nn.Parameter(bias if norm.bias is None else bias + norm.bias)


def folded(conv: nn.Module, norm: nn.Module) -> nn.Module:
    """What is left of `norm` behind `conv` once it is folded: an identity, unless it cannot be."""
    if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and _is_plain(conv):
        fold_(conv, norm)
        return nn.Identity()
    return norm


@torch.no_grad()
def merge_(linear: nn.Module, conv: nn.Module) -> nn.Module:
    """Make `conv(x)`, a 1x1 convolution, what `conv(linear(x))` is, in place; what is left of `linear` is returned."""
    if not isinstance(linear, nn.Linear) or type(conv) is not nn.Conv2d or conv.bias is None:
        return linear  # a dynamic convolution also looks at what it is given
    if not (_is_plain(linear) and _is_plain(conv)):
        return linear
    weight = conv.weight.flatten(1)  # (C, d)
    conv.bias.add_(weight @ linear.bias)
    conv.weight = nn.Parameter((weight @ linear.weight)[:, :, None, None])  # (C, d'), d' = d unless pruned
    conv.in_channels = linear.in_features
    return nn.Identity()


def _is_plain(layer: nn.Module) -> bool:
    """Whether its weight is a parameter of its own, not made of others (pruned, weight-normalised) at each call."""
    return "weight" in layer._parameters
