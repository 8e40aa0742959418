"""Where each backbone downsamples: its stages, one stride digit each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import timm
import torch
from timm.models.efficientnet import _gen_mobilenet_v1, _gen_mobilenet_v2
from timm.models.mobilenetv3 import _gen_mobilenet_v3
from timm.models.resnet import make_blocks
from torch import nn

from attnpool.registry import did_you_mean


@dataclass(frozen=True)
class Backbone:
    """One backbone token of the grammar.

    Args:
        name: The token, e.g. "mobilenet_v2".
        timm_name: The timm model behind it.
        stages: Module path of each stage in that model, in order; one digit of the stride string each.
        placement: Where a pool stands in a stage unless the spec says otherwise: one of `PLACEMENTS`.
        scaled: Builds the model at another width, `scaled(width, **timm arguments)`; None: it has one width only.
        stem_pool: Kernel and stride of the stem's max pool, where the published network differs from timm's.
    """

    name: str
    timm_name: str
    stages: tuple[str, ...]
    placement: str = "before"
    scaled: Callable[..., nn.Module] | None = None
    stem_pool: int | None = None

    def instantiate(self, width: float = 1.0, **arguments: Any) -> nn.Module:
        """The untouched timm network; `arguments` are those of `timm.create_model`."""
        if width == 1.0:
            net = timm.create_model(self.timm_name, **arguments)
        elif self.scaled is None:
            raise ValueError(f"width has to be 1.0 for backbone {self.name!r}, but got {width}")
        elif arguments.pop("pretrained", False):
            raise ValueError(f"width has to be 1.0 for pretrained weights, but got {width}")
        else:
            net = self.scaled(width, **arguments)
        if self.stem_pool is not None:
            net.maxpool = nn.MaxPool2d(self.stem_pool)
        return net


OF_DETECTOR = "is a detector's: attnpool detect train and attnpool.detection.build take detectors"
"""What is said of a name with a colon, which only detector strings have."""
PLACEMENTS = ("before", "after_first", "end")
"""Where a pool may stand in a stage: before it, after its first block (which runs at stride 1), or at its end."""


def find_backbone(name: str) -> Backbone:
    """The backbone of a token: one of ours, or any timm model whose stages can be found.

    Raises:
        ValueError: for an unknown name (the message names the nearest), a detector's, or where no stages can be told
            apart.
    """
    if ":" in name:
        raise ValueError(OF_DETECTOR)
    return BACKBONES[name] if name in BACKBONES else _timm_backbone(name)


@cache
def _timm_backbone(name: str) -> Backbone:
    if not timm.is_model(name):
        near = did_you_mean(name, dict.fromkeys([*BACKBONES, *timm.list_models()]))
        raise ValueError(f"is not a backbone{near or did_you_mean(name, BACKBONES)}")
    try:
        with torch.device("meta"):
            net = timm.create_model(name)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"cannot be built by timm: {error}") from error
    stages = _stage_paths(net)
    if len(stages) < 2:
        raise ValueError("is a timm model without stages that can be told apart (no layer1, ..., stages or blocks)")
    return Backbone(name, name, stages)


def _stage_paths(net: nn.Module) -> tuple[str, ...]:
    """Paths of the stages under timm's habitual names: layer1.., s1.., stages.0.., or blocks.0.. of several blocks."""
    children = dict(net.named_children())
    for prefix in ("layer", "s"):
        numbered = [f"{prefix}{i}" for i in range(1, 10) if f"{prefix}{i}" in children]
        if numbered:
            return tuple(numbered)
    for container in ("stages", "blocks"):
        inside = list(children.get(container, nn.Sequential()).named_children())
        if inside and (container == "stages" or all(isinstance(m, nn.Sequential) for _, m in inside)):
            return tuple(f"{container}.{key}" for key, _ in inside)
    return ()


def _scaled_resnet(timm_name: str, width: float, **arguments: Any) -> nn.Module:
    """A timm ResNet with all its widths times `width`; timm itself fixes the stem at 64 channels."""
    channels = tuple(max(8, round(c * width / 8) * 8) for c in (64, 128, 256, 512))
    net: Any = timm.create_model(timm_name, channels=channels, **arguments)
    net.conv1 = nn.Conv2d(net.conv1.in_channels, channels[0], 7, 2, 3, bias=False)
    net.bn1 = nn.BatchNorm2d(channels[0])
    blocks, _ = make_blocks((type(net.layer1[0]),), channels[:1], (len(net.layer1),), channels[0])
    net.layer1 = blocks[0][1]
    net.init_weights()
    return net


def _numbered(prefix: str, *counts: int) -> tuple[str, ...]:
    """("blocks.0.0", "blocks.1.0", "blocks.1.1", ...): every block of stages with `counts` blocks."""
    return tuple(f"{prefix}.{stage}.{block}" for stage, count in enumerate(counts) for block in range(count))


_LAYERS = ("layer1", "layer2", "layer3", "layer4")
_V1 = tuple(f"blocks.{i}" for i in range(5))
_V2 = tuple(f"blocks.{i}" for i in range(7))
_mobilenet_v1 = partial(_gen_mobilenet_v1, "mobilenetv1_100")
_mobilenet_v2 = partial(_gen_mobilenet_v2, "mobilenetv2_100")
_v3_small = partial(_gen_mobilenet_v3, "mobilenetv3_small_100")
_v3_large = partial(_gen_mobilenet_v3, "mobilenetv3_large_100")
_resnet18 = partial(_scaled_resnet, "resnet18")
_resnet50 = partial(_scaled_resnet, "resnet50")

BACKBONES = {
    b.name: b
    for b in (
        Backbone("resnet18", "resnet18", _LAYERS, "end", _resnet18, stem_pool=2),
        Backbone("resnet18_v2", "resnet18", _LAYERS, "after_first", _resnet18, stem_pool=2),
        Backbone("resnet50", "resnet50", _LAYERS, "end", _resnet50, stem_pool=2),
        Backbone("resnet50_v2", "resnet50", _LAYERS, "after_first", _resnet50, stem_pool=2),
        Backbone("resnext50", "resnext50_32x4d", _LAYERS),
        Backbone("mobilenet", "mobilenetv2_100", _V2, "before", _mobilenet_v2),
        Backbone("mobilenet_v2", "mobilenetv2_100", _V2, "after_first", _mobilenet_v2),
        Backbone("mobilenetv1", "mobilenetv1_100", _V1, "before", _mobilenet_v1),
        Backbone("mobilenetv3_small", "mobilenetv3_small_100", _numbered("blocks", 1, 2, 3, 2, 3), "before", _v3_small),
        Backbone(
            "mobilenetv3_large", "mobilenetv3_large_100", _numbered("blocks", 1, 2, 3, 4, 2, 3), "before", _v3_large
        ),
    )
}
"""Backbone tokens of our own; every other token is looked up in timm."""
