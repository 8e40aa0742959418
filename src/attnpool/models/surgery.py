"""Surgery on any network: set its downsampling sites to stride 1 and put a pool there, in place."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from timm.layers import Conv2dSame
from torch import nn

from attnpool.models.sites import POOLING, Shapes, Site, device_and_dtype, find_sites, trace_shapes
from attnpool.models.stages import PLACEMENTS
from attnpool.poolspec import SpecError, parse_pool
from attnpool.registry import POOLS

PoolFactory = Callable[..., nn.Module]
_Pair = tuple[int, int]
T = TypeVar("T")


@dataclass(frozen=True)
class Replacement:
    """What `replace_downsampling_` did at one site: the path of the new pool, and what it stands for."""

    name: str
    site: str
    channels: int
    stride: int


def replace_downsampling_(
    model: nn.Module,
    pool: str | PoolFactory,
    *,
    where: Callable[[str, nn.Module], bool] | None = None,
    placement: str = "before",
    input_size: tuple[int, int] = (224, 224),
) -> list[Replacement]:
    """Replace strided convolutions and pools of a network by `pool`, in place.

    Each site is set to stride 1 and keeps its weights; the pool is inserted before or after it with the same stride,
    and rounds an odd side as a padded site did. A pooling layer is replaced itself. The network is run, in eval mode
    and without gradients, on zeros of `input_size`, to see its shapes; the change is tried on a copy first, and made
    only if the copy runs and its output has the same shape. What a `forward` does by function calls (`F.max_pool2d`)
    cannot be seen, nor strides that differ along the two sides.

    Args:
        model: Any network of 2-d convolutions on one image tensor: torchvision, timm, or your own.
        pool: A POOL token such as "nlp_headfix2", or a factory called as `pool(channels, stride, ceil_mode=...)`: a
            layer class of this library, or `functools.partial(SelfAttentivePool2d, patch_size=2, normalize=False)`.
        where: Keeps the sites for which `where(name, module)` is true; where convolutions stride side by side (as in
            a residual block), the site is the block around them. Default: all but the convolution that reads
            the image; that one too if there is no other.
        placement: "before" the site, "after_first" (right after it), or "end" (of the `nn.Sequential` around it).
            What reads the image always has its pool after it, and a pooling layer is replaced where it stands.
        input_size: (height, width) of the zeros to run the network on, in pixels.

    Returns:
        What was replaced, in the order of the network.

    Raises:
        ValueError: if nothing matched, for an unknown placement or POOL token, or if the changed network would fail;
            the network is then as it was.
    """
    if placement not in PLACEMENTS:
        raise ValueError(f"placement has to be one of {', '.join(PLACEMENTS)}, but got {placement!r}")
    factory = _factory(pool) if isinstance(pool, str) else pool
    shapes = trace(model, input_size, f"input_size has to be one that the network runs on, but got {input_size}")
    sites = find_sites(model, shapes)
    chosen = _choose(model, sites, where)
    if not chosen:
        names = ", ".join(site.name for site in sites) or "there is none"
        raise ValueError(f"where has to match a downsampling site, but matched none (sites: {names})")
    slots = [_slot(model, site, placement, shapes) for site in chosen]
    pools = [_make_pool(model, slot, factory) for slot in slots]

    def change(network: nn.Module) -> list[Replacement]:
        return [_replace_(network, slot, layer) for slot, layer in zip(slots, pools, strict=True)]

    rule = "where has to leave out blocks that need the sizes they had, but the network would fail"
    return try_first(model, change, shapes, input_size, rule)


def trace(model: nn.Module, input_size: tuple[int, int], rule: str) -> Shapes:
    """The shapes, or a `ValueError` that begins with the broken rule where the network cannot run."""
    try:
        return trace_shapes(model, input_size)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(f"{rule}: {str(error).partition(chr(10))[0]}") from error


def try_first(
    model: nn.Module, change: Callable[[nn.Module], T], before: Shapes, input_size: tuple[int, int], rule: str
) -> T:
    """Change a copy, and the network itself only if the copy runs and its output has the shape it had `before`.

    Raises:
        ValueError: beginning with the broken `rule`, if the changed network fails or gives another shape.
    """
    trial = copy.deepcopy(model)
    change(trial)
    after = trace(trial, input_size, rule)
    if "" in before and before[""][1] != after[""][1]:
        raise ValueError(f"{rule}: its output {tuple(before[''][1])} would become {tuple(after[''][1])}")
    return change(model)


def _factory(token: str) -> PoolFactory:
    """The factory of a POOL token, outside a string: no stages, so no patches by stage."""
    spec = parse_pool(token)
    if spec.reduced:
        raise SpecError(
            "reduced has to go with a backbone's stages; use functools.partial(SelfAttentivePool2d, patch_size=...)"
        )

    def build(channels: int, stride: int, *, ceil_mode: bool) -> nn.Module:
        return POOLS[spec.method](channels, stride, ceil_mode=ceil_mode, **spec.options)

    return build


def _choose(model: nn.Module, sites: list[Site], where: Callable[[str, nn.Module], bool] | None) -> list[Site]:
    if where is not None:
        return [site for site in sites if where(site.name, model.get_submodule(site.name))]
    return [site for site in sites if not site.reads_image] or sites


@dataclass(frozen=True)
class _Slot:
    """Where the pool of a site goes: beside the module `anchor`, whether after it, on how many channels."""

    site: Site
    anchor: str
    after: bool
    channels: int


def _slot(model: nn.Module, site: Site, placement: str, shapes: Shapes) -> _Slot:
    anchor = blocks_of(model, site.stage)[-1] if placement == "end" else site.name
    after = placement != "before" or site.reads_image
    return _Slot(site, anchor, after, shapes[anchor][1 if after else 0][1])


def _make_pool(model: nn.Module, slot: _Slot, factory: PoolFactory) -> nn.Module:
    pool = factory(slot.channels, slot.site.stride, ceil_mode=slot.site.rounds_up)
    return pool.train(model.training).to(**device_and_dtype(model))


def _replace_(model: nn.Module, slot: _Slot, pool: nn.Module) -> Replacement:
    site = slot.site
    if isinstance(model.get_submodule(site.name), POOLING):
        model.set_submodule(site.name, pool)
        return Replacement(site.name, site.name, slot.channels, site.stride)
    for path in site.striding:
        unstride_(model, path)
    name = insert_(model, slot.anchor, pool, after=slot.after)
    return Replacement(name, site.name, slot.channels, site.stride)


def insert_(model: nn.Module, anchor: str, module: nn.Module, *, after: bool, name: str = "pool") -> str:
    """Insert `module` before or after the one at path `anchor`, in place; returns its path.

    In an `nn.Sequential` it becomes a child of its own and nothing else is renamed; elsewhere the anchor is wrapped.
    """
    parent_path, _, key = anchor.rpartition(".")
    parent = model.get_submodule(parent_path)
    if not is_sequential(parent):
        pair = [("block", parent.get_submodule(key)), (name, module)]
        setattr(parent, key, nn.Sequential(OrderedDict(pair if after else pair[::-1])))
        return f"{anchor}.{name}"
    children = list(parent.named_children())
    name = f"{name}_{key}" if name in dict(children) else name
    assert name not in dict(children), name
    index = [child for child, _ in children].index(key) + after
    for child, _ in children[index:]:
        delattr(parent, child)
    for child, moved in [(name, module), *children[index:]]:
        parent.add_module(child, moved)
    return f"{parent_path}.{name}".lstrip(".")


def is_sequential(module: nn.Module) -> bool:
    """Whether `module` just runs its children one after the other."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def blocks_of(model: nn.Module, path: str) -> list[str]:
    """Paths of what runs one after the other in the module at `path`; `path` itself where that cannot be told."""
    stage = model.get_submodule(path)
    inside = [f"{path}.{key}" for key, _ in stage.named_children()] if is_sequential(stage) else []
    return inside or [path]


