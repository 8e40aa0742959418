"""Anchors, the shapes that YOLO's boxes start from: the published ones, and ones fitted to the boxes of a data set."""

from dataclasses import dataclass

import torch
from torch import Tensor

Shapes = tuple[tuple[float, float], ...]

COCO_SIDE = 416
COCO_ANCHORS: Shapes = (
    *((10, 13), (16, 30), (33, 23)),
    *((30, 61), (62, 45), (59, 119)),
    *((116, 90), (156, 198), (373, 326)),
)
"""Width and height in pixels of images of COCO at 416 x 416: those of YOLOv3."""
ROUNDS = 300  # of k-means, if it does not settle before


@dataclass(frozen=True)
class Anchors:
    """Fitted anchors.

    Args:
        shapes: (width, height) in pixels, sorted by area.
        mean_iou: Mean over the boxes of the IoU with the anchor that fits best, 0..1.
    """

    shapes: Shapes
    mean_iou: float


def coco_anchors(size: tuple[int, int]) -> Shapes:
    """YOLOv3's nine anchors for COCO, (width, height) in pixels of images of `size` (height, width)."""
    height, width = size
    return tuple((w * width / COCO_SIDE, h * height / COCO_SIDE) for w, h in COCO_ANCHORS)


def shape_iou(shapes: Tensor, others: Tensor) -> Tensor:
    """IoU of boxes that share their centre: min(w, w') * min(h, h') / area of the union.

    Shape:
        Widths and heights (N, 2) and (M, 2) to (N, M).
    """
    shared = torch.minimum(shapes[:, None], others).prod(-1)  # (N, M)
    return shared / (shapes.prod(-1)[:, None] + others.prod(-1) - shared)


def fit_anchors(shapes: Tensor, count: int, seed: int = 0) -> Anchors:
    """k-means on the shapes of boxes, with the distance 1 - IoU of shapes; an anchor is the mean of its cluster.

    Redmon and Farhadi, CVPR 2017, section 2, https://arxiv.org/abs/1612.08242. Ours is the start, by k-means++: each
    next centre is a shape drawn in proportion to its distance from those before. A cluster that loses all its boxes
    starts anew from the shape that fits worst. The result does not depend on the order of `shapes`.

    Args:
        shapes: Widths and heights, in pixels of images of one size.
        count: Anchors.
        seed: Of the first centres; the global generators are left alone.

    Shape:
        (N, 2), at least `count` of the N different from each other.

    Raises:
        ValueError: A shape that is not positive or not finite, `count` below 1, or fewer different shapes than that.
    """
    _check(shapes, count)
    points, weights = shapes.detach().cpu().float().unique(dim=0, return_counts=True)
    if len(points) < count:
        raise ValueError(f"shapes has to have at least {count} different pairs, one an anchor, but has {len(points)}")
    points, weights = points.double(), weights.double()
    centres, before = _start(points, weights, count, seed), None
    for _ in range(ROUNDS):
        fit, nearest = shape_iou(points, centres).max(1)
        if before is not None and torch.equal(nearest, before):
            break
        before, centres = nearest, _means(points, weights, fit, nearest, count)
    mean_iou = shape_iou(points, centres).amax(1) @ weights / weights.sum()
    pairs = sorted(((w, h) for w, h in centres.tolist()), key=lambda pair: (pair[0] * pair[1], pair))
    return Anchors(tuple(pairs), float(mean_iou))


def _check(shapes: Tensor, count: int) -> None:
    if count < 1:
        raise ValueError(f"count has to be positive, but got {count}")
    if shapes.ndim != 2 or shapes.shape[1] != 2:
        raise ValueError(f"shapes has to be widths and heights (N, 2), but got {tuple(shapes.shape)}")
    bad = ~((shapes > 0) & shapes.isfinite()).all(1)
    if bad.any():
        raise ValueError(f"shapes has to be positive and finite, but got {shapes[bad][0].tolist()}")


def _start(points: Tensor, weights: Tensor, count: int, seed: int) -> Tensor:
    """k-means++: `count` different points."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.multinomial(weights, 1, generator=generator)
    while len(chosen) < count:
        distance = 1 - shape_iou(points, points[chosen]).amax(1)
        chosen = torch.cat([chosen, torch.multinomial(weights * distance, 1, generator=generator)])
    return points[chosen]


def _means(points: Tensor, weights: Tensor, fit: Tensor, nearest: Tensor, count: int) -> Tensor:
    """The mean of each cluster; for those that are empty, the points that are worst off."""
    mass = weights.new_zeros(count).index_add(0, nearest, weights)
    sums = points.new_zeros(count, 2).index_add(0, nearest, points * weights[:, None])
    empty = mass == 0
    centres = sums / mass.where(~empty, 1)[:, None]
    centres[empty] = points[fit.argsort(stable=True)[: int(empty.sum())]]
    return centres
