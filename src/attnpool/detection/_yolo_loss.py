"""The losses of YOLOv3: where boxes are, whether there is one, and of what class."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from attnpool.detection._yolo_boxes import ANCHORS, Grid, best_anchor, sides_of

Target = dict[str, Tensor]


@dataclass(frozen=True)
class Truth:
    """The boxes of a whole batch, and of each its image, its class from 0 and its anchor, of those of all levels."""

    boxes: Tensor
    image: Tensor
    label: Tensor
    anchor: Tensor

    def at(self, level: int) -> "Truth":
        """Those of one level, with its own numbers of anchors."""
        own = self.anchor // ANCHORS == level
        return Truth(self.boxes[own], self.image[own], self.label[own], self.anchor[own] % ANCHORS)


def yolo_losses(
    grids: Sequence[Grid], targets: Sequence[Target], size: tuple[int, int], ignore_thresh: float
) -> dict[str, Tensor]:
    """`loss_box`, `loss_objectness` and `loss_classes` of `YOLOv3`: sums over an image, means over the images.

    Args:
        grids: What the head says, the finest level first.
        targets: `boxes` (N, 4) in pixels of `size` and `labels` (N,) from 1, for each image.
        size: (height, width) of what the network sees, in pixels.
        ignore_thresh: IoU with any box above which a prediction may see an object that is another's to find.
    """
    truth = _together(targets, torch.cat([grid.anchors for grid in grids]))
    losses = []
    for level, grid in enumerate(grids):
        ignored = _overlaps(grid, targets) > ignore_thresh
        losses.append(_level_losses(grid, truth.at(level), ignored, size))
    total = torch.stack(losses).sum(0) / len(targets)
    return dict(zip(("loss_box", "loss_objectness", "loss_classes"), total, strict=True))


def _together(targets: Sequence[Target], anchors: Tensor) -> Truth:
    boxes = torch.cat([target["boxes"] for target in targets])
    label = torch.cat([target["labels"] for target in targets]) - 1
    image = torch.cat([torch.full_like(target["labels"], i) for i, target in enumerate(targets)])
    return Truth(boxes, image, label, best_anchor(boxes, anchors))


def _level_losses(grid: Grid, truth: Truth, ignored: Tensor, size: tuple[int, int]) -> Tensor:
    """The three losses, (3,). Of boxes that fall to one prediction the last is learnt, and the classes of all."""
    _, anchors, rows, columns, _ = grid.raw.shape
    cell, wanted = grid.encode(truth.boxes, truth.anchor)
    place = ((truth.image * anchors + truth.anchor) * rows + cell[:, 1]) * columns + cell[:, 0]  # (N,)
    same = place[:, None] == place  # (N, N)
    last = ~same.triu(1).any(1)
    said = grid.raw.flatten(0, 3)[place[last]]  # (N', 5 + K)
    classes = same.to(said) @ F.one_hot(truth.label, said.shape[1] - 5).to(said)
    weight = 2 - sides_of(truth.boxes).prod(1) / (size[0] * size[1])
    box = _box_loss(said[:, :4], wanted[last], weight[last])
    class_ = F.binary_cross_entropy_with_logits(said[:, 5:], classes[last].clamp(max=1), reduction="sum")
    return torch.stack([box, _objectness_loss(grid.raw[..., 4].flatten(), place, ignored.flatten()), class_])


def _box_loss(said: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    centre = F.binary_cross_entropy_with_logits(said[:, :2], wanted[:, :2], reduction="none")
    sides = (said[:, 2:] - wanted[:, 2:]).square() / 2
    return (weight[:, None] * (centre + sides)).sum()


def _objectness_loss(said: Tensor, place: Tensor, ignored: Tensor) -> Tensor:
    wanted = torch.zeros_like(said)
    wanted[place] = 1
    losses = F.binary_cross_entropy_with_logits(said, wanted, reduction="none")
    return losses.masked_fill(ignored & (wanted == 0), 0).sum()


@torch.no_grad()
def _overlaps(grid: Grid, targets: Sequence[Target]) -> Tensor:
    """IoU of each predicted box with the box that it overlaps most: (B, ANCHORS, rows, columns)."""
    best = torch.zeros_like(grid.raw[..., 0])
    for of_image, predicted, target in zip(best, grid.decode(), targets, strict=True):
        if len(target["boxes"]):
            iou = box_iou(predicted.flatten(0, 2), target["boxes"])  # (ANCHORS * rows * columns, N)
            of_image.copy_(iou.amax(1).view_as(of_image))
    return best
