"""Window sizes: (height, width) pairs, their checks, and the degenerate case of weights that cancel."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Size = int | tuple[int, int]


def pair(name: str, value: Size, *, least: int = 1) -> tuple[int, int]:
    """`value` as (height, width), both whole numbers of at least `least`; anything else raises `ValueError`."""
    sides = value if isinstance(value, tuple | list) else (value, value)
    good = len(sides) == 2 and all(isinstance(s, int) and not isinstance(s, bool) and s >= least for s in sides)
    if not good:
        rule = "a positive integer" if least == 1 else "a non-negative integer"
        raise ValueError(f"{name} has to be {rule} or a pair of them, but got {value!r}")
    return (sides[0], sides[1])


def positive(name: str, value: int) -> int:
    """`value` if it is a positive integer, else `ValueError`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} has to be a positive integer, but got {value!r}")
    return value


def window(
    kernel_size: Size, stride: Size | None, padding: Size
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, stride (default: the kernel) and padding as checked pairs; padding is at most half the kernel."""
    kernel = pair("kernel_size", kernel_size)
    step = kernel if stride is None else pair("stride", stride)
    border = pair("padding", padding, least=0)
    if any(2 * p > k for p, k in zip(border, kernel, strict=True)):
        raise ValueError(f"padding has to be at most half the kernel_size {kernel}, but got {padding!r}")
    return kernel, step, border


def window_counts(
    size: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], ceil_mode: bool
) -> tuple[int, int]:
    """Rows and columns of windows on a map of `size`: the output size of `nn.AvgPool2d`; none is a `ValueError`."""
    counts = []
    for length, k, s, p in zip(size, kernel, stride, padding, strict=True):
        free = length + 2 * p - k
        count = -(-free // s) + 1 if ceil_mode else free // s + 1
        counts.append(count - (ceil_mode and (count - 1) * s >= length + p))  # torch: it starts inside the map
    if min(counts) < 1:
        raise ValueError(f"input has to hold a window of {kernel} with padding {padding}, but is {tuple(size)}")
    return (counts[0], counts[1])


def fill_for_ceil(
    x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], value: float = 0.0
) -> Tensor:
    """`x` with `value` added below and to the right, so that plain windows give the sizes of `ceil_mode=True`."""
    counts = window_counts(x.shape[-2:], kernel, stride, padding, ceil_mode=True)
    sides = zip(x.shape[-2:], kernel, stride, padding, counts, strict=True)
    fill = [max(0, (count - 1) * s + k - length - 2 * p) for length, k, s, p, count in sides]
    return F.pad(x, (0, fill[1], 0, fill[0]), value=value)


def check_input(x: Tensor, channels: int) -> None:
    """`x` is a float map (B, C, H, W) or (C, H, W) with the layer's channels."""
    if x.ndim not in (3, 4) or x.shape[-3] != channels:
        raise ValueError(f"input has to be (B, {channels}, H, W) or ({channels}, H, W), but got {tuple(x.shape)}")
    if not torch.is_floating_point(x):
        raise ValueError(f"input has to be a floating-point tensor, but got {x.dtype}")


def window_inside_patch(kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], patch: int) -> bool:
    """Whether every window lies in one patch, so that a weight constant over the patch cancels in the window."""
    sides = zip(kernel, stride, padding, strict=True)
    return all(p == 0 and k <= math.gcd(s, patch) for k, s, p in sides)


def refuse_average_pooling(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], patch: int
) -> None:
    """Raise `ValueError` where weights of patches would cancel in every window."""
    if window_inside_patch(kernel, stride, padding, patch):
        raise ValueError(
            f"patch_size={patch} covers the window (kernel_size={kernel}, stride={stride}): its weights would be equal "
            "and cancel, leaving exactly average pooling. Use normalize=False, a smaller patch_size, or a larger "
            "stride; or nn.AvgPool2d if that is what you want"
        )
