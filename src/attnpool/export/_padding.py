"""Padding that runtimes do while they convolve, instead of in a copy of the map."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


def widen_strided_(model: nn.Module, image: Tensor) -> None:
    """Give strided convolutions zeros at the lower and right edge of their kernels, in place: the outputs stay.

    TensorFlow Lite pads by itself if both sides of a map of s * n positions get p zeros for a kernel of 2 * p + s, and
    copies the map into a larger one for any other. A kernel of 2 * p + 1, as networks have, with s - 1 rows and columns
    of zeros is such a one. The copy would often be what the memory's peak is made of.

    Args:
        model: In eval mode.
        image: What it runs on.
    """
    convs = [m for m in model.modules() if type(m) is nn.Conv2d and max(m.stride) > 1 and m.dilation == (1, 1)]
    sizes: dict[nn.Module, tuple[int, ...]] = {}
    handles: list[RemovableHandle] = [
        conv.register_forward_hook(lambda module, given, made: sizes.update({module: tuple(given[0].shape[-2:])}))
        for conv in convs
    ]
    with torch.no_grad():
        model(image)
    for handle in handles:
        handle.remove()
    for conv in convs:
        if conv in sizes and isinstance(conv.padding, tuple) and conv.padding_mode == "zeros":
            _widen_(conv, sizes[conv])


def _widen_(conv: nn.Conv2d, size: tuple[int, ...]) -> None:
    sides = list(zip(size, conv.kernel_size, conv.stride, conv.padding, strict=True))
    if any(p == 0 or kernel != 2 * p + 1 or length % stride for length, kernel, stride, p in sides):  # type: ignore[operator]
        return
    below, right = (stride - 1 for stride in conv.stride)
    conv.weight = nn.Parameter(F.pad(conv.weight.detach(), (0, right, 0, below)), False)
    conv.kernel_size = (conv.kernel_size[0] + below, conv.kernel_size[1] + right)
