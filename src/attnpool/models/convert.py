"""Weights of the published repositories to ours: each by its name, and a check that nothing is left over."""

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from attnpool.layers.dynamic_conv import START
from attnpool.models.build import build
from attnpool.models.published_names import DYNAMIC_CONV, NETWORKS, PLACES, POOLING, PREFIX, SUBSPACE, UNEQUAL, Table
from attnpool.poolspec import PoolSpec
from attnpool.registry import POOLS, did_you_mean
from attnpool.spec import ModelSpec

PoolT = TypeVar("PoolT", PoolSpec, PoolSpec | None)
LISTED = 20
"""Names that an error lists of each kind."""


class ConversionError(ValueError):
    """Weights that are not those of the network; the message lists the unknown, missing and mis-shaped ones."""


def read_published(file: str | Path) -> dict[str, Tensor]:
    """The weights in a published checkpoint: a state dict, alone or under `state_dict`; nothing is executed.

    Raises:
        ConversionError: for a file that is not there, is no checkpoint, or holds anything but tensors and plain values.
    """
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConversionError(f"{file} cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise ConversionError(f"{file} has to hold tensors and plain values alone, and is not unpickled") from error
    except (RuntimeError, EOFError, ValueError, LookupError) as error:
        raise ConversionError(f"{file} is not a whole checkpoint: {str(error).partition(chr(10))[0]}") from error
    state = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(state, dict) or not _is_state(state):
        keys = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
        raise ConversionError(f"{file} has to hold a state dict, alone or under 'state_dict', but holds: {keys}")
    if not state:
        raise ConversionError(f"{file} has to hold a state dict, alone or under 'state_dict', but it is empty")
    return state


def _is_state(state: dict[Any, Any]) -> bool:
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items())


def published_classes(state: Mapping[str, Tensor]) -> int:
    """How many classes the published weights of a network tell apart: the rows of its last layer."""
    for name, value in state.items():
        if re.fullmatch(rf"{PREFIX}(fc|classifier)\.weight", name) and value.ndim == 2:
            return value.shape[0]
    raise ConversionError("weights have to be those of a classifier, but have no fc.weight and no classifier.weight")