def restride_(model: nn.Module, path: str, stride: int) -> None:
    """Set the stride of the convolution or pool at `path`, its padding and weights kept."""
    module: Any = model.get_submodule(path)
    module.stride = (stride, stride)


def unstride_(model: nn.Module, path: str) -> None:
    """Set the convolution or pool at `path` to stride 1, its output the size of its input; its weights stay."""
    module: Any = model.get_submodule(path)
    if isinstance(module, POOLING):
        odd = not isinstance(module, nn.LPPool2d) and module.kernel_size in (3, (3, 3))
        model.set_submodule(path, type(module)(3, 1, 1) if odd else nn.Identity())
        return
    reach = tuple(d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True))
    fits = isinstance(module.padding, str) or all(2 * p == r for p, r in zip(module.padding, reach, strict=True))
    module.stride = (1, 1)
    if fits:
        return
    if getattr(module, "padding_mode", "zeros") != "zeros":
        raise ValueError(f"{path} has to have zero padding to run at stride 1, but has {module.padding_mode!r}")
    if type(module) is not nn.Conv2d or "weight" not in module._parameters:  # e.g. weight-normed: it stays what it is
        module.padding = "same"
        return
    kernel, dilation = cast(_Pair, module.kernel_size), cast(_Pair, module.dilation)
    same = Conv2dSame(module.in_channels, module.out_channels, kernel, 1, 0, dilation, module.groups)
    same.weight, same.bias = module.weight, module.bias
    model.set_submodule(path, same.train(module.training))
