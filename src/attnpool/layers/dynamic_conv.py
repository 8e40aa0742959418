"""Dynamic convolution: a kernel for every image, mixed from a few by what the whole map says."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn

from attnpool.pools._half import widened
from attnpool.pools._size import Size, check_input, pair, positive

KERNELS = 4
START, STEP = 34.0, 3.0
"""Softmax temperature at the start of training, and by how much it falls with each epoch, down to 1."""


class KernelAttention(nn.Module):
    """softmax(fc2(ReLU(fc1(mean of x))) / temperature): the share of each kernel, for every image.

    Half precision is computed in float32, also under autocast.

    Args:
        channels: Channels C of the input. The hidden layer has C // 4 + 1, and `kernels` for an RGB image.
        kernels: Kernels K.

    Shape:
        (B, C, H, W) to (B, K).
    """

    temperature: Tensor

    def __init__(self, channels: int, kernels: int = KERNELS) -> None:
        super().__init__()
        hidden = kernels if channels == 3 else channels // 4 + 1
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, kernels, 1)
        self.register_buffer("temperature", torch.tensor(START))
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
            z = widened(x).mean((2, 3))  # (B, C)
            z = F.linear(z, widened(self.fc1.weight).flatten(1)).relu()
            z = F.linear(z, widened(self.fc2.weight).flatten(1), widened(self.bias))  # (B, K)
            return (z / widened(self.temperature)).softmax(1).to(x.dtype)

    @property
    def bias(self) -> Tensor:
        """Of the second layer."""
        assert self.fc2.bias is not None
        return self.fc2.bias


class DynamicConv2d(nn.Module):
    """conv(x) with kernel and bias of each image = sum over k of share_k(x) * kernel_k, bias_k.

    Chen et al., "Dynamic Convolution: Attention over Convolution Kernels", CVPR 2020, https://arxiv.org/abs/1912.03458.
    The batch is one grouped convolution. The softmax temperature is part of the state; `anneal_` lowers it.

    Args:
        in_channels: Channels of the input, divisible by `groups`.
        out_channels: Channels of the output, divisible by `groups`.
        kernel_size: Height and width of the kernels, in pixels.
        stride: Step, in pixels.
        padding: Zeros on each side, in pixels; or "same" for those that TensorFlow adds, so that H' = ceil(H / stride).
        dilation: Distance of the kernels' taps, in pixels.
        groups: Groups of channels that do not see each other.
        bias: Whether each kernel has a bias.
        kernels: Kernels K; `weight` holds them one after the other, (K * out_channels, in_channels / groups, kh, kw).

    Shape:
        (B, in_channels, H, W) to (B, out_channels, H', W'), or unbatched, sizes as `nn.Conv2d`.

    Raises:
        ValueError: if an argument breaks its rule.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | Literal["same"] = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        kernels: int = KERNELS,
    ) -> None:
        super().__init__()
        self.in_channels = positive("in_channels", in_channels)
        self.out_channels = positive("out_channels", out_channels)
        self.groups = positive("groups", groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups has to divide in_channels={in_channels} and out_channels={out_channels}, but got {groups}"
            )
        self.kernel_size, self.stride = pair("kernel_size", kernel_size), pair("stride", stride)
        self.padding = padding if isinstance(padding, str) else pair("padding", padding, least=0)
        if isinstance(padding, str) and padding != "same":
            raise ValueError(f"padding has to be pixels or 'same', but got {padding!r}")
        self.dilation = pair("dilation", dilation)
        self.attention = KernelAttention(in_channels, positive("kernels", kernels))
        # the kernels one after the other: channels-last memory is for tensors of four dimensions
        self.weight = nn.Parameter(torch.empty(kernels * out_channels, in_channels // groups, *self.kernel_size))
        self.bias = nn.Parameter(torch.zeros(kernels, out_channels)) if bias else None
        nn.init.kaiming_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.in_channels)
        if x.ndim == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        share, batch = self.attention(x), x.shape[0]  # (B, K)
        weight = share @ self.weight.reshape(share.shape[1], -1)  # (B, out * in / groups * kh * kw)
        weight = weight.reshape(-1, *self.weight.shape[1:])  # (B * out, in / groups, kh, kw)
        bias = None if self.bias is None else (share @ self.bias).flatten()  # (B * out)
        same = isinstance(self.padding, str)
        images = pad_same(x, list(self.kernel_size), list(self.stride), list(self.dilation)) if same else x
        images = images.flatten(0, 1).unsqueeze(0)  # (1, B * in, H, W)
        padding = 0 if same else self.padding
        y = F.conv2d(images, weight, bias, self.stride, padding, self.dilation, self.groups * batch)
        return y.squeeze(0).unflatten(0, (batch, self.out_channels))  # (B, out, H', W')

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        text = f"{text}, padding={self.padding}, dilation={self.dilation}, groups={self.groups}"
        return f"{text}, bias={self.bias is not None}"


def make_dynamic_(
    model: nn.Module, *, keep: Callable[[nn.Module], bool] | None = None, copy_weights: bool = False
) -> list[str]:
    """Replace every `nn.Conv2d` of a network by a `DynamicConv2d` of the same geometry, in place.

    Args:
        model: Any network.
        keep: Modules for which it is true stay as they are, with all that is in them.
        copy_weights: Every kernel starts as a copy of the convolution's: the outputs stay equal. Default: new kernels.

    Returns:
        The paths of what was replaced.

    Raises:
        ValueError: if there is nothing to replace, or for a convolution of another kind (weight-normed, padded by
            reflection, ...); the network is then as it was.
    """
    kept = [path for path, m in model.named_modules() if isinstance(m, DynamicConv2d) or (keep is not None and keep(m))]
    inside = tuple(f"{path}." if path else "" for path in kept)
    made: dict[nn.Conv2d, DynamicConv2d] = {}
    places = []
    for path, conv in model.named_modules(remove_duplicate=False):  # one that stands in two places stays one
        if isinstance(conv, nn.Conv2d) and not f"{path}.".startswith(inside):
            made[conv] = made.get(conv) or _from_conv(conv, path, copy_weights)
            places.append((path, conv))
    if not places or places[0][0] == "":
        raise ValueError(f"model has to have convolutions inside it to replace, but is {type(model).__name__}")
    for path, conv in places:
        model.set_submodule(path, made[conv])
    return [path for path, _ in places]


def _from_conv(conv: nn.Conv2d, path: str, copy_weights: bool) -> DynamicConv2d:
    same = type(conv) is Conv2dSame or conv.padding == "same"
    if type(conv) not in (nn.Conv2d, Conv2dSame) or conv.padding_mode != "zeros" or "weight" not in conv._parameters:
        raise ValueError(f"model has to have plain convolutions padded by zeros, but {path} is {conv}")
    sizes = (conv.kernel_size, conv.stride, (0, 0) if isinstance(conv.padding, str) else conv.padding, conv.dilation)
    kernel, stride, padding, dilation = ((s[0], s[1]) for s in sizes)
    biased = conv.bias is not None
    dynamic = DynamicConv2d(
        conv.in_channels, conv.out_channels, kernel, stride, "same" if same else padding, dilation, conv.groups, biased
    )
    if copy_weights:
        with torch.no_grad():
            dynamic.weight.copy_(conv.weight.repeat(KERNELS, 1, 1, 1))
            if dynamic.bias is not None and conv.bias is not None:
                dynamic.bias.copy_(conv.bias.expand_as(dynamic.bias))
    return dynamic.to(conv.weight).train(conv.training).requires_grad_(conv.weight.requires_grad)


def anneal_(model: nn.Module, epoch: int) -> float | None:
    """Set the softmax temperature of every `DynamicConv2d` for `epoch` (from 0): 34, 31, 28, ..., 1, in place.

    Returns:
        The temperature; None if the network has no dynamic convolution.
    """
    layers = [m for m in model.modules() if isinstance(m, KernelAttention)]
    temperature = max(1.0, START - STEP * epoch)
    for layer in layers:
        layer.temperature.fill_(temperature)
    return temperature if layers else None