def published_layer_state_dict(kind: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict of one layer.

    Args:
        kind: A pooling method as registered ("nlp", "lip", "gaussian_pool", ...), "dynamic_conv" or "ulsam".
        state: Published names and tensors.

    Raises:
        ConversionError: for an unknown kind, or names that such a layer does not have.
    """
    state = {re.sub(f"^{PREFIX}", "", name): value for name, value in state.items()}
    if kind == "ulsam":
        return _join_subspaces(state)
    table = DYNAMIC_CONV if kind == "dynamic_conv" else _table(kind)
    named = {name: _translate(name, table) for name in state}
    _refuse(f"a layer of {kind}", unknown=[name for name, ours in named.items() if ours is None])
    return _as_dynamic({ours: state[name] for name, ours in named.items() if ours is not None})


def _table(kind: str) -> Table:
    known = [name for name, entry in POOLS.items() if entry.base in POOLING and name not in UNEQUAL]
    if kind not in known:
        near = did_you_mean(kind, [*known, "dynamic_conv", "ulsam"])
        raise ConversionError(f"kind has to be of a layer that was published, and equal{near}, but got {kind!r}")
    return POOLING[POOLS[kind].base]


def published_state_dict(state: Mapping[str, Tensor], spec: ModelSpec) -> dict[str, Tensor]:
    """Our state dict of a network, from a published one with or without the prefixes `module.` and `net.`.

    Weights of a stage that is exactly average pooling are dropped, with a warning: the outputs stay equal.

    Args:
        state: Published names and tensors.
        spec: The network; its `num_classes` and `in_channels` have to be those of the weights.

    Raises:
        ConversionError: if the backbone was not published, or names or shapes do not fit.
    """
    backbone = spec.family
    if backbone.timm_name not in NETWORKS:
        raise ConversionError(f"spec has to be of a published backbone ({', '.join(NETWORKS)}), but got {spec}")
    pools = [pool for pool in (*spec.stage_pools(), spec.stem_pool()) if pool is not None]
    if unequal := [pool.method for pool in pools if pool.method in UNEQUAL]:
        raise ConversionError(f"spec has to be of methods whose published form is ours, but {unequal[0]!r} is another")
    names = {name: _network_name(re.sub(f"^{PREFIX}", "", name), spec) for name in state}
    ours = [name for name in names.values() if name is not None]
    found = _as_dynamic({name: state[published] for published, name in names.items() if name is not None})
    expected = {name: value.shape for name, value in build(spec).state_dict().items()}
    averages = _average_pools(spec)
    shapes = {**expected, **averages}
    _refuse(
        str(spec),
        unknown=[
            *(n for n, name in names.items() if name is None),
            *(found.keys() - shapes.keys()),
        ],
        twice={name for name in ours if ours.count(name) > 1},
        missing=expected.keys() - found.keys(),
        mis_shaped=[
            f"{name} {tuple(value.shape)} instead of {tuple(shape)}"
            for name, value in found.items()
            if (shape := shapes.get(name, value.shape)) != value.shape
        ],
    )
    dropped = found.keys() & averages.keys()
    if dropped:
        warnings.warn(f"{spec}: dropped {len(dropped)} weights of stages that are average pooling", stacklevel=2)
    return {name: value for name, value in found.items() if name not in dropped}


def _as_dynamic(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Dynamic convolutions as ours: the kernels in one dimension with the output channels, and the temperature added.

    The published code never changes it from its start.
    """
    for gate in [name.removesuffix("fc1.weight") for name in state if name.endswith("attention.fc1.weight")]:
        state[f"{gate}temperature"] = torch.tensor(START)
        weight = gate.removesuffix("attention.") + "weight"
        if weight in state and state[weight].ndim == 5:
            state[weight] = state[weight].flatten(0, 1)
    return state


def _join_subspaces(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The groups' tensors one after the other; of the counters of batches, which are all the same, one."""
    _refuse("a layer of ulsam", unknown=[name for name in state if not re.fullmatch(SUBSPACE, name)])
    parts: dict[str, dict[int, Tensor]] = {}
    for name, value in state.items():
        _, group, ours = name.split(".", 2)
        parts.setdefault(ours, {})[int(group)] = value
    numbers = range(max((len(found) for found in parts.values()), default=0))
    gaps = [f"subspaces.{i}.{name}" for name, found in parts.items() for i in numbers if i not in found]
    _refuse("a layer of ulsam", missing=gaps)
    groups = {name: [found[i] for i in numbers] for name, found in parts.items()}
    return {name: torch.cat(values) if values[0].ndim else values[0] for name, values in groups.items()}


def _translate(name: str, table: Table) -> str | None:
    """Our name, or None for one that the table does not know."""
    for pattern, ours in table:
        if (match := re.fullmatch(pattern, name)) is not None:
            return match.expand(ours)
    return None


def _network_name(name: str, spec: ModelSpec) -> str | None:
    """Our name of one published weight, its prefixes taken off."""
    backbone = spec.family
    block = re.match(r"features\.(\d)\.(\d)\.conv\.", name)
    if block and backbone.placement == "before" and spec.stage_pools()[int(block[1])] is not None:
        behind_pool = int(block[2]) - 1  # the pool counts as the first block
        name = re.sub(r"\.\d\.conv", f".{behind_pool}.conv", name, count=1)
    name = re.sub("^" + PLACES[backbone.placement][0], PLACES[backbone.placement][1], name)
    ours = _translate(name, NETWORKS[backbone.timm_name])
    if ours is None or "POOL." not in ours:
        return ours
    path, _, published = ours.partition("POOL.")
    is_stem = path.startswith(("maxpool", "blocks.0.prepool"))
    pool = spec.prepool if is_stem else spec.pool
    table = POOLING.get(POOLS[pool.method].base, ()) if pool is not None else ()
    layer = _translate(published, table)
    return None if layer is None else path + layer


def _average_pools(spec: ModelSpec) -> dict[str, torch.Size]:
    """Names and shapes of the weights, in our terms, of published pools that are plain average pooling in ours."""
    stages = zip(spec.family.stages, spec.stage_pools(), strict=True)
    places = {f"{stage}.pool": pool for stage, pool in stages}
    places |= dict.fromkeys(("maxpool", "blocks.0.prepool"), spec.stem_pool())
    average = {path: pool for path, pool in places.items() if pool is not None and pool.is_average}
    if not average:
        return {}
    plain = replace(spec, pool=_without_window(spec.pool), prepool=_without_window(spec.prepool))
    shapes = {name: value.shape for name, value in build(plain).state_dict().items()}
    return {name: shape for name, shape in shapes.items() if name.startswith(tuple(f"{path}." for path in average))}


def _without_window(pool: PoolT) -> PoolT:
    """The pool with the same weights that is no average."""
    if pool is None or not POOLS[pool.method].takes("normalize"):
        return pool
    return replace(pool, window_norm=False)


def _refuse(where: str, **problems: Iterable[str]) -> None:
    """Raise a `ConversionError` that lists what is unknown, missing or mis-shaped, unless nothing is."""
    texts = []
    for kind, names in problems.items():
        first, more = sorted(names)[:LISTED], len([*names]) - LISTED
        if first:
            texts.append(f"{kind.replace('_', '-')}: {', '.join(first)}" + (f" and {more} more" if more > 0 else ""))
    if texts:
        raise ConversionError(f"weights do not fit {where}: {'; '.join(texts)}")
