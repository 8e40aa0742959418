"""Channels of couplings taken out of a network, and the proof that what is left of it reads what it read before."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from attnpool.models.build import build
from attnpool.models.channels import keep_, numbers_of, record_channels, width_of
from attnpool.models.couplings import Coupling, Member
from attnpool.models.sites import blank_image
from attnpool.pools._attention import SelfAttention
from attnpool.pools._position import PositionTable
from attnpool.poolspec import SpecError

Removal = Sequence[tuple[Coupling, Sequence[int]]]
"""Couplings, and which of their channels go."""

TOLERANCE = 0.01
"""Largest difference relative to the spread of the outputs. Gaussian pooling's smallest variance makes 0.001."""


@torch.no_grad()
def without(model: Any, removal: Removal) -> Any:
    """The network of the model's spec without some channels, on the CPU in eval mode; `model` stays.

    Raises:
        ValueError: if the channels that stay do not fit together.
    """
    net = copy.deepcopy(model)
    gone: dict[tuple[str, str], set[int]] = {}
    for coupling, channels in removal:
        for member in coupling.members:
            for side in ("in", "out") if member.side == "both" else (member.side,):
                gone.setdefault((member.path, side), set()).update(_going(member, channels))
    for path in {path for path, _ in gone}:
        module = net.get_submodule(path)
        _keep_all_but_(module, gone.get((path, "in"), set()), gone.get((path, "out"), set()))
    for old, new in zip(model.modules(), net.modules(), strict=True):
        if isinstance(old, SelfAttention) and isinstance(new, SelfAttention):
            _rescale_(new, old)
    try:
        pruned: Any = build(record_channels(net, build))
    except SpecError as error:
        raise ValueError(f"{model.spec} cannot be pruned: it splits or joins channels unseen: {error}") from error
    pruned.load_state_dict(net.state_dict())
    return pruned.eval()


def _going(member: Member, channels: Sequence[int]) -> list[int]:
    """The channels of a member among `channels` of its coupling."""
    chosen = set(channels)
    return [i for i, root in zip(member.indices, member.roots, strict=True) if root in chosen]


def _keep_all_but_(module: Any, inputs: set[int], outputs: set[int]) -> None:
    numbers = numbers_of(module)
    if isinstance(module, PositionTable):  # a table for columns, then one for rows
        inputs, outputs = outputs, {i - numbers[0] for i in outputs}
    widths = numbers[:2] if len(numbers) > 1 else numbers * 2
    keep = [[i for i in range(n) if i not in going] for n, going in zip(widths, (inputs, outputs), strict=True)]
    keep_(module, *keep)


def _rescale_(new: SelfAttention, old: SelfAttention) -> None:
    """Scores are divided by the root of a head's width, which has shrunk: queries make up for it."""
    width, before = new.qkv.out_features // 3, old.qkv.out_features // 3
    for parameter in (new.qkv.weight, new.qkv.bias):
        parameter[:width] *= (width / before) ** 0.5


@torch.no_grad()
def check_removal(model: Any, removal: Removal, input_size: tuple[int, int]) -> None:
    """Refuse a removal that does more than to remove: where channels carry nothing, the outputs have to stay.

    On a copy in double precision, everything that writes the channels is set to zero, and what was all zeros is not.
    Batch norms take the statistics of the batch, which keeps the other channels alive; layer norms, which mix channels,
    are left out.

    Raises:
        ValueError: if the outputs change: a layer mixes channels in a way that was not seen; or if training fails.
    """
    silent = copy.deepcopy(model).cpu().double().eval()
    draws = torch.Generator().manual_seed(0)
    for parameter in silent.parameters():
        if not parameter.any():  # e.g. the last norm of a residual block that is not trained yet
            parameter.copy_(torch.randn(parameter.shape, generator=draws))  # in float32, as the copy is built
    for coupling, channels in removal:
        for member in coupling.members:
            if member.side != "in":
                _silence_(silent.get_submodule(member.path), _going(member, channels))
    pruned = without(silent, removal).double()
    size = blank_image(model, input_size).shape[1:]
    x = torch.randn(2, *size, generator=draws, dtype=torch.float64)
    outputs = [_live_(net)(x) for net in (silent, pruned)]
    if not (outputs[0] - outputs[1]).abs().max() <= TOLERANCE * outputs[0].std():
        raise ValueError(f"{model.spec} cannot be pruned: a layer of it mixes channels in a way that was not seen")
    try:
        with torch.random.fork_rng(devices=()):
            pruned.train()(x)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{model.spec} cannot be pruned: it fails in training: {error}") from error


def _silence_(module: Any, channels: list[int]) -> None:
    """Set the weights and biases that write these channels to zero."""
    if isinstance(module, PositionTable):
        table = torch.cat((module.col, module.row), dim=1)
        table[:, channels] = 0
        module.col.copy_(table[:, : module.col.shape[1]])
        module.row.copy_(table[:, module.col.shape[1] :])
        return
    outputs = width_of(module, "out")
    for name in ("weight", "bias"):
        parameter = module._parameters.get(name)
        if parameter is not None:  # of dynamic convolutions, one kernel after the other
            rows = parameter if name == "bias" and parameter.ndim == 2 else parameter.unflatten(0, (-1, outputs))
            rows[:, channels] = 0


def _live_(net: nn.Module) -> nn.Module:
    for path, module in list(net.named_modules()):
        if isinstance(module, nn.LayerNorm):
            net.set_submodule(path, nn.Identity())
        module.train(isinstance(module, nn.BatchNorm2d))
    return net
