"""Weights of the published repository, by name, to ours: tables of names, and a check that nothing is left over.

The repository is C-Fun/Self-Attentive-Pooling-for-Efficient-Deep-Learning (Chen et al., WACV 2023).
"""

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from attnpool.layers.dynamic_conv import START
from attnpool.models.build import build
from attnpool.models.stages import Backbone
from attnpool.spec import ModelSpec

Table = Sequence[tuple[str, str]]
"""Pairs of a pattern of a published name and what stands for it in ours; the first that fits counts."""

_PREFIX = r"(?:module\.|net\.)*"
_WEIGHTED = r"(?:logit\.pool_weight\.)?"
_CONV = r"((?:attention\.fc[12]\.)?\w+)"  # weight and bias, also of a dynamic convolution
LAYER: Table = (
    (rf"{_WEIGHTED}downsample\.0\.{_CONV}", r"attend.embed.\1"),
    (rf"{_WEIGHTED}downsample\.1\.(\w+)", r"attend.norm.\1"),
    (rf"{_WEIGHTED}multihead_attn\.in_proj_(\w+)", r"attend.attention.qkv.\1"),
    (rf"{_WEIGHTED}multihead_attn\.out_proj\.(\w+)", r"attend.attention.proj.\1"),
    (rf"{_WEIGHTED}pos_embed\.(row|col)_embed\.weight", r"attend.position.\1"),
    (rf"logit\.pool_weight\.restore\.0\.{_CONV}", r"restore.\1"),
    (r"logit\.pool_weight\.restore\.1\.(\w+)", r"restore_norm.\1"),
    (r"logit\.pool_weight\.logit\.(\d\.\w+)", r"logit.\1"),
    (r"map\.0\.(\w+)", r"conv.\1"),
    (r"map\.1\.(\w+)", r"norm.\1"),
    (r"ToHidden\.1\.(\w+)", r"hidden.0.\1"),
    (r"ToHidden\.2\.(\w+)", r"hidden.1.\1"),
    (r"ToMean\.(\d\.\w+)", r"to_mean.\1"),
    (r"ToSigma\.(\d\.\w+)", r"to_sigma.\1"),
)
"""Pooling layers, whatever the method."""

DYNAMIC_CONV: Table = ((_CONV, r"\1"),)
SUBSPACE = r"subspaces\.\d+\.(?:conv|bn)_(?:dws|point)\.\w+"
"""A published name of one group of ULSAM; ours holds all groups in one tensor."""

RESNET: Table = (
    (r"pool\.(.*)", r"maxpool.POOL.\1"),
    (r"(layer\d)\.(?:\d\.pooling|pool)\.(.*)", r"\1.pool.POOL.\2"),
    (r"((?:conv1|bn1|layer\d|fc)\..*)", r"\1"),
)

_BLOCK = r"features\.(\d)\.(\d)\.conv\.{}\." + _CONV
_FIRST = r"features\.(0)\.(\d)\.conv\.{}\." + _CONV
MOBILENET_V2: Table = (
    (rf"conv1\.0\.{_CONV}", r"conv_stem.\1"),
    (r"conv1\.1\.(\w+)", r"bn1.\1"),
    (r"conv1_pool\.(.*)", r"blocks.0.prepool.POOL.\1"),
    (rf"conv2\.0\.{_CONV}", r"conv_head.\1"),
    (r"conv2\.1\.(\w+)", r"bn2.\1"),
    (r"(classifier\..*)", r"\1"),
    (
        r"features\.(\d)\.\d\.(?:pooling\.)?((?:logit|To\w+|downsample|multihead_attn|map|pos_embed)\..*)",
        r"blocks.\1.pool.POOL.\2",
    ),
    *(
        (_FIRST.format(i), rf"blocks.\1.\2.{name}.\3")
        for i, name in ((0, "conv_dw"), (1, "bn1"), (3, "conv_pw"), (4, "bn2"))
    ),
    *(
        (_BLOCK.format(i), rf"blocks.\1.\2.{name}.\3")
        for i, name in ((0, "conv_pw"), (1, "bn1"), (3, "conv_dw"), (4, "bn2"), (6, "conv_pwl"), (7, "bn3"))
    ),
)
"""timm's names of MobileNetV2; the first block expands nothing."""

NETWORKS = {"resnet18": RESNET, "resnet50": RESNET, "mobilenetv2_100": MOBILENET_V2}
"""By timm name."""


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
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        keys = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
        raise ConversionError(
            f"{file} has to hold a state dict, alone or under 'state_dict', but holds: {keys or 'nothing'}"
        )
    return state


