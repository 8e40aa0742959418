"""Between boxes and the numbers of YOLOv3's head: which prediction answers for a box, and what it should be."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnpool.detection.anchors import shape_iou

ANCHORS = 3  # of each level


@dataclass(frozen=True)
class Grid:
    """What the head says at one level: tx, ty, tw, th, objectness and classes, for each anchor in each cell.

    Args:
        raw: (B, ANCHORS, rows, columns, 5 + classes).
        anchors: (ANCHORS, 2), widths and heights in pixels.
        cell: (2,), width and height of a cell in pixels.
    """

    raw: Tensor
    anchors: Tensor
    cell: Tensor

    def decode(self) -> Tensor:
        """Boxes in pixels: centre (cell + sigmoid(tx, ty)) * cell size, sides anchor * exp(tw, th).

        Shape:
            (B, ANCHORS, rows, columns, 4), as x1, y1, x2, y2.
        """
        rows, columns = self.raw.shape[2:4]
        x, y = (torch.arange(n, device=self.raw.device) for n in (columns, rows))
        corner = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)  # (rows, columns, 2)
        centre = (corner + self.raw[..., :2].sigmoid()) * self.cell
        half = self.anchors[:, None, None] * self.raw[..., 2:4].exp() / 2
        return torch.cat([centre - half, centre + half], dim=-1)

    def encode(self, boxes: Tensor, anchor: Tensor) -> tuple[Tensor, Tensor]:
        """The cell of each box's centre, and the sigmoids of tx, ty and the tw, th that decode to the box.

        A centre outside the image counts as on its border.

        Shape:
            boxes (N, 4) and anchor (N,), a number of this level's, to cells (N, 2), as column and row, and (N, 4).
        """
        rows, columns = self.raw.shape[2:4]
        at = (boxes[:, :2] + boxes[:, 2:]) / 2 / self.cell
        last = torch.tensor([columns - 1, rows - 1], device=at.device)
        cell = at.floor().long().clamp(min=0).minimum(last)
        sides = (sides_of(boxes) / self.anchors[anchor]).log()
        return cell, torch.cat([(at - cell).clamp(0, 1), sides], dim=1)


def grids(maps: Sequence[Tensor], anchors: Tensor, size: tuple[int, int]) -> list[Grid]:
    """The head's maps, the finest first, with the anchors (3 * ANCHORS, 2) and the cells of images of `size`."""
    height, width = size
    found = []
    for raw, own in zip(maps, anchors.split(ANCHORS), strict=True):
        rows, columns = raw.shape[-2:]
        apart = raw.float().unflatten(1, (ANCHORS, -1)).permute(0, 1, 3, 4, 2)  # (B, anchors, rows, columns, 5 + K)
        found.append(Grid(apart, own, own.new_tensor([width / columns, height / rows])))
    return found


def best_anchor(boxes: Tensor, anchors: Tensor) -> Tensor:
    """The number of the anchor whose shape fits each box best: (N, 4) to (N,)."""
    return shape_iou(sides_of(boxes), anchors).argmax(1)


def sides_of(boxes: Tensor) -> Tensor:
    """Width and height: (N, 4) to (N, 2)."""
    return boxes[:, 2:] - boxes[:, :2]
