"""The golden cases, and the weights of the published code under its own names."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

GOLDEN = Path(__file__).with_name("golden")
sys.path.insert(0, str(GOLDEN))
from weights import cotangent, model_input, weight  # noqa: E402

__all__ = ["GOLDEN", "LAYERS", "NETWORKS", "cotangent", "model_input", "published", "state_of"]

LAYERS: dict[str, Any] = json.loads((GOLDEN / "layers.json").read_text())
NETWORKS: dict[str, Any] = json.loads((GOLDEN / "networks.json").read_text())


def published(state: dict[str, list[int]]) -> dict[str, Tensor]:
    """The tensor of every name and shape."""
    return {name: torch.tensor(weight(name, tuple(shape))) for name, shape in state.items()}


def state_of(text: str) -> dict[str, Tensor]:
    """The weights of the network of a string."""
    return published(NETWORKS[text]["state"])
