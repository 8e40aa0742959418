"""Padding that runtimes do while they convolve, instead of in a copy of the map."""

import torch.nn.functional as F
from torch import nn

from attnpool.models.sites import Shapes


def widen_strided_(model: nn.Module, shapes: Shapes) -> None:
    """Give strided convolutions zeros at the lower and right edge of their kernels, in place: the outputs stay.

    TensorFlow Lite pads by itself if both sides of a map of s * n positions get p zeros for a kernel of 2 * p + s, and
    copies the map into a larger one for any other. A kernel of 2 * p + 1, as networks have, with s - 1 rows and columns
    of zeros is such a one. The copy would often be what the memory's peak is made of.

    Args:
        model: In eval mode.
        shapes: Of what its modules read and make, as `trace_shapes` gives them.
    """
    for path, conv in model.named_modules():
        plain = type(conv) is nn.Conv2d and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
        if plain and path in shapes and max(conv.stride) > 1 and isinstance(conv.padding, tuple):
            _widen_(conv, tuple(shapes[path][0][-2:]))


def _widen_(conv: nn.Conv2d, size: tuple[int, ...]) -> None:
    sides = list(zip(size, conv.kernel_size, conv.stride, conv.padding, strict=True))
    if any(p == 0 or kernel != 2 * p + 1 or length % stride for length, kernel, stride, p in sides):  # type: ignore[operator]
        return
    below, right = (stride - 1 for stride in conv.stride)
    conv.weight = nn.Parameter(F.pad(conv.weight.detach(), (0, right, 0, below)), False)
    conv.kernel_size = (conv.kernel_size[0] + below, conv.kernel_size[1] + right)
