"""What two papers publish of parameters, operations and memory, and how each figure comes about here."""

from typing import Any, NamedTuple

from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual
from torch import nn

from attnpool import create_model
from attnpool.accounting.graph import on_meta, record
from attnpool.accounting.memory import boundaries, group
from attnpool.models.sites import blank_image
from attnpool.pools.rnnpool import RNNPool2d


class Ulsam(NamedTuple):
    """A row of ULSAM's table: attention in a network, and what the paper says it has, in millions."""

    network: str
    attention: str
    macs: float
    params: float | None = None
    width: float = 1.0


V1, V2 = "mobilenetv1-skip-12222", "mobilenet-skip-1222121"
ULSAM = (
    Ulsam(V2, "", 300.0, 3.4),
    Ulsam(V2, "replace:blocks.4.2", 277.34, 3.28),
    Ulsam(V2, "replace:blocks.5.2", 284.54, 3.08),
    Ulsam(V2, "replace:blocks.4.2,replace:blocks.5.2", 261.88, 2.97),
    Ulsam(V2, "replace:blocks.4.1,replace:blocks.4.2,replace:blocks.5.1,replace:blocks.5.2", 224.16, 2.54),
    Ulsam(V2, "after:blocks.5.2", 300.01, 3.4),
    Ulsam(V1, "", 569.0, 4.2),
    Ulsam(V1, "replace:blocks.3.5", 517.0, 3.9),
    Ulsam(V1, "", 325.0, width=0.75),
    Ulsam(V1, "replace:blocks.3.5", 296.0, width=0.75),
    Ulsam(V1, "", 149.0, width=0.5),
    Ulsam(V1, "replace:blocks.3.5", 136.0, width=0.5),
)
"""Saini et al., WACV 2020, at 224 pixels and 1,000 classes. The paper does not give positions that we could find: these
are the last of the blocks whose cost gives its figures."""


def rnnpool_mobilenet(hidden: int = 16) -> nn.Module:
    """MobileNetV2 with RNNPool (patch 6, stride 4) after its stem in place of its first three stages (Saha et al.)."""
    net: Any = create_model("mobilenet-skip-1222121")
    pool = RNNPool2d(32, 4, 4, extent=6, hidden=(hidden, hidden))
    pool.project = nn.Identity()  # 4 * hidden channels, as published
    net.blocks[0], net.blocks[1], net.blocks[2] = pool, nn.Identity(), nn.Identity()
    net.blocks[3][0] = InvertedResidual(4 * hidden, 64, stride=2, exp_ratio=6.0, act_layer=nn.ReLU6)
    return net.eval()


def block_bytes(model: nn.Module, side: int = 224) -> int:
    """The most that an inverted residual reads and makes in float32, its inside not counted: RNNPool's rule."""
    blocks = {p for p, m in model.named_modules() if isinstance(m, InvertedResidual | DepthwiseSeparableConv)}
    light = on_meta(model)
    graph = record(light, blank_image(light, (side, side)))
    groups = [g for g in group(graph, blocks) if any(graph.steps[g.start].layer.startswith(b) for b in blocks)]
    return max(sum(graph.buffers[b].bytes(4) for b in reads | makes) for reads, makes in boundaries(graph, groups))
