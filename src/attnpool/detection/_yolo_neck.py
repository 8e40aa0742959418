"""What stands between a backbone's maps and YOLOv3's predictions."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnpool.detection._yolo_boxes import ANCHORS

PRIOR = 0.01  # objectness of every prediction before training


class YOLONeck(nn.Module):
    """At each level, five convolutions, over its map and what the coarser level found; then the head: a 3x3 and a 1x1.

    Redmon and Farhadi, 2018, https://arxiv.org/abs/1804.02767: convolutions are 1x1 to half of the level's channels and
    3x3 back to all of them in turn, each with batch norm and leaky ReLU 0.1; what the coarser level found after its
    five goes through a 1x1 to half of the finer level's channels, and up by nearest neighbour to the finer map. Ours is
    the head's start: every objectness is about 0.01, so that training does not begin by taking back boxes.

    Args:
        channels: Of each level, the finest first.
        classes: Object classes K.

    Shape:
        Maps (B, channels[i], h, w) to as many (B, 3 * (5 + K), h, w).
    """

    def __init__(self, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        halves = [max(1, c // 2) for c in channels]
        self.up = nn.ModuleList(conv(*pair, 1) for pair in zip(halves[1:], halves[:-1], strict=True))
        inputs = [c + half for c, half in zip(channels[:-1], halves[:-1], strict=True)] + [channels[-1]]
        self.blocks = nn.ModuleList(map(block, inputs, halves, channels))
        self.heads = nn.ModuleList(head(*pair, ANCHORS * (5 + classes)) for pair in zip(halves, channels, strict=True))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        out: list[Tensor] = []
        found = None
        for level in reversed(range(len(maps))):
            x = maps[level]
            if found is not None:
                up = F.interpolate(self.up[level](found), size=x.shape[-2:], mode="nearest")
                x = torch.cat([up, x], dim=1)  # (B, half + channels, h, w)
            found = self.blocks[level](x)  # (B, half, h, w)
            out.append(self.heads[level](found))  # (B, 3 * (5 + K), h, w)
        return out[::-1]


def conv(inputs: int, outputs: int, kernel_size: int) -> nn.Sequential:
    """LeakyReLU(BN(conv)) of stride 1."""
    layer = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1, inplace=True))


def block(inputs: int, half: int, channels: int) -> nn.Sequential:
    """Five convolutions that end at half of the channels."""
    return nn.Sequential(
        conv(inputs, half, 1),
        conv(half, channels, 3),
        conv(channels, half, 1),
        conv(half, channels, 3),
        conv(channels, half, 1),
    )


def head(inputs: int, channels: int, outputs: int) -> nn.Sequential:
    """A convolution 3x3 and the one that predicts."""
    last = nn.Conv2d(channels, outputs, 1)
    bias = torch.zeros(ANCHORS, outputs // ANCHORS)
    bias[:, 4] = math.log(PRIOR / (1 - PRIOR))
    last.bias = nn.Parameter(bias.flatten())
    return nn.Sequential(conv(inputs, channels, 3), last)
