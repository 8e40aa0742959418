"""Put subspace attention into a network, in place: after a block, or in place of one."""

import re
from dataclasses import dataclass

from torch import nn

from attnpool.layers.ulsam import ULSAM
from attnpool.models.sites import Shapes, device_and_dtype
from attnpool.models.surgery import blocks_of, insert_, trace, try_first
from attnpool.poolspec import SpecError
from attnpool.registry import did_you_mean

GRAMMAR = "after:BLOCK or replace:BLOCK, with :GROUPS if not 4, separated by commas"


@dataclass(frozen=True)
class AttentionSite:
    """One module of attention: where it stands.

    Args:
        where: "after" the block, or "replace": in its place.
        block: Path of the block in the network, e.g. "blocks.4.1".
        groups: Subspaces of the attention.
    """

    where: str
    block: str
    groups: int = 4


def parse_attention(text: str) -> tuple[AttentionSite, ...]:
    """The sites of e.g. "after:blocks.4.1,replace:blocks.5.1:8"; none for "".

    Raises:
        SpecError: naming the part that does not follow the grammar, or that contradicts another.
    """
    sites = []
    for part in text.split(",") if text else []:
        match = re.fullmatch(r"(after|replace):([\w.]+)(?::([1-9][0-9]*))?", part.strip())
        if match is None:
            raise SpecError(f"attention has to be {GRAMMAR}, but got {part!r}", "attention")
        sites.append(AttentionSite(match[1], match[2], int(match[3] or 4)))
    for gone in (site.block for site in sites if site.where == "replace"):
        if sum(f"{site.block}.".startswith(f"{gone}.") for site in sites) > 1:
            raise SpecError(f"attention has to leave alone what is replaced, but names {gone!r} twice", "attention")
    return tuple(sites)


def insert_attention_(model: nn.Module, attention: str, *, input_size: tuple[int, int] = (224, 224)) -> dict[str, str]:
    """Put `ULSAM` after blocks of a network, or in their place, in place.

    The network is run on zeros of `input_size` to see its shapes, the change is tried on a copy, and made only if the
    copy runs and its output has the same shape. A new module takes the mode, device and dtype of the network.

    Args:
        model: Any network of 2-d convolutions on one image tensor.
        attention: after:BLOCK or replace:BLOCK, with :GROUPS if not 4, separated by commas; BLOCK is the path of a
            module that gives a map, e.g. "after:layer3.0,replace:layer4.1:8".
        input_size: (height, width) of the zeros to run the network on, in pixels.

    Returns:
        The path of each new module, by that of its block, in the order given.

    Raises:
        ValueError: if nothing is named, a block is not there, gives no map, does not keep its map's shape but is to be
            replaced, has channels that its groups do not divide, or if the changed network would fail; the network is
            then as it was.
    """
    sites = parse_attention(attention)
    if not sites:
        raise ValueError(f"attention has to be {GRAMMAR}, but got {attention!r}")
    shapes = trace(model, input_size, f"input_size has to be one that the network runs on, but got {input_size}")
    modules = [_make(model, site, shapes) for site in sites]

    def change(network: nn.Module) -> dict[str, str]:
        return {s.block: _put_(network, s, m) for s, m in zip(sites, modules, strict=True)}

    rule = "attention has to stand where the network still runs, but it would fail"
    return try_first(model, change, shapes, input_size, rule)


def _make(model: nn.Module, site: AttentionSite, shapes: Shapes) -> ULSAM:
    if site.block not in shapes:
        raise ValueError(
            f"attention has to name a block that gives a map{did_you_mean(site.block, shapes)}, but got {site.block!r}"
        )
    given, made = shapes[site.block]
    if site.where == "replace" and given != made:
        raise ValueError(
            f"attention has to replace a block that keeps its map's shape, but {site.block!r} makes "
            f"{tuple(made[1:])} of {tuple(given[1:])}"
        )
    try:
        module = ULSAM(made[1], site.groups)
    except ValueError as error:
        raise ValueError(f"attention at {site.block!r}: {error}") from None
    return module.train(model.training).to(**device_and_dtype(model))


def _put_(model: nn.Module, site: AttentionSite, module: ULSAM) -> str:
    if site.where == "replace":
        model.set_submodule(site.block, module)
        return site.block
    return insert_(model, blocks_of(model, site.block)[-1], module, after=True, name="attention")
