"""Half precision, where it would not do."""

import torch
from torch import Tensor


def widened(x: Tensor) -> Tensor:
    """A half-precision tensor as float32, any other as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
