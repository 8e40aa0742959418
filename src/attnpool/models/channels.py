"""The channel numbers of a network's modules: read, set, and chosen channels kept."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from timm.layers import Linear as TimmLinear
from torch import Tensor, nn

from attnpool.layers.dynamic_conv import DynamicConv2d
from attnpool.layers.ulsam import ULSAM
from attnpool.pools._position import PositionTable
from attnpool.pools.blurpool import BlurPool2d
from attnpool.poolspec import SpecError
from attnpool.registry import POOLS, did_you_mean

Channels = tuple[tuple[Any, ...], ...]
"""(path, *numbers) of every module whose numbers are not those that the rest of a spec gives."""

CONVOLUTIONS = (nn.Conv2d, Conv2dSame, DynamicConv2d)
LINEAR = (nn.Linear, TimmLinear)
NORMS = (nn.BatchNorm2d, BatchNormAct2d, nn.InstanceNorm2d, nn.LayerNorm)


def has_channels(module: nn.Module) -> bool:
    """Whether it is a layer of ours that looks after its number of channels, as pools do."""
    return isinstance(module, (*POOLS.classes, ULSAM)) and isinstance(getattr(module, "channels", None), int)


def numbers_of(module: Any) -> tuple[int, ...]:
    """Convolution: inputs, outputs, groups; linear: inputs, outputs; positions: columns', rows'; else: channels."""
    if type(module) in CONVOLUTIONS:
        return (module.in_channels, module.out_channels, module.groups)
    if type(module) in LINEAR:
        return (module.in_features, module.out_features)
    if type(module) is PositionTable:
        return (module.col.shape[1], module.row.shape[1])
    if type(module) is nn.LayerNorm:
        return tuple(module.normalized_shape)
    if type(module) in NORMS:
        return (module.num_features,)
    return (module.channels,) if has_channels(module) else ()


def width_of(module: nn.Module, side: str) -> int:
    """Channels that a module reads (side "in"), or that it writes or passes on."""
    numbers = numbers_of(module)
    if isinstance(module, PositionTable):
        return sum(numbers)
    return numbers[0] if side == "in" or len(numbers) == 1 else numbers[1]


def read_channels(net: nn.Module, unpruned: nn.Module) -> Channels:
    """The numbers of the modules of `net` that differ from those at the same path of `unpruned`, sorted by path."""
    before = {path: numbers_of(module) for path, module in unpruned.named_modules()}
    now = {path: numbers_of(module) for path, module in net.named_modules()}
    return tuple((path, *now[path]) for path in sorted(now) if now[path] and now[path] != before[path])


def resize_(net: nn.Module, channels: Channels) -> None:
    """Give modules the numbers of `channels`, in place: the first channels stay.

    Raises:
        SpecError: for a path that is not there, or numbers that its module cannot have.
    """
    modules = {path: module for path, module in net.named_modules() if numbers_of(module)}
    for path, *numbers in channels:
        if path not in modules:
            raise SpecError(
                f"channels has to name layers of the network{did_you_mean(path, modules)}, but got {path!r}"
            )
        has = numbers_of(modules[path])
        if len(numbers) != len(has) or any(number > old for number, old in zip(numbers, has, strict=False)):
            raise SpecError(f"channels of {path!r} have to be {len(has)} numbers up to {has}, but got {tuple(numbers)}")
        try:
            keep_(modules[path], *_first(has, numbers))
        except ValueError as error:
            raise SpecError(f"channels of {path!r} cannot be {tuple(numbers)}: {error}") from None
        if numbers_of(modules[path]) != tuple(numbers):
            raise SpecError(f"channels of {path!r} cannot be {tuple(numbers)}: they do not go into groups of {has}")


def _first(has: Sequence[int], numbers: Sequence[int]) -> list[list[int]]:
    """The first inputs and outputs; of a convolution, the first of each of its first groups."""
    if len(has) == 1:
        return [list(range(numbers[0]))] * 2
    groups, before = (numbers[2], has[2]) if len(has) == 3 else (1, 1)
    sides = zip(has[:2], numbers[:2], strict=True)
    return [[g * (n // before) + i for g in range(groups) for i in range(k // groups)] for n, k in sides]


def keep_(module: nn.Module, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    """Keep only these inputs and outputs of one module, in place; where the two are the same, outputs count.

    Of positions, inputs are the channels of the columns' table and outputs those of the rows'.

    Raises:
        ValueError: if the groups of a convolution would keep different numbers of channels.
    """
    handlers: dict[Any, Callable[[Any, list[int], list[int]], None]] = {
        CONVOLUTIONS: _keep_conv,
        nn.Linear: _keep_linear,
        NORMS: _keep_norm,
        PositionTable: _keep_positions,
        BlurPool2d: _keep_blur,
    }
    keep = next((handler for kind, handler in handlers.items() if isinstance(module, kind)), _keep_channels)
    keep(module, list(inputs), list(outputs))


def _keep_conv(conv: Any, inputs: list[int], outputs: list[int]) -> None:
    """Groups without outputs go; those that stay see their kept inputs."""
    in_size, out_size = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    seen: dict[int, list[int]] = {group: [] for group in range(conv.groups)}
    for i in inputs:
        seen[i // in_size].append(i % in_size)
    groups = sorted({o // out_size for o in outputs})
    counts = {(len(seen[g]), sum(o // out_size == g for o in outputs)) for g in groups}
    if len(counts) != 1 or sum(len(seen[g]) for g in groups) != len(inputs) or not inputs:
        raise ValueError(f"the {conv.groups} groups of a convolution have to keep equal numbers of channels")
    kernels = conv.weight.shape[0] // conv.out_channels
    weight = conv.weight.unflatten(0, (kernels, conv.out_channels))  # (K, out, in / groups, kh, kw)
    columns = torch.tensor([seen[o // out_size] for o in outputs], device=weight.device)  # (out', in' / groups')
    kept = weight[:, torch.tensor(outputs, device=weight.device)[:, None], columns].flatten(0, 1)
    bias = None if conv.bias is None else conv.bias[..., outputs]  # (K, out') or (out')
    _set(conv, weight=kept, bias=bias)
    conv.in_channels, conv.out_channels, conv.groups = len(inputs), len(outputs), len(groups)


def _keep_linear(linear: Any, inputs: list[int], outputs: list[int]) -> None:
    _set(linear, weight=linear.weight[outputs][:, inputs], bias=None if linear.bias is None else linear.bias[outputs])
    linear.in_features, linear.out_features = len(inputs), len(outputs)


def _keep_norm(norm: Any, _: list[int], outputs: list[int]) -> None:
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = {name: getattr(norm, name, None) for name in names}
    _set(norm, **{name: None if tensor is None else tensor[outputs] for name, tensor in tensors.items()})
    if isinstance(norm, nn.LayerNorm):
        norm.normalized_shape = (len(outputs),)
    else:
        norm.num_features = len(outputs)


def _keep_positions(table: Any, columns: list[int], rows: list[int]) -> None:
    _set(table, col=table.col[:, columns], row=table.row[:, rows])


def _keep_blur(pool: Any, _: list[int], outputs: list[int]) -> None:
    _set(pool, taps=pool.taps[outputs])
    pool.channels = len(outputs)


def _keep_channels(layer: Any, _: list[int], outputs: list[int]) -> None:
    layer.channels = len(outputs)


def _set(module: nn.Module, **tensors: Tensor | None) -> None:
    """Put new tensors in the place of a module's parameters and buffers."""
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if name in module._parameters:
            trained = module.get_parameter(name).requires_grad
            setattr(module, name, nn.Parameter(tensor.detach().clone(), requires_grad=trained))
        else:
            setattr(module, name, tensor.detach().clone())


def record_channels(net: Any, build: Callable[[Any], nn.Module]) -> Any:
    """The spec of `net` with the channels that it has; `build` makes the network of a spec."""
    with torch.device("meta"):
        unpruned = build(replace(net.spec, channels=()))
    return replace(net.spec, channels=read_channels(net, unpruned))