def published_classes(state: Mapping[str, Tensor]) -> int:
    """How many classes the published weights of a network tell apart: the rows of its last layer."""
    for name, value in state.items():
        if re.fullmatch(rf"{_PREFIX}(fc|classifier)\.weight", name) and value.ndim == 2:
            return value.shape[0]
    raise ConversionError("weights have to be those of a classifier, but have no fc.weight and no classifier.weight")


def published_layer_state_dict(kind: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict of one layer.

    Args:
        kind: A pooling method as registered ("nlp", "lip", "gaussian_pool", ...), "dynamic_conv" or "ulsam".
        state: Published names and tensors.

    Raises:
        ConversionError: for a name that no such layer has.
    """
    if kind == "ulsam":
        return _join_subspaces(state)
    table = DYNAMIC_CONV if kind == "dynamic_conv" else LAYER
    named = {name: _translate(name, table) for name in state}
    _refuse(f"a {kind} layer", unknown=[name for name, ours in named.items() if ours is None])
    return _as_dynamic({ours: state[name] for name, ours in named.items() if ours is not None})


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
    named = {name: _network_name(re.sub(f"^{_PREFIX}", "", name), spec, backbone) for name in state}
    unknown = [name for name, ours in named.items() if ours is None]
    found = _as_dynamic({ours: state[name] for name, ours in named.items() if ours is not None})
    expected = {name: value.shape for name, value in build(spec).state_dict().items()}
    averages = tuple(_average_pools(spec, backbone))
    dropped = [name for name in found if name not in expected and name.startswith(averages)] if averages else []
    if dropped:
        warnings.warn(f"{spec}: dropped {len(dropped)} weights of stages that are average pooling", stacklevel=2)
    found = {name: value for name, value in found.items() if name not in dropped}
    _refuse(
        str(spec),
        unknown=[*unknown, *(found.keys() - expected.keys())],
        missing=expected.keys() - found.keys(),
        mis_shaped=[
            f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name])}"
            for name in found.keys() & expected.keys()
            if found[name].shape != expected[name]
        ],
    )
    return found


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
    _refuse("a ulsam layer", unknown=[name for name in state if not re.fullmatch(SUBSPACE, name)])
    parts: dict[str, dict[int, Tensor]] = {}
    for name, value in state.items():
        _, group, ours = name.split(".", 2)
        parts.setdefault(ours, {})[int(group)] = value
    groups = {name: [found[i] for i in sorted(found)] for name, found in parts.items()}
    return {name: torch.cat(values) if values[0].ndim else values[0] for name, values in groups.items()}


def _translate(name: str, table: Table) -> str | None:
    """Our name, or None for one that the table does not know."""
    for pattern, ours in table:
        if (match := re.fullmatch(pattern, name)) is not None:
            return match.expand(ours)
    return None


def _network_name(name: str, spec: ModelSpec, backbone: Backbone) -> str | None:
    """Our name of one published weight, its prefixes taken off."""
    block = re.match(r"features\.(\d)\.(\d)\.conv\.", name)
    if block and backbone.placement == "before" and spec.stage_pools()[int(block[1])] is not None:
        behind_pool = int(block[2]) - 1  # the pool counts as the first block
        name = re.sub(r"\.\d\.conv", f".{behind_pool}.conv", name, count=1)
    ours = _translate(name, NETWORKS[backbone.timm_name])
    if ours is None or "POOL." not in ours:
        return ours
    path, _, published = ours.partition("POOL.")
    layer = _translate(published, LAYER)
    return None if layer is None else path + layer


def _average_pools(spec: ModelSpec, backbone: Backbone) -> list[str]:
    """Where in our network a published pool is plain average pooling."""
    paths = [
        f"{stage}.pool." for stage, p in zip(backbone.stages, spec.stage_pools(), strict=True) if p and p.is_average
    ]
    stem = spec.stem_pool()
    return paths + (["maxpool.", "blocks.0.prepool."] if stem is not None and stem.is_average else [])


def _refuse(where: str, **problems: Iterable[str]) -> None:
    """Raise a `ConversionError` that lists what is unknown, missing or mis-shaped, unless nothing is."""
    texts = []
    for kind, names in problems.items():
        first, more = sorted(names)[:LISTED], len([*names]) - LISTED
        if first:
            texts.append(f"{kind.replace('_', '-')}: {', '.join(first)}" + (f" and {more} more" if more > 0 else ""))
    if texts:
        raise ConversionError(f"weights do not fit {where}: {'; '.join(texts)}")
