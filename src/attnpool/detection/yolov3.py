"""YOLOv3: three levels, three anchors each, and the boxes of every cell in one pass."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import batched_nms, clip_boxes_to_image

from attnpool.detection._yolo_boxes import ANCHORS, Grid, grids
from attnpool.detection._yolo_loss import Target, yolo_losses
from attnpool.detection.anchors import coco_anchors
from attnpool.detection.levels import Levels

LEVELS = 3
PRIOR = 0.01  # objectness of every prediction before training


class YOLOv3(nn.Module):
    """YOLOv3: score = sigmoid(objectness) * sigmoid(class), box = its cell and anchor, moved and stretched; then NMS.

    Redmon and Farhadi, 2018, https://arxiv.org/abs/1804.02767. Where the paper is silent this does as its authors' code
    does. A prediction (tx, ty, tw, th, objectness, K classes) of a cell and an anchor of p_w x p_h pixels is the box
    around (cell + sigmoid(tx, ty)) * cell size, of p_w exp(tw) x p_h exp(th) pixels. A cell is `size` / grid pixels.

    A box is given to the one anchor of all nine whose shape fits it best (IoU), in the cell of its centre. Summed over
    the boxes, predictions and levels of an image, and averaged over images, are

    - `loss_box`: (2 - w h) * (BCE(tx) + BCE(ty) + (tw - log(w / p_w))^2 / 2 + (th - log(h / p_h))^2 / 2), where w and h
      of the first factor are in parts of the image. The gradients are what the paper asks for, prediction minus truth;
      for tx and ty, which go through a sigmoid, those are BCE's, whose least value here, with a truth between 0 and 1,
      is not 0.
    - `loss_objectness`: BCE, 1 where a box was given to the prediction and else 0; not counted where there is none but
      the predicted box has an IoU above `ignore_thresh` with any.
    - `loss_classes`: BCE of each class, where a box was given.

    If several boxes are given to one prediction, the last is its box, and it has the classes of all.

    Args:
        levels: Three maps of the backbone.
        num_classes: Classes with the background, as torchvision counts them: labels are 1 to `num_classes` - 1.
        size: (height, width) that images are resized to, in pixels.
        anchors: Nine (width, height) in pixels of what the network sees, sorted by area; the three smallest are the
            finest level's. Default: the paper's for COCO, of 416 x 416, scaled to `size`.
        image_mean, image_std: Of the pixels in units of 0..1, one number a channel.
        sizes: Training on several scales: each training step draws one of these (height, width) from torch's global
            generator, which the caller seeds; anchors keep their pixels, as in the paper (320 to 608 in steps of 32).
            Default: `size`, and nothing is drawn.
        score_thresh: Detections have scores above it.
        nms_thresh: Of two boxes of one class with an IoU above it, the one with the lower score goes.
        detections_per_img: At most so many, those with the highest scores.
        topk_candidates: At most so many of an image go into the NMS, those with the highest scores.
        ignore_thresh: See `loss_objectness`.

    Shape:
        A list of images (C, H, W) in 0..1, of any sizes, and for training a list of dicts with `boxes` (N, 4), as
        x1, y1, x2, y2 in the image's pixels, and `labels` (N,); N may be 0. In training mode to a dict of scalar
        losses; in eval mode to a list of dicts with `boxes` (M, 4), in the image's pixels, `labels` and `scores` (M,).

    Raises:
        ValueError: An argument that breaks a rule; in training, no targets, other than one an image, a box without
            extent, or a label that is none.
    """

    anchors: Tensor

    def __init__(
        self,
        levels: Levels,
        num_classes: int,
        size: tuple[int, int],
        *,
        anchors: Sequence[tuple[float, float]] = (),
        image_mean: Sequence[float],
        image_std: Sequence[float],
        sizes: Sequence[tuple[int, int]] = (),
        score_thresh: float = 0.01,
        nms_thresh: float = 0.45,
        detections_per_img: int = 100,
        topk_candidates: int = 1000,
        ignore_thresh: float = 0.5,
    ) -> None:
        super().__init__()
        if len(levels.channels) != LEVELS:
            raise ValueError(f"levels has to have {LEVELS} maps, but got {len(levels.channels)}")
        if num_classes < 2:
            raise ValueError(f"num_classes has to count the background and at least one class, but got {num_classes}")
        for name, sides in {"size": [size], "sizes": sizes}.items():
            if any(min(pair) < 1 for pair in sides):
                raise ValueError(f"{name} has to be of positive sides, but got {sides}")
        self.levels = levels
        self.neck = YOLONeck(levels.channels, num_classes - 1)
        self.num_classes = num_classes
        self.size, self.sizes = size, tuple(sizes)
        self.register_buffer("anchors", torch.tensor(_checked(anchors or coco_anchors(size)), dtype=torch.float32))
        self.image_mean, self.image_std = list(image_mean), list(image_std)
        self.score_thresh, self.nms_thresh = score_thresh, nms_thresh
        self.detections_per_img, self.topk_candidates = detections_per_img, topk_candidates
        self.ignore_thresh = ignore_thresh

    def forward(
        self, images: list[Tensor], targets: list[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        return self._losses(images, targets) if self.training else self._detections(images)

    def heads(self, x: Tensor) -> list[Tensor]:
        """What the head says: (B, C, H, W), resized and normalised, to three maps (B, 3 * (5 + K), h, w)."""
        maps: list[Tensor] = self.neck(self.levels(x))
        return maps

    def transform(self, size: tuple[int, int]) -> GeneralizedRCNNTransform:
        """What resizes images to `size`, normalises and batches them; and maps boxes back to their pixels.

        It is in eval mode, in which it draws no size of its own.
        """
        height, width = size
        return GeneralizedRCNNTransform(
            min(size), max(size), self.image_mean, self.image_std, size_divisible=1, fixed_size=(width, height)
        ).eval()

    def _losses(self, images: list[Tensor], targets: list[Target] | None) -> dict[str, Tensor]:
        _check(images, targets, self.num_classes)
        size = self.sizes[int(torch.randint(len(self.sizes), ()))] if self.sizes else self.size
        batch, resized = self.transform(size)(images, targets)
        return yolo_losses(grids(self.heads(batch.tensors), self.anchors, size), resized, size, self.ignore_thresh)

    def _detections(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        transform = self.transform(self.size)
        batch, _ = transform(images)
        boxes, scores = _flat(grids(self.heads(batch.tensors), self.anchors, self.size))
        shapes = [(image.shape[-2], image.shape[-1]) for image in images]
        mapped = transform.postprocess([{"boxes": b} for b in boxes], batch.image_sizes, shapes)
        return [self._detect(m["boxes"], s, shape) for m, s, shape in zip(mapped, scores, shapes, strict=True)]

    def _detect(self, boxes: Tensor, scores: Tensor, shape: tuple[int, int]) -> dict[str, Tensor]:
        """The detections of one image of `shape`: boxes (A, 4) and the scores of each class (A, K), filtered."""
        kept = scores.flatten().topk(min(self.topk_candidates, scores.numel()))
        number = kept.indices[kept.values > self.score_thresh]
        best, label = kept.values[: len(number)], number % scores.shape[1] + 1
        boxes = clip_boxes_to_image(boxes[number // scores.shape[1]], shape)
        keep = batched_nms(boxes, best, label, self.nms_thresh)[: self.detections_per_img]
        return {"boxes": boxes[keep], "labels": label[keep], "scores": best[keep]}


def _flat(found: Sequence[Grid]) -> tuple[Tensor, Tensor]:
    """All boxes (B, A, 4), in the network's pixels, and their scores for each class (B, A, K)."""
    boxes = torch.cat([grid.decode().flatten(1, 3) for grid in found], dim=1)
    raw = torch.cat([grid.raw.flatten(1, 3) for grid in found], dim=1)  # (B, A, 5 + K)
    return boxes, raw[..., 4:5].sigmoid() * raw[..., 5:].sigmoid()


