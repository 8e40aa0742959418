"""Half precision, where it would not do."""

import torch
from torch import Tensor


def widened(x: Tensor) -> Tensor:
    """A half-precision tensor as float32, any other as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def in_range(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` within the finite values of half precision, if `dtype` is one."""
    if dtype not in (torch.float16, torch.bfloat16):
        return x
    limits = torch.finfo(dtype)
    return x.clamp(limits.min, limits.max)
