"""Channel pruning: of every coupling, the channels that weigh least go."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import lcm
from typing import Any

import torch
from torch import Tensor, nn

from attnpool.models.channels import width_of
from attnpool.models.couplings import Coupling, find_couplings
from attnpool.models.removal import check_removal, without


@dataclass(frozen=True)
class Pruned:
    """A pruned network.

    Args:
        net: The network of its `spec`, in eval mode, with the weights that stayed.
        left: What writes channels that could not go, and why not.
    """

    net: Any
    left: dict[str, str] = field(default_factory=dict)


@torch.random.fork_rng(devices=())
def prune_channels(
    model: Any,
    ratio: float = 0.5,
    *,
    round_to: int = 4,
    input_size: tuple[int, int] | None = None,
    where: Callable[[str], bool] | None = None,
) -> Pruned:
    """A network without the part `ratio` of its channels that weighs least; `model` stays.

    Channels that residual sums, norms or pools tie together go together. A channel's weight is the energy of all
    weights that write, scale or read it, relative to the layer's mean. Heads, groups and subspaces lose the same
    number each. Images, classes, hidden states of `rnnpool` and kernels of dynamic convolution stay.

    Args:
        model: A network of `create_model`.
        ratio: Part of the channels to remove, above 0 and below 1.
        round_to: Channels that stay are a multiple of this (and of heads or groups).
        input_size: (height, width) of the zeros to run the network on; default: what its spec says, else 224.
        where: Keeps the layers whose paths it is true for; what is tied to them goes, too. Default: all.

    Raises:
        ValueError: if an argument breaks its rule, or if nothing can be removed.
        ImportError: if torch-pruning is not installed: it finds what is tied together.
    """
    if not 0 < ratio < 1:
        raise ValueError(f"ratio has to be above 0 and below 1, but got {ratio}")
    if round_to < 1:
        raise ValueError(f"round_to has to be a positive integer, but got {round_to}")
    size = input_size or model.spec.input_size or (224, 224)
    modules = dict(model.named_modules())
    left, removed = {}, []
    for coupling in find_couplings(model, size):
        if not coupling.writers or (where is not None and not any(map(where, coupling.writers))):
            continue
        unit = lcm(round_to, coupling.blocks)
        staying = min(coupling.size, unit * max(1, int(coupling.size * (1 - ratio) / unit + 0.5)))
        if coupling.fixed or staying == coupling.size:
            reason = coupling.fixed or f"{coupling.size} channels, of which a multiple of {unit} has to stay"
            left.update(dict.fromkeys(coupling.writers, reason))
        else:
            removed.append((coupling, _lightest(coupling, modules, coupling.size - staying)))
    if not removed:
        raise ValueError(f"ratio and round_to have to leave something to remove, but {ratio} and {round_to} do not")
    check_removal(model, removed, size)
    return Pruned(without(model, removed), left)


def _lightest(coupling: Coupling, modules: dict[str, nn.Module], count: int) -> list[int]:
    """The channels of a coupling that weigh least, as many from each block."""
    total = torch.zeros(coupling.size, dtype=torch.float64)
    for member in coupling.members:
        energy = _energy(modules[member.path], member.side)
        if energy is not None:
            part = energy.double().cpu()[list(member.indices)]
            total.index_add_(0, torch.tensor(member.roots), part / part.mean().clamp(min=1e-30))
    order = total.unflatten(0, (coupling.blocks, -1)).argsort(dim=1, stable=True)  # (blocks, size / blocks)
    first = torch.arange(coupling.blocks)[:, None] * order.shape[1]
    return sorted((order + first)[:, : count // coupling.blocks].flatten().tolist())


@torch.no_grad()
def _energy(module: Any, side: str) -> Tensor | None:
    """Sum of squares of the weights of each channel; None where a module only passes its channels on."""
    if module._parameters.get("weight") is None:
        return None
    square = module.weight.square()
    if side != "in":
        square = square.reshape(len(square), -1).sum(1)
        return square.unflatten(0, (-1, width_of(module, side))).sum(0)  # kernels one after the other
    groups = getattr(module, "groups", 1)
    square = square.reshape(*square.shape[:2], -1).sum(2)  # (K * out, in / groups)
    return square.unflatten(0, (-1, groups, width_of(module, "out") // groups)).sum((0, 2)).flatten()
