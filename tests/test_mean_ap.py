"""COCO's measure: the figures are those of pycocotools, asked for by its own files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torch.multiprocessing import start_processes

from attnpool.detection.mean_ap import AveragePrecision, MeanAP

CLASSES = ("cat", "dog", "fox", "owl")
Images = list[dict[str, Tensor]]


def random_boxes(count: int) -> Tensor:
    left_top = (torch.rand(count, 2) * 300).round()
    sides = 2 ** (torch.rand(count, 2) * 5 + 3)  # 8 to 256 pixels
    return torch.cat([left_top, left_top + sides.round()], 1)


def random_images(count: int) -> tuple[Images, Images]:
    """No owl is to be found, but some are; images 3 and 4 have no boxes, and in 4 and 5 nothing is found."""
    predictions, targets = [], []
    for number in range(count):
        boxes = random_boxes(0 if number in (3, 4) else int(torch.randint(1, 7, ())))
        labels = torch.randint(1, 4, (len(boxes),))
        sides = boxes[:, 2:] - boxes[:, :2]
        targets.append(
            {
                "boxes": boxes,
                "labels": labels,
                "crowd": torch.rand(len(boxes)) < 0.2,
                "area": sides.prod(1) * 0.75,
                "image_id": torch.tensor(100 - number),
            }
        )
        near = boxes.repeat(3, 1) + torch.randint(-6, 7, (3 * len(boxes), 4))
        near[:, 2:] = near[:, 2:].maximum(near[:, :2] + 1)
        found = torch.cat([near, random_boxes(4)]) if number not in (4, 5) else near[:0]
        guesses = torch.cat([labels.repeat(3), torch.randint(1, 5, (4,))]) if len(found) else labels[:0]
        scores = (torch.rand(len(found)) * 20).round() / 20  # with ties
        predictions.append({"boxes": found, "labels": guesses, "scores": scores})
    return predictions, targets


def xywh(boxes: Tensor) -> list[list[float]]:
    return [[left, top, right - left, bottom - top] for left, top, right, bottom in boxes.tolist()]


def by_pycocotools(folder: Path, predictions: Images, targets: Images) -> COCOeval:
    ids = [int(target["image_id"]) for target in targets]
    marks: list[dict[str, Any]] = []
    for number, target in zip(ids, targets, strict=True):
        for i, bbox in enumerate(xywh(target["boxes"])):
            more = {"area": float(target["area"][i]), "iscrowd": int(target["crowd"][i])}
            marks.append({"id": len(marks) + 1, "image_id": number, "bbox": bbox, **more})
            marks[-1]["category_id"] = int(target["labels"][i])
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    content = {"images": [{"id": number} for number in ids], "annotations": marks, "categories": categories}
    (folder / "wanted.json").write_text(json.dumps(content))
    found = [
        {"image_id": number, "category_id": label, "bbox": bbox, "score": score}
        for number, seen in zip(ids, predictions, strict=True)
        for bbox, label, score in zip(
            xywh(seen["boxes"]), seen["labels"].tolist(), seen["scores"].tolist(), strict=True
        )
    ]
    (folder / "found.json").write_text(json.dumps(found))
    wanted = COCO(str(folder / "wanted.json"))
    evaluation = COCOeval(wanted, wanted.loadRes(str(folder / "found.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def test_the_figures_are_those_of_pycocotools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions, targets = random_images(20)
    metric = MeanAP(CLASSES)
    for part in (slice(0, 7), slice(7, 20)):
        metric.update(predictions[part], targets[part])
    capsys.readouterr()
    figures = metric.compute()
    assert capsys.readouterr() == ("", "")

    stats = by_pycocotools(tmp_path, predictions, targets).stats
    parts = (figures.ap, figures.ap50, figures.ap75, figures.small, figures.medium, figures.large, figures.recall)
    assert parts == pytest.approx([*stats[:6], stats[8]], abs=1e-12)
    assert 0 < stats[0] < stats[1] < 1
    assert stats.min() > 0
    for label, name in enumerate(CLASSES[:3], 1):
        (tmp_path / name).mkdir()
        seen = [{**p, **{k: p[k][p["labels"] == label] for k in p}} for p in predictions]
        wanted = [
            {**t, **{k: t[k][t["labels"] == label] for k in ("boxes", "labels", "crowd", "area")}} for t in targets
        ]
        alone = by_pycocotools(tmp_path / name, seen, wanted).stats
        assert figures.class_ap[name] == pytest.approx(alone[0], abs=1e-12)
        assert figures.class_ap50[name] == pytest.approx(alone[1], abs=1e-12)
    assert (figures.class_ap["owl"], figures.class_ap50["owl"]) == (None, None)


def one_image(number: int, boxes: list[list[float]], labels: list[int], crowd: bool = False) -> dict[str, Tensor]:
    count = len(boxes)
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "crowd": torch.full((count,), crowd),
        "area": torch.full((count,), 100.0),
        "image_id": torch.tensor(number),
    }


def seen_at(boxes: list[list[float]], labels: list[int], scores: list[float]) -> dict[str, Tensor]:
    labels_found = torch.tensor(labels, dtype=torch.int64)
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": labels_found, "scores": torch.tensor(scores)}


def test_figures_worked_out_by_hand() -> None:
    """Two cats of 10 x 10 pixels; found are one of them, surely, and the other with an overlap of 2/3, less surely."""
    metric = MeanAP(("cat", "dog"))
    wanted = one_image(1, [[0.0, 0, 10, 10], [20, 20, 30, 30]], [1, 1])
    found = seen_at([[0.0, 0, 10, 10], [20, 22, 30, 32]], [1, 1], [0.9, 0.5])
    metric.update([found], [wanted])
    figures = metric.compute()
    half = 51 / 101  # of the 101 recalls, those up to 0.5 are reached
    assert figures.ap50 == pytest.approx(1.0)  # an overlap of 80 / 120 is enough up to 0.65
    assert figures.ap75 == pytest.approx(half)
    assert figures.ap == pytest.approx((4 * 1 + 6 * half) / 10)
    assert figures.recall == pytest.approx((4 * 1 + 6 * 0.5) / 10)
    assert (figures.small, figures.medium, figures.large) == (figures.ap, None, None)
    assert (figures.class_ap, figures.class_ap50["dog"]) == ({"cat": figures.ap, "dog": None}, None)


def test_crowds_count_for_nothing() -> None:
    metric = MeanAP(("cat",))
    wanted = one_image(1, [[0.0, 0, 10, 10]], [1])
    crowd = one_image(2, [[0.0, 0, 100, 100]], [1], crowd=True)
    on_the_crowd = seen_at([[10.0, 10, 20, 20], [30, 30, 40, 40]], [1, 1], [0.9, 0.8])
    metric.update([seen_at([[0.0, 0, 10, 10]], [1], [0.5]), on_the_crowd], [wanted, crowd])
    assert metric.compute().ap == pytest.approx(1)
    metric.reset()
    metric.update([on_the_crowd], [crowd])
    assert metric.compute() == AveragePrecision(*[None] * 7, class_ap={"cat": None}, class_ap50={"cat": None})


def test_nothing_found_is_zero_and_nothing_to_find_is_none() -> None:
    metric = MeanAP(("cat",))
    metric.update([seen_at([], [], [])], [one_image(1, [[0.0, 0, 10, 10]], [1])])
    assert (metric.compute().ap, metric.compute().recall) == (0, 0)
    metric.reset()
    metric.update([seen_at([[0.0, 0, 1, 1]], [1], [0.5])], [one_image(1, [], [])])
    assert (metric.compute().ap, metric.compute().recall) == (None, None)


def _measure(rank: int, store: str, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.manual_seed(0)
    predictions, targets = random_images(9)
    metric = MeanAP(CLASSES)
    metric.update(predictions[rank::2], targets[rank::2])  # 5 images and 4
    torch.save(vars(metric.compute()), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_processes_measure_together(tmp_path: Path) -> None:
    torch.manual_seed(0)
    metric = MeanAP(CLASSES)
    metric.update(*random_images(9))
    alone = metric.compute()
    assert alone.ap
    start_processes(_measure, (str(tmp_path / "store"), str(tmp_path)), nprocs=2, start_method="fork")
    for rank in (0, 1):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == vars(alone)


def test_what_cannot_be_measured() -> None:
    metric = MeanAP(("cat",))
    wanted, found = one_image(7, [], []), seen_at([], [], [])
    with pytest.raises(ValueError, match=r"predictions has to be as long as targets \(2\), but got 1"):
        metric.update([found], [wanted, wanted])
    metric.update([found, found], [wanted, wanted])
    with pytest.raises(ValueError, match="image_id has to be another for each image, but one was added twice"):
        metric.compute()
    metric.reset()
    with (
        pytest.warns(UserWarning, match="called before"),
        pytest.raises(ValueError, match="images has to hold at least one"),
    ):
        metric.compute()


def test_without_pycocotools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    with pytest.raises(ImportError, match=r"MeanAP needs pycocotools: pip install attnpool\[detection\]"):
        MeanAP(("cat",))
