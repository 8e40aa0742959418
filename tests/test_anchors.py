"""Anchors: by hand, against all partitions, and where k-means usually goes wrong."""

from collections.abc import Iterator
from itertools import product

import pytest
import torch

from attnpool.detection.anchors import COCO_ANCHORS, coco_anchors, fit_anchors, shape_iou

Pair = tuple[float, float]


def iou(a: Pair, b: Pair) -> float:
    shared = min(a[0], b[0]) * min(a[1], b[1])
    return shared / (a[0] * a[1] + b[0] * b[1] - shared)


def mean_best_iou(shapes: list[Pair], anchors: list[Pair]) -> float:
    return sum(max(iou(shape, anchor) for anchor in anchors) for shape in shapes) / len(shapes)


def means_of_all_partitions(shapes: list[Pair], count: int) -> Iterator[tuple[list[Pair], bool]]:
    """The clusters' means, and whether every shape is already with the mean that is nearest to it."""
    for labels in product(range(count), repeat=len(shapes)):
        clusters = [[s for s, label in zip(shapes, labels, strict=True) if label == k] for k in range(count)]
        if all(clusters):
            means = [(sum(w for w, _ in c) / len(c), sum(h for _, h in c) / len(c)) for c in clusters]
            nearest = [max(range(count), key=lambda k: iou(shape, means[k])) for shape in shapes]
            yield means, nearest == list(labels)


def test_shape_iou_by_hand() -> None:
    found = shape_iou(torch.tensor([[4.0, 2.0], [1.0, 1.0]]), torch.tensor([[2.0, 4.0], [4.0, 2.0], [8.0, 2.0]]))
    assert torch.allclose(found, torch.tensor([[4 / 12, 1, 8 / 16], [1 / 8, 1 / 8, 1 / 16]]))


@pytest.mark.parametrize("seed", range(4))
def test_two_clusters_by_hand(seed: int) -> None:
    shapes = [(100.0, 50.0), (10.0, 20.0), (120.0, 50.0), (10.0, 20.0), (10.0, 26.0)]
    found = fit_anchors(torch.tensor(shapes), 2, seed)
    assert found.shapes == (pytest.approx((10, 22)), pytest.approx((110, 50)))
    assert found.mean_iou == pytest.approx((100 / 110 + 20 / 22 + 110 / 120 + 20 / 22 + 22 / 26) / 5)


@pytest.mark.parametrize("draw", range(4))
def test_it_settles_where_one_of_all_partitions_does(draw: int) -> None:
    drawn = torch.randint(4, 100, (7, 2), generator=torch.Generator().manual_seed(draw)).float()
    shapes = [(w, h) for w, h in drawn.tolist()]
    partitions = list(means_of_all_partitions(shapes, 3))
    settled = [sorted(means, key=lambda pair: pair[0] * pair[1]) for means, settles in partitions if settles]
    found = [fit_anchors(drawn, 3, seed) for seed in range(10)]
    for anchors in found:
        assert anchors.mean_iou == pytest.approx(mean_best_iou(shapes, list(anchors.shapes)))
        assert any(torch.allclose(torch.tensor(anchors.shapes), torch.tensor(means)) for means in settled)
    best = max(mean_best_iou(shapes, means) for means, _ in partitions)
    assert max(anchors.mean_iou for anchors in found) > 0.95 * best


def test_it_depends_on_the_seed_alone() -> None:
    shapes = torch.rand(300, 2, generator=torch.Generator().manual_seed(1)) * 90 + 1
    state = torch.get_rng_state()
    found = fit_anchors(shapes, 9, seed=3)
    assert found == fit_anchors(shapes.flip(0), 9, seed=3)
    assert found != fit_anchors(shapes, 9, seed=4)
    assert torch.equal(state, torch.get_rng_state())
    areas = [w * h for w, h in found.shapes]
    assert areas == sorted(areas)


def test_an_anchor_for_each_different_shape_is_that_shape() -> None:
    shapes = [(5.0, 5.0), (30.0, 4.0), (5.0, 5.0), (40.0, 90.0), (5.0, 5.0)]
    found = fit_anchors(torch.tensor(shapes), 3)
    assert found.shapes == ((5, 5), (30, 4), (40, 90))
    assert found.mean_iou == 1


def test_an_empty_cluster_starts_anew() -> None:
    """With seed 0 a round leaves one of the four without a box."""
    shapes = [(82, 155), (24, 23), (126, 134), (27, 90), (17, 133), (162, 70), (159, 49)]
    found = fit_anchors(torch.tensor(shapes).float(), 4)
    nearest = {max(found.shapes, key=lambda anchor: iou(shape, anchor)) for shape in shapes}
    assert nearest == {*found.shapes}


def test_errors() -> None:
    same = torch.tensor([[3.0, 4.0]]).expand(20, 2)
    with pytest.raises(ValueError, match="shapes has to have at least 2 different pairs, one an anchor, but has 1"):
        fit_anchors(same, 2)
    with pytest.raises(ValueError, match="at least 1 different pairs, one an anchor, but has 0"):
        fit_anchors(torch.zeros(0, 2), 1)
    with pytest.raises(ValueError, match="count has to be positive, but got 0"):
        fit_anchors(same, 0)
    with pytest.raises(ValueError, match=r"shapes has to be widths and heights \(N, 2\), but got \(4,\)"):
        fit_anchors(torch.ones(4), 1)
    for bad in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=rf"shapes has to be positive and finite, but got \[2.0, {bad}\]"):
            fit_anchors(torch.tensor([[1.0, 1.0], [2.0, bad]]), 1)


def test_the_published_anchors_follow_the_size() -> None:
    assert coco_anchors((416, 416)) == COCO_ANCHORS
    assert COCO_ANCHORS[0] == (10, 13)
    assert COCO_ANCHORS[8] == (373, 326)
    assert coco_anchors((208, 832))[3] == pytest.approx((60, 30.5))
