"""From a spec to a network: a timm backbone, its strides set, its pools put in."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from attnpool.layers.dynamic_conv import make_dynamic_
from attnpool.models.attention import insert_attention_
from attnpool.models.blocks import set_stride_
from attnpool.models.channels import resize_
from attnpool.models.features import StageFeatures, StageOutput
from attnpool.models.sites import POOLING, Shapes, find_sites, trace_shapes
from attnpool.models.stages import BACKBONES
from attnpool.models.surgery import blocks_of, insert_, restride_, unstride_
from attnpool.pools._deformable import DeformableConv2d
from attnpool.pools.nlp import SelfAttentivePool2d
from attnpool.poolspec import SpecError, StagePool
from attnpool.registry import POOLS
from attnpool.spec import ModelSpec, parse

TRACE_SIZE = (64, 64)  # only the channels are read off it


def create_model(
    spec: str | ModelSpec,
    *,
    num_classes: int | None = None,
    pretrained: bool | str = False,
    features_only: bool = False,
    **settings: Any,
) -> nn.Module:
    """The network of an architecture string or spec, ready to train; its `spec` attribute says what it is.

    Args:
        spec: E.g. "mobilenet_v2-nlp_headfix2-1222121", or a `ModelSpec`.
        num_classes: Outputs of the classifier; default: what the spec says, 1000 for a string.
        pretrained: Load timm's weights for the backbone, from its hub or cache (True) or from a file of them
            (.safetensors, or .pth, which is read without executing anything); pools and classifier start fresh.
        features_only: Return `StageFeatures`, which gives the map after each stage instead of logits.
        settings: Any other field of `ModelSpec` that the string cannot say: width, in_channels, placement, ...

    Returns:
        A timm network, (B, in_channels, H, W) to (B, num_classes), or its `StageFeatures`.

    Raises:
        SpecError: if the string or a setting is not valid, or the pretrained weights cannot be had.
    """
    if num_classes is not None:
        settings["num_classes"] = num_classes
    spec = parse(spec) if isinstance(spec, str) else spec
    net = build(replace(spec, **settings), pretrained=pretrained)
    return StageFeatures(net) if features_only else net


def build(spec: ModelSpec, *, pretrained: bool | str = False) -> nn.Module:
    """The network of a spec; see `create_model`."""
    if pretrained and spec.channels:
        raise SpecError("channels has to be empty for pretrained weights: they are of the network that is not pruned")
    net = _backbone(spec, pretrained)
    shapes = trace_shapes(net, TRACE_SIZE)
    striding = {path for site in find_sites(net, shapes) for path in site.striding}
    stages = spec.family.stages
    stem = sorted((p for p in striding if not p.startswith(tuple(f"{s}." for s in stages))), key=list(shapes).index)
    placement = spec.placement or spec.family.placement
    reduction = spec.prepool_stride or TRACE_SIZE[0] // shapes[stages[0]][0][-1]
    outputs = []
    for path, digit, pool in zip(stages, spec.strides, spec.stage_pools(), strict=True):
        inside = tuple(p for p in striding if p.startswith(f"{path}."))
        output = _set_stage_(net, path, inside, digit, pool, placement, shapes)
        reduction *= digit
        outputs.append(StageOutput(output, shapes[path][1][1], reduction))
    if spec.prepool_stride is not None:
        _set_stem_(net, stages[0], stem, spec.prepool_stride, spec.stem_pool(), shapes)
    if spec.dynamic:
        make_dynamic_(net, keep=_stays_static, copy_weights=bool(pretrained))
    if spec.attention:
        moved = insert_attention_(net, spec.attention, input_size=spec.input_size or _roomy(outputs))
        outputs = [replace(stage, path=moved.get(stage.path, stage.path)) for stage in outputs]
    net.spec, net.stage_outputs = spec, tuple(outputs)
    _start_classifier_(net, bool(pretrained))
    if spec.backbone not in BACKBONES:  # ours are known to follow
        _check_reductions(net)
    if spec.channels:
        _resize_(net)
    return net


def _backbone(spec: ModelSpec, pretrained: bool | str) -> Any:
    """The network as timm has it, with its weights if asked for."""
    plain = {"num_classes": spec.num_classes, "in_chans": spec.in_channels, "drop_rate": spec.dropout}
    if not pretrained:
        return spec.family.instantiate(spec.width, **plain)
    where = {"pretrained_cfg_overlay": {"file": pretrained}} if isinstance(pretrained, str) else {}
    rule = "pretrained weights have to be those of the backbone"
    if where and not Path(str(pretrained)).is_file():
        raise SpecError(f"{rule}, but {pretrained} is no file")
    try:
        return spec.family.instantiate(spec.width, **plain, pretrained=True, **where)
    except ValueError:  # of an argument
        raise
    except Exception as error:  # reading a file that holds no weights raises errors of many types
        source = pretrained if where else f"timm's hub (without a network: pretrained_file), {spec.family.timm_name}"
        raise SpecError(f"{rule}, but {source} fails: {type(error).__name__}: {error}") from error


def _start_classifier_(net: Any, pretrained: bool) -> None:
    """Fresh weights of the classifier by the number of its inputs, as `nn.Linear` has them.

    timm takes those of MobileNets by the number of classes, which suits 1000: with 10, logits are ten times as large,
    the first loss is 4 to 6 instead of log(10), and the first hundreds of steps go into unlearning them.
    """
    head = net.get_classifier()
    comes_along = pretrained and net.num_classes == net.pretrained_cfg["num_classes"]
    if isinstance(head, nn.Linear) and not comes_along:
        head.reset_parameters()


def _resize_(net: Any) -> None:
    """Give the network the channels of its spec: those of a pruned one."""
    resize_(net, net.spec.channels)
    try:
        shapes = trace_shapes(net, _roomy(net.stage_outputs))
    except (RuntimeError, ValueError) as error:
        raise SpecError(f"channels have to fit together, but the network of {net.spec} fails: {error}") from error
    net.stage_outputs = tuple(replace(s, channels=shapes[s.path][1][1]) for s in net.stage_outputs)


def _roomy(stages: Sequence[StageOutput]) -> tuple[int, int]:
    """An image that the last stage still makes a map of 2 x 2 of, up to 512 pixels a side."""
    side = min(512, max(TRACE_SIZE[0], 2 * max(stage.reduction for stage in stages)))
    return (side, side)


def _check_reductions(net: Any) -> None:
    """Refuse a timm network that does not shrink as its string says: it strides in ways that we do not know."""
    side, _ = size = _roomy(net.stage_outputs)
    try:
        shapes = trace_shapes(net, size)
        wrong = [s.path for s in net.stage_outputs if abs(shapes[s.path][1][-1] - side / s.reduction) > 1]
    except (RuntimeError, KeyError, AssertionError, ValueError):
        wrong = [stage.path for stage in net.stage_outputs]
    if wrong:
        raise SpecError(
            f"backbone has to stride by convolutions and pools alone, but {net.spec} does not at {wrong[0]}"
        )


def _set_stage_(
    net: nn.Module,
    path: str,
    striding: tuple[str, ...],
    digit: int,
    pool: StagePool | None,
    placement: str,
    shapes: Shapes,
) -> str:
    """Give the stage at `path` the stride of its digit, by convolutions or a pool; returns the path of its end."""
    carries_pool = pool is not None and placement == "after_first"
    blocks = blocks_of(net, path)
    identity = not carries_pool and (digit == 1 or pool is not None)
    set_stride_(net, blocks[0], striding, 1 if pool is not None else digit, identity)
    if pool is None:
        return path
    anchor = blocks[-1] if placement == "end" else blocks[0]
    channels = shapes[anchor][0 if placement == "before" else 1][1]
    inserted = insert_(net, anchor, _layer(pool, channels), after=placement != "before")
    return path if placement == "before" or inserted.startswith(f"{path}.") else inserted


def _set_stem_(
    net: nn.Module, first_stage: str, striding: list[str], stride: int, pool: StagePool | None, shapes: Shapes
) -> None:
    """Run the stem at stride 1 with the pool after it or, without a pool, let its first convolution stride."""
    for path in striding:
        if isinstance(net.get_submodule(path), POOLING):
            net.set_submodule(path, nn.Identity())
        else:
            unstride_(net, path)
    if pool is None:
        restride_(net, striding[0], stride)
        return
    layer = _layer(pool, shapes[first_stage][0][1])
    if isinstance(getattr(net, "maxpool", None), nn.Identity):
        net.maxpool = layer
    else:
        insert_(net, blocks_of(net, first_stage)[0], layer, after=False, name="prepool")


def _stays_static(module: nn.Module) -> bool:
    """Whether its convolutions stay as they are under `dy`: as published, those of all pools but self-attentive ones.

    A deformable convolution has no dynamic form.
    """
    is_pool = isinstance(module, POOLS.classes) and not isinstance(module, SelfAttentivePool2d)
    return is_pool or isinstance(module, DeformableConv2d)


def _layer(pool: StagePool, channels: int) -> nn.Module:
    if pool.is_average:
        return POOLS["avgp"](channels, pool.stride)
    return POOLS[pool.method](channels, pool.stride, **pool.options)
