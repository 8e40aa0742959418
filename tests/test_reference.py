"""Ours equals the formula as it is written, in outputs and all gradients, for every option."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from attnpool import SelfAttentivePool2d

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from reference import Reference

OPTIONS: list[dict[str, Any]] = [
    {},
    {"kernel_size": 4, "patch_size": 2},
    {"kernel_size": 4, "patch_size": 2, "normalize": False},
    {"kernel_size": 2, "patch_size": 4, "normalize": False},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "patch_size": 2},
    {"num_heads": 8},
    {"num_heads": 3, "embed_ratio": 0.5},
    {"kv_stride": 2},
    {"kv_stride": 4, "patch_size": 2, "kernel_size": 4},
    {"query_blocks": 7},
    {"query_blocks": 200, "kv_stride": 2},
    {"position": "none"},
    {"sigmoid": False},
    {"exp": False},
    {"exp": False, "sigmoid": False, "normalize": False},
    {"embed_norm": False, "restore_norm": False},
    {"local": True, "patch_size": 2},
    {"deformable": True, "patch_size": 2, "kernel_size": 4},
    {"deformable": True, "local": True, "patch_size": 2, "kv_stride": 2},
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equal_outputs_and_gradients(options: dict[str, Any], training: bool) -> None:
    pool = SelfAttentivePool2d(8, **{"kernel_size": 2, **options}).double().train(training)
    for parameter in pool.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))  # some start at zero, and would hide what they do
    reference = Reference(pool)
    x = torch.randn(2, 8, 12, 16, dtype=torch.float64, requires_grad=True)
    wanted = (x, *pool.parameters())
    ours, theirs = pool(x), reference(x)
    cotangent = torch.randn_like(ours)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    pairs = zip(*(torch.autograd.grad(y, wanted, cotangent) for y in (ours, theirs)), strict=True)
    for a, b in pairs:
        assert (a - b).norm() <= 1e-10 * max(b.norm(), 1.0)
