"""The maps after each stage of a network, for detection."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class StageOutput:
    """Where a stage ends: path of its last module, its channels, and how much smaller than the image a side is."""

    path: str
    channels: int
    reduction: int


class StageFeatures(nn.Module):
    """The map after each stage, in order, instead of logits.

    Args:
        net: A network of `create_model`; its `stage_outputs` says where the stages end.

    Attributes:
        channels: Channels of each map.
        reductions: Factor by which each map is smaller than the image, along a side.

    Shape:
        (B, C, H, W) to a list of (B, channels[i], H / reductions[i], W / reductions[i]).
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.channels = [stage.channels for stage in net.stage_outputs]
        self.reductions = [stage.reduction for stage in net.stage_outputs]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: dict[str, Tensor] = {}

        def keep(path: str) -> Callable[..., None]:
            return lambda _module, _inputs, output: maps.__setitem__(path, output)

        paths = [stage.path for stage in self.net.stage_outputs]
        handles = [self.net.get_submodule(path).register_forward_hook(keep(path)) for path in paths]
        try:
            self.net.forward_features(x)
        finally:
            for handle in handles:
                handle.remove()
        return [maps[path] for path in paths]
