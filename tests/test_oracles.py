"""Every layer equals its formula, written out in loops."""

from typing import Any

import pytest
import torch
from oracles import ORACLES, dynamic_conv, ulsam
from torch import nn

from attnpool.layers.dynamic_conv import DynamicConv2d
from attnpool.layers.ulsam import ULSAM
from attnpool.registry import POOLS

GEOMETRIES = [  # kernel, stride, padding, ceil_mode
    (2, None, 0, False),
    (3, 2, 1, True),
    ((2, 3), (3, 2), (0, 1), False),
    (2, 3, 0, True),
]
SIZE = (6, 7)
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "nlp": [
        {"patch_size": 2, "normalize": False},
        {"num_heads": 4, "embed_ratio": 2.0},
        {"kv_stride": 2},
        {"query_blocks": 5},
    ],
    "dfmnlp": [{"patch_size": 2, "normalize": False}],
    "mixp": [{"patch_size": 2}, {"patch_size": 3}],
    "dfmixp": [{"patch_size": 2, "kv_stride": 4}],
    "lipfull": [{"simplified": True}, {"width": 5}],
    "blurpool": [{"filter_size": size} for size in (2, 3, 5)],
    "rnnpool": [{"extent": (2, 5)}, {"hidden": (3, 1)}, {"hidden": (3, 2)}],
}
"""What is compared beside the defaults."""
CASES = [(name, options) for name in POOLS for options in [{}, *OPTIONS.get(name, [])]]
TOLERANCE: Any = {"rtol": 1e-9, "atol": 1e-10}


def randomised(layer: nn.Module) -> nn.Module:
    """In float64 and eval mode, its parameters and statistics random, so that none of them is without effect."""
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    for name, buffer in layer.named_buffers():
        if "running" in name:
            nn.init.uniform_(buffer, 0.5, 1.5)
    return layer.double().eval()


def test_every_method_has_an_oracle() -> None:
    assert ORACLES.keys() == {entry.base for entry in POOLS.values()}


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_pools(name: str, options: dict[str, Any], geometry: tuple[Any, ...]) -> None:
    pool: Any = randomised(POOLS[name](4, *geometry, **options))
    kernel, stride, padding, pool.ceil_mode = geometry  # for the oracles: torch's own keep plain numbers
    for key, value in (("kernel_size", kernel), ("stride", stride or kernel), ("padding", padding)):
        setattr(pool, key, value if isinstance(value, tuple) else (value, value))
    x = torch.randn(2, 4, *SIZE, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(pool(x), ORACLES[POOLS[name].base](pool, x), **TOLERANCE)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_dynamic_convolution(groups: int, bias: bool) -> None:
    layer = randomised(DynamicConv2d(4, 8, (3, 2), 2, 1, (1, 2), groups, bias))
    x = torch.randn(3, 4, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), dynamic_conv(layer, x), **TOLERANCE)


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_ulsam(groups: int) -> None:
    layer = randomised(ULSAM(8, groups))
    x = torch.randn(2, 8, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), ulsam(layer, x), **TOLERANCE)
