"""The pools of a network as they ran: what went in, what came out, and what to call them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attnpool.models.sites import POOLING
from attnpool.registry import POOLS
from attnpool.visualise._watch import Images, watch


@dataclass(frozen=True)
class Pool:
    """One pool.

    Args:
        module: The layer.
        given: The map before it, (B, C, H, W).
        made: The map after it, (B, C, H', W').
    """

    module: Any
    given: Tensor
    made: Tensor

    @property
    def method(self) -> str:
        """What it is, in words: what its documentation begins with."""
        plain = {nn.MaxPool2d: "Max pooling", nn.AvgPool2d: "Average pooling", nn.LPPool2d: "Power-average pooling"}
        if type(self.module) in plain:
            return plain[type(self.module)]
        found = [entry for entry in POOLS.values() if isinstance(self.module, _class_of(entry.target))]
        return found[0].summary.partition(":")[0] if found else type(self.module).__name__


def _class_of(target: Any) -> tuple[type, ...]:
    return (target,) if isinstance(target, type) else ()


def find_pools(model: nn.Module, x: Images) -> dict[str, Pool]:
    """Path to every pool of this library or of torch that shrinks its map when the network runs on `x`, in their order.

    Pools that are part of another one are left out.
    """
    seen = watch(model, x, lambda module: isinstance(module, (*POOLS.classes, *POOLING)))
    shrinking = {path: call for path, call in seen.items() if _shrinks(call[0], call[1])}
    pools = {path: call for path, call in shrinking.items() if not _is_inside(path, [*seen])}
    return {path: Pool(model.get_submodule(path), given[0], made) for path, (given, made) in pools.items()}


def _shrinks(given: tuple[Any, ...], made: Any) -> bool:
    x: Any = given[0] if given else None
    if not (isinstance(x, Tensor) and isinstance(made, Tensor) and x.ndim == made.ndim == 4):
        return False
    return made.shape[-1] * made.shape[-2] < x.shape[-1] * x.shape[-2]


def _is_inside(path: str, others: Sequence[str]) -> bool:
    return any(path.startswith(f"{other}.") for other in others)