def _checked(anchors: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    areas = [width * height for width, height in anchors]
    if len(anchors) != LEVELS * ANCHORS or areas != sorted(areas) or any(min(pair) <= 0 for pair in anchors):
        raise ValueError(
            f"anchors has to be {LEVELS * ANCHORS} positive (width, height), sorted by area, but got {anchors}"
        )
    return list(anchors)


def _check(images: Sequence[Tensor], targets: Sequence[Target] | None, num_classes: int) -> None:
    if targets is None or len(targets) != len(images):
        got = None if targets is None else len(targets)
        raise ValueError(f"targets has to be one dict an image in training, {len(images)}, but got {got}")
    for target in targets:
        boxes, labels = target["boxes"], target["labels"]
        if boxes.shape != (len(labels), 4):
            raise ValueError(f"boxes has to be ({len(labels)}, 4), one a label, but got {tuple(boxes.shape)}")
        flat = ~(boxes[:, 2:] > boxes[:, :2]).all(1)
        if flat.any():
            raise ValueError(f"boxes has to have x1 < x2 and y1 < y2, but got {boxes[flat][0].tolist()}")
        wrong = (labels < 1) | (labels >= num_classes)
        if wrong.any():
            raise ValueError(f"labels has to be 1 to {num_classes - 1}, but got {int(labels[wrong][0])}")


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
