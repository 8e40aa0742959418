"""Put subspace attention into a network, in place: after a block, or in place of one."""

from torch import nn

from attnpool.attentionspec import GRAMMAR, AttentionSite, parse_attention
from attnpool.layers.ulsam import ULSAM
from attnpool.models.sites import Shapes, device_and_dtype, stride_of
from attnpool.models.surgery import blocks_of, insert_, trace, try_first
from attnpool.registry import did_you_mean


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
        The path of each new module, by that of what it stands behind or in place of: the block, or the last one in it
        if it is an `nn.Sequential`.

    Raises:
        ValueError: if nothing is named, a block is not there, gives no map, does not keep its map's shape but is to be
            replaced, has channels that its groups do not divide, or if the changed network would fail; the network is
            then as it was.
    """
    sites = parse_attention(attention)
    if not sites:
        raise ValueError(f"attention has to be {GRAMMAR}, but got {attention!r}")
    shapes = trace(model, input_size, f"input_size has to be one that the network runs on, but got {input_size}")
    modules = {_anchor(model, site, shapes): _make(model, site, shapes) for site in sites}
    if len(modules) < len(sites):
        raise ValueError(f"attention has to name each block once, but got {attention!r}")
    gone = {site.block for site in sites if site.where == "replace"}

    def change(network: nn.Module) -> dict[str, str]:
        for anchor in sorted(modules, key=lambda path: -path.count(".")):  # what is around a block moves the block
            if anchor in gone:
                network.set_submodule(anchor, modules[anchor])
            else:
                insert_(network, anchor, modules[anchor], after=True, name="attention")
        paths = {id(module): path for path, module in network.named_modules()}
        return {anchor: paths[id(module)] for anchor, module in modules.items()}

    rule = "attention has to stand where the network still runs, but it would fail"
    return try_first(model, change, shapes, input_size, rule)


def _anchor(model: nn.Module, site: AttentionSite, shapes: Shapes) -> str:
    """What the new module stands behind, or in place of."""
    if site.block not in shapes:
        near = did_you_mean(site.block, shapes)
        raise ValueError(f"attention has to name a block that gives a map{near}, but got {site.block!r}")
    if site.where == "after":
        return blocks_of(model, site.block)[-1]
    given, made = shapes[site.block]
    if given != made or any(stride_of(module) > 1 for module in model.get_submodule(site.block).modules()):
        raise ValueError(
            f"attention has to replace a block that keeps its map's shape, but {site.block!r} makes "
            f"{tuple(made[1:])} of {tuple(given[1:])}"
        )
    return site.block


def _make(model: nn.Module, site: AttentionSite, shapes: Shapes) -> ULSAM:
    try:
        module = ULSAM(shapes[site.block][1][1], site.groups)
    except ValueError as error:
        raise ValueError(f"attention at {site.block!r}: {error}") from None
    return module.train(model.training).to(**device_and_dtype(model))
