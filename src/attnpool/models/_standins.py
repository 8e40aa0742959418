"""What stands for our layers while channels are followed: plain convolutions and norms that tie channels as they do."""

import copy
from typing import Any

from torch import Tensor, nn

from attnpool.layers.dynamic_conv import DynamicConv2d
from attnpool.layers.ulsam import ULSAM
from attnpool.models.channels import has_channels
from attnpool.pools._deformable import DeformableConv2d
from attnpool.pools._patches import CoarserGrid, PatchAttention
from attnpool.pools.gaussian_pool import GaussianPool2d
from attnpool.pools.nlp import SelfAttentivePool2d
from attnpool.pools.rnnpool import RNNPool2d

MARKER = "marker"
"""Child of a layer's stand-in that reads the layer's channels."""


def traceable(net: nn.Module) -> nn.Module:
    """A copy of the network that autograd can follow channel by channel: parts keep their paths, values do not matter.

    A stand-in gives a map of the size that the layer gives. A plain layer at the path of one of ours stands for it.
    """
    net = copy.deepcopy(net).requires_grad_(True).eval()
    replaced: list[str] = []
    for path, module in list(net.named_modules()):
        standin = module if path.startswith(tuple(replaced)) else _standin(module)
        if standin is not module:
            net.set_submodule(path, standin)
            replaced.append(f"{path}.")
    for module in list(net.modules()):
        if has_channels(module) or isinstance(module, _Read):
            _mark_(module)
        if isinstance(module, SelfAttentivePool2d):
            module.offset = None  # it moves weights over the map, not between channels
        if isinstance(module, GaussianPool2d):
            _use_spread_(module)
    return net


def _standin(module: Any) -> nn.Module:
    """For a layer whose channels cannot be read off its graph; those inside an earlier one are met in it."""
    if isinstance(module, DynamicConv2d):
        return _plain_conv(module)
    if isinstance(module, PatchAttention):
        return _Attend(module)
    if isinstance(module, ULSAM):
        return nn.BatchNorm2d(module.channels)
    if isinstance(module, RNNPool2d):
        return _Read(module)
    return module


def _mark_(module: Any) -> None:
    module.register_module(MARKER, nn.BatchNorm2d(module.channels).eval())
    module.register_forward_pre_hook(lambda layer, inputs: (layer.marker(inputs[0]),))


def _use_spread_(pool: GaussianPool2d) -> None:
    """Also outside training, where the spread is not made: it is made of what the mean is made of."""
    pool.to_mean.register_forward_hook(lambda _, inputs, mean: mean + pool.to_sigma(inputs[0]))


def _plain_conv(conv: Any) -> nn.Module:
    """A convolution between the same channels that gives a map of the same size."""
    if isinstance(conv, DynamicConv2d):
        same = isinstance(conv.padding, str)  # a kernel of 1 gives ceil(H / stride), too
        window: Any = (1, conv.stride, 0) if same else (conv.kernel_size, conv.stride, conv.padding)
        rest: Any = {"dilation": 1 if same else conv.dilation, "groups": conv.groups}
        return nn.Conv2d(conv.in_channels, conv.out_channels, *window, **rest)
    if isinstance(conv, DeformableConv2d):
        inner: Any = conv.conv
        return nn.Conv2d(inner.in_channels, inner.out_channels, inner.kernel_size, conv.stride)
    return conv


class _Attend(nn.Module):
    """For `PatchAttention`: queries, keys and values are one map, of as many channels as each of them."""

    def __init__(self, attend: Any) -> None:
        super().__init__()
        dim = attend.attention.qkv.in_features
        self.embed, self.norm = _plain_conv(attend.embed), attend.norm
        self.position = None if attend.position is None else nn.BatchNorm2d(dim)
        self.context: Any = None if attend.context is None else _coarser(attend.context)
        self.attention: Any = nn.Module()
        inner, out = attend.attention.proj.in_features, attend.attention.proj.out_features
        self.attention.qkv, self.attention.proj = nn.Conv2d(dim, inner, 1), nn.Conv2d(inner, out, 1)

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        z = self.norm(self.embed(x)).relu()  # (B, d, h, w)
        if self.position is not None:
            z = self.position(z)
        if self.context is not None:
            z = z + self.context.norm(self.context.conv(z)).mean((2, 3), keepdim=True)
        return self.attention.proj(self.attention.qkv(z))


def _coarser(context: CoarserGrid) -> Any:
    plain: Any = nn.Module()
    channels = context.norm.normalized_shape[0]
    plain.conv, plain.norm = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)
    return plain


class _Read(nn.Module):
    """For `RNNPool2d`: states of a fixed number, then its own convolution."""

    def __init__(self, pool: RNNPool2d) -> None:
        super().__init__()
        self.channels, self.stride = pool.channels, pool.stride
        states = 4 * pool.rnn2.state.in_features
        self.states, self.project = nn.Conv2d(pool.channels, states, 1, pool.stride), pool.project

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.states(x))
