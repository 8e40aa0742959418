"""What int8 runtimes compute in place of two functions that cost them memory or precision."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from attnpool.pools._size import Size, window


class Int8Forms(TorchFunctionMode):
    """Within, two functions are others that compute the same, and that int8 kernels have or round less.

    exp(s) of a sigmoid s is sigmoid(s) / sigmoid(-s). TensorFlow Lite Micro would leave int8 for an exponential: eight
    bytes for each number that takes one. For an s that is no sigmoid the two would be out of the range of int8.

    The mean of windows is a depthwise convolution. Average pooling in .tflite files has to round what it makes by the
    scale of what it reads, which is coarse for a mean: the more so for that of x * w, few of which are large.
    """

    def __init__(self) -> None:
        super().__init__()
        self._gates: dict[int, Tensor] = {}  # kept, so that no other tensor takes an id

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.exp, Tensor.exp) and id(args[0]) in self._gates:
            return args[0].sigmoid() / (-args[0]).sigmoid()
        if func is F.avg_pool2d and (mean := _mean(*args, **(kwargs or {}))) is not None:
            return mean
        made = func(*args, **(kwargs or {}))
        if func in (torch.sigmoid, Tensor.sigmoid):
            self._gates[id(made)] = made
        return made


def _mean(
    x: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor | None:
    """`F.avg_pool2d` as a convolution, (B, C, H, W) to (B, C, H', W'); None where windows reach over the edge."""
    kernel, step, border = window(kernel_size, stride or None, padding)
    if any(border) or ceil_mode or divisor_override is not None:
        return None
    share = 1 / (kernel[0] * kernel[1])
    weight = torch.full((x.shape[1], 1, *kernel), share, dtype=x.dtype, device=x.device)  # reads nothing: a constant
    return F.conv2d(x, weight, stride=step, groups=x.shape[1])
