"""COCO's measure of a detector: how precise it is at every recall, averaged."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

HALF, THREE_QUARTERS = 0, 5  # of COCO's overlaps 0.5, 0.55, ... 0.95
EVERY, SMALL, MEDIUM, LARGE = range(4)  # COCO's areas


@dataclass  # torchmetrics copies it field by field, which a frozen one refuses
class AveragePrecision:
    """COCO's figures from 0 to 1; None where there was nothing to find.

    Args:
        ap: Average precision, mean over the overlaps 0.5, 0.55, ... 0.95 and the classes that have boxes.
        ap50, ap75: At an overlap of 0.5 and 0.75 only.
        small, medium, large: `ap` for the objects of up to 32 x 32 pixels, from there to 96 x 96, and above.
        recall: Part of the objects found by 100 boxes an image, mean as in `ap`.
        class_ap, class_ap50: `ap` and `ap50` of each class, by its name.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    small: float | None
    medium: float | None
    large: float | None
    recall: float | None
    class_ap: dict[str, float | None]
    class_ap50: dict[str, float | None]


class MeanAP(Metric):
    """Average precision as pycocotools computes it, over the images of all processes.

    Lin et al., ECCV 2014, https://arxiv.org/abs/1405.0312. Crowds need not be found, and what is found on them does not
    count. At most 100 boxes of an image and class count, those of the highest scores.

    Args:
        classes: The names of the classes; labels count from 1.

    Raises:
        ImportError: pycocotools is not installed.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    images: list[Tensor]
    found: list[Tensor]
    found_ids: list[Tensor]
    wanted: list[Tensor]
    wanted_ids: list[Tensor]

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        try:
            import pycocotools  # noqa: F401
        except ImportError as error:
            raise ImportError("MeanAP needs pycocotools: pip install attnpool[detection]") from error
        self.classes = tuple(classes)
        for name in ("images", "found", "found_ids", "wanted", "wanted_ids"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, predictions: Sequence[dict[str, Tensor]], targets: Sequence[dict[str, Tensor]]) -> None:
        """Add images: for each the `boxes`, `labels` and `scores` found, and a target of `for_evaluation`.

        Raises:
            ValueError: Not as many predictions as targets.
        """
        if len(predictions) != len(targets):
            raise ValueError(f"predictions has to be as long as targets ({len(targets)}), but got {len(predictions)}")
        for seen, target in zip(predictions, targets, strict=True):
            number = target["image_id"].reshape(1)
            ids = number.expand(len(seen["labels"])), number.expand(len(target["labels"]))
            self.images.append(number)
            self.found.append(torch.cat([seen["boxes"].float(), seen["scores"].float()[:, None]], 1))  # (N, 5)
            self.found_ids.append(torch.stack([ids[0], seen["labels"]], 1))  # (N, 2)
            self.wanted.append(torch.cat([target["boxes"].float(), target["area"].float()[:, None]], 1))  # (M, 5)
            self.wanted_ids.append(torch.stack([ids[1], target["labels"], target["crowd"].long()], 1))  # (M, 3)

    def compute(self) -> AveragePrecision:
        """The figures of all images that were added.

        Raises:
            ValueError: No image, or one that was added twice.
        """
        if not len(self.images):
            raise ValueError("images has to hold at least one image to measure on, but is empty")
        images = dim_zero_cat(self.images).tolist()
        if len({*images}) < len(images):
            raise ValueError("image_id has to be another for each image, but one was added twice")
        found, wanted = _entries("score", self.found, self.found_ids), _entries("area", self.wanted, self.wanted_ids)
        content = {
            "images": [{"id": number} for number in images],
            "categories": [{"id": label} for label in range(1, len(self.classes) + 1)],
        }
        precision, recall = _evaluated({**content, "annotations": wanted}, {**content, "annotations": found})
        return AveragePrecision(
            ap=_mean(precision[..., EVERY]),
            ap50=_mean(precision[HALF, ..., EVERY]),
            ap75=_mean(precision[THREE_QUARTERS, ..., EVERY]),
            small=_mean(precision[..., SMALL]),
            medium=_mean(precision[..., MEDIUM]),
            large=_mean(precision[..., LARGE]),
            recall=_mean(recall[..., EVERY]),
            class_ap={name: _mean(precision[:, :, k, EVERY]) for k, name in enumerate(self.classes)},
            class_ap50={name: _mean(precision[HALF, :, k, EVERY]) for k, name in enumerate(self.classes)},
        )


def _entries(name: str, boxes: list[Tensor], ids: list[Tensor]) -> list[dict[str, Any]]:
    """Annotations of COCO, numbered from 1: in pycocotools, 0 is no match. `name` is what the fifth column holds."""
    entries = []
    rows = zip(dim_zero_cat(boxes).tolist(), dim_zero_cat(ids).tolist(), strict=True)
    for number, ((left, top, right, bottom, value), (image, label, *crowd)) in enumerate(rows, 1):
        width, height = right - left, bottom - top
        entries.append(
            {
                "id": number,
                "image_id": image,
                "category_id": label,
                "bbox": [left, top, width, height],
                "iscrowd": sum(crowd),
                "area": width * height,
                name: value,
            }
        )
    return entries


def _evaluated(wanted: dict[str, Any], found: dict[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Precision (overlaps, recalls, classes, areas) and recall (overlaps, classes, areas); -1: nothing to find."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(io.StringIO()):
        sides = COCO(), COCO()
        for side, content in zip(sides, (wanted, found), strict=True):
            side.dataset = content
            side.createIndex()
        evaluation = COCOeval(*sides, "bbox")
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][..., 0], evaluation.eval["recall"][..., 0]


def _mean(values: NDArray[Any]) -> float | None:
    known = values[values > -1]
    return float(np.mean(known)) if len(known) else None
