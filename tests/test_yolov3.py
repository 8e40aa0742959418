"""YOLOv3: its losses and boxes by hand, in plain Python, and what it has to do with any images."""

import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from attnpool import create_model
from attnpool.detection.levels import Levels
from attnpool.detection.yolov3 import YOLONeck, YOLOv3
from attnpool.registry import DETECTORS, import_all

SHAPES = ((8, 8), (8, 16), (16, 8), (16, 16), (16, 32), (32, 16), (32, 32), (32, 64), (64, 32))
"""Anchors in pixels, three a level."""
Target = dict[str, Tensor]


class Tiny(nn.Module):
    """Three stages of one convolution each, in the form of `StageFeatures`."""

    channels = (8, 12, 16)
    reductions = (8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        sides = zip((3, *self.channels), self.channels, (8, 2, 2), strict=False)
        self.stages = nn.ModuleList(nn.Sequential(nn.Conv2d(i, o, s + 1, s, s // 2), nn.ReLU()) for i, o, s in sides)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def tiny(classes: int = 2, size: tuple[int, int] = (64, 64), **options: Any) -> YOLOv3:
    options = {"image_mean": (0.5,) * 3, "image_std": (0.25,) * 3, **options}
    return YOLOv3(Levels(Tiny(), 3), classes + 1, size, **options)


def saying(maps: Sequence[Tensor], classes: int = 2, **options: Any) -> YOLOv3:
    """A detector with the anchors `SHAPES` whose head says `maps` of any image."""
    detector = tiny(classes, anchors=SHAPES, **options)
    detector.heads = lambda x: [m.expand(len(x), -1, -1, -1) if len(m) == 1 else m for m in maps]
    return detector


def silent(
    images: int = 1,
    classes: int = 2,
    objectness: float = -2.0,
    grids: Sequence[tuple[int, int]] = ((2, 2), (1, 1), (1, 1)),
) -> list[Tensor]:
    """Maps of zeros, but for the objectness."""
    maps = [torch.zeros(images, 3, 5 + classes, *grid) for grid in grids]
    for m in maps:
        m[:, :, 4] = objectness
    return [m.flatten(1, 2) for m in maps]


def say(maps: Sequence[Tensor], anchor: int, row: int, column: int, values: Sequence[float], image: int = 0) -> None:
    """Let `maps` say `values` (tx, ty, tw, th, objectness, classes) for an anchor of `SHAPES` in a cell."""
    depth = len(values)
    maps[anchor // 3][image, depth * (anchor % 3) : depth * (anchor % 3 + 1), row, column] = torch.tensor(values)


def boxes(*rows: Sequence[float], labels: Sequence[int] | None = None) -> Target:
    """A target; all of class 1 unless said otherwise."""
    labels = [1] * len(rows) if labels is None else labels
    return {"boxes": torch.tensor(rows).float().reshape(-1, 4), "labels": torch.tensor(labels, dtype=torch.int64)}


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def bce(x: float, wanted: float) -> float:
    return -wanted * math.log(sigmoid(x)) - (1 - wanted) * math.log(1 - sigmoid(x))


BLANK = torch.zeros(3, 128, 128)
NOTHING = boxes()
ONE = boxes((70, 28, 90, 52), labels=[2])
"""In an image of 128 x 128 for a network of 64 x 64: centre (40, 20), 10 x 12. Its IoU is best with anchor 1, of 8 x 16
(96 / 152 = 0.63, before 0.53 of 8 x 8); of the 2 x 2 cells of 32 pixels it is in column 1, row 0, at (0.25, 0.625)."""
OFFSET = (0.25, 0.625)


# The losses


def test_losses_by_hand() -> None:
    tx, ty, tw, th, objectness, first, second = said = (0.2, -0.3, 0.4, 0.1, 0.7, 0.5, -0.6)
    maps = silent(images=2)
    say(maps, 1, 0, 1, said)
    losses = saying(maps).train()([BLANK, BLANK], [ONE, NOTHING])
    box = bce(tx, 0.25) + bce(ty, 0.625) + (tw - math.log(10 / 8)) ** 2 / 2 + (th - math.log(12 / 16)) ** 2 / 2
    box *= 2 - (10 * 12) / (64 * 64)
    everywhere = 3 * (2 * 2 + 1 + 1)  # predictions of an image
    empty = bce(-2.0, 0)
    expected = {
        "loss_box": box / 2,
        "loss_objectness": ((everywhere - 1) * empty + bce(objectness, 1) + everywhere * empty) / 2,
        "loss_classes": (bce(first, 0) + bce(second, 1)) / 2,
    }
    assert {key: loss.item() for key, loss in losses.items()} == pytest.approx(expected)
    assert all(loss.shape == () for loss in losses.values())


@pytest.mark.parametrize("anchor", range(9))
@pytest.mark.parametrize("centre", [(40.0, 20.0), (32.0, 31.5), (64.0, 0.0), (0.0, 64.0)])
def test_a_box_goes_to_the_anchor_of_its_shape_in_the_cell_of_its_centre(
    anchor: int, centre: tuple[float, float]
) -> None:
    maps = [m.requires_grad_() for m in silent()]
    (x, y), (w, h) = centre, SHAPES[anchor]
    target = boxes(((x - w / 2) * 2, (y - h / 2) * 2, (x + w / 2) * 2, (y + h / 2) * 2))
    saying(maps).train()([BLANK], [target])["loss_objectness"].backward()
    wants = [m.grad.unflatten(1, (3, -1))[0, :, 4] < 0 for m in maps]  # (anchors, rows, columns)
    assert sum(int(w.sum()) for w in wants) == 1
    cells = 2 if anchor < 3 else 1
    assert wants[anchor // 3][anchor % 3, min(int(y * cells / 64), cells - 1), min(int(x * cells / 64), cells - 1)]


def test_a_centre_outside_the_image_counts_as_on_its_border() -> None:
    maps = silent()
    say(maps, 0, 0, 1, (3.0, -4.0, 0, 0, 0, 0, 0))
    loss = saying(maps).train()([BLANK], [boxes((130, -20, 146, -4))])["loss_box"]  # 8 x 8 around (69, -6)
    assert loss.item() == pytest.approx((2 - 64 / 4096) * (bce(3.0, 1) + bce(-4.0, 0)), rel=1e-5)


@pytest.mark.parametrize(("height", "ignored"), [(5.9, False), (6.1, True)])
def test_a_prediction_that_overlaps_a_box_may_see_an_object(height: float, ignored: bool) -> None:
    """A prediction of 10 x height at the place of a box of 10 x 12: an IoU of height / 12."""
    maps = silent()
    place = (logit(OFFSET[0]), logit(OFFSET[1]), math.log(10 / 16), math.log(height / 8))
    say(maps, 2, 0, 1, (*place, 5.0, 0, 0))
    loss = saying(maps).train()([BLANK], [ONE])["loss_objectness"]
    empty = 16 * bce(-2.0, 0) + bce(-2.0, 1)
    assert loss.item() == pytest.approx(empty if ignored else empty + bce(5.0, 0), rel=1e-5)


def test_the_one_that_a_box_is_given_to_is_never_ignored() -> None:
    maps = silent()
    say(maps, 1, 0, 1, (logit(OFFSET[0]), logit(OFFSET[1]), math.log(10 / 8), math.log(12 / 16), -3.0, 0, 0))
    loss = saying(maps).train()([BLANK], [ONE])["loss_objectness"]
    assert loss.item() == pytest.approx(17 * bce(-2.0, 0) + bce(-3.0, 1), rel=1e-5)


def test_of_boxes_with_one_prediction_the_last_is_learnt_and_the_classes_of_all() -> None:
    (first,) = ONE["boxes"].tolist()
    several = boxes(first, first, (72, 32, 88, 64), labels=[2, 2, 1])  # the last: centre (40, 24), 8 x 16
    maps = silent()
    say(maps, 1, 0, 1, (0, 0, 0, 0, -2.0, 0.5, -0.6))
    losses = saying(maps).train()([BLANK], [several])
    assert losses["loss_box"].item() == pytest.approx((2 - 128 / 4096) * (bce(0, 0.25) + bce(0, 0.75)))
    assert losses["loss_classes"].item() == pytest.approx(bce(0.5, 1) + bce(-0.6, 1))
    assert losses["loss_objectness"].item() == pytest.approx(17 * bce(-2.0, 0) + bce(-2.0, 1), rel=1e-5)


def test_images_without_boxes() -> None:
    detector = tiny().train()
    losses = detector([BLANK, BLANK], [NOTHING, NOTHING])
    assert losses["loss_box"] == losses["loss_classes"] == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters())


# Boxes


@pytest.mark.parametrize("shape", [(128, 128), (301, 333), (17, 90)])
@pytest.mark.parametrize("anchor", [0, 4, 8])
def test_decoding_undoes_encoding(anchor: int, shape: tuple[int, int]) -> None:
    """The numbers that a box should have, worked out here, are found as that box in the image's pixels."""
    (height, width), size, grids = shape, (50, 70), ((5, 9), (3, 4), (1, 2))
    box = (0.31 * width, 0.22 * height, 0.57 * width, 0.91 * height)
    x, y = (box[0] + box[2]) / 2 / width * grids[anchor // 3][1], (box[1] + box[3]) / 2 / height * grids[anchor // 3][0]
    w, h = 0.26 * size[1], 0.69 * size[0]
    sides = math.log(w / SHAPES[anchor][0]), math.log(h / SHAPES[anchor][1])
    maps = silent(objectness=-20.0, grids=grids)
    say(maps, anchor, int(y), int(x), (logit(x % 1), logit(y % 1), *sides, 1.5, -30.0, 0.5))
    (found,) = saying(maps, size=size).eval()([torch.zeros(3, *shape)])
    assert found["boxes"].flatten().tolist() == pytest.approx(box, rel=1e-4)
    assert found["labels"].tolist() == [2]
    assert found["scores"].tolist() == pytest.approx([sigmoid(1.5) * sigmoid(0.5)])


def test_images_of_several_sizes_have_boxes_in_their_own_pixels() -> None:
    maps = silent(objectness=-20.0)
    say(maps, 3, 0, 0, (0, 0, 0, 0, 9.0, 9.0, -30.0))  # the middle 16 x 16 of 64 x 64
    found = saying(maps).eval()([torch.zeros(3, *shape) for shape in ((64, 64), (301, 333), (32, 8))])
    for one, (height, width) in zip(found, ((64, 64), (301, 333), (32, 8)), strict=True):
        expected = [width * 3 / 8, height * 3 / 8, width * 5 / 8, height * 5 / 8]
        assert one["boxes"].flatten().tolist() == pytest.approx(expected)


def test_boxes_end_with_the_image() -> None:
    maps = silent(objectness=-20.0)
    say(maps, 8, 0, 0, (0, 0, 50.0, 500.0, 9.0, 9.0, -30.0))  # sides that float32 has a number for and not
    (found,) = saying(maps).eval()([torch.zeros(3, 301, 333)])
    assert found["boxes"].tolist() == [[0, 0, 333, 301]]


def test_nms_by_hand() -> None:
    """Around (32, 32): 16 x 16 and 16 x 32 overlap by 0.5, 16 x 16 and 32 x 32 by 0.25, 16 x 32 and 32 x 32 by 0.5."""
    maps = silent(objectness=-20.0)
    for anchor, values in {3: (2.0, 9.0, -9.0), 4: (1.0, 9.0, 1.0), 6: (0.0, 9.0, -9.0)}.items():
        say(maps, anchor, 0, 0, (0, 0, 0, 0, *values))
    square, tall, large = [24.0, 24, 40, 40], [24.0, 16, 40, 48], [16.0, 16, 48, 48]
    best = sigmoid(2.0) * sigmoid(9.0), sigmoid(1.0) * sigmoid(1.0), sigmoid(0.0) * sigmoid(9.0)
    image = [torch.zeros(3, 64, 64)]

    (found,) = saying(maps).eval()(image)  # of class 1 the tall one goes, but not of class 2
    assert found["boxes"].tolist() == [square, tall, large]
    assert found["labels"].tolist() == [1, 2, 1]
    assert found["scores"].tolist() == pytest.approx(best)

    (found,) = saying(maps, nms_thresh=0.51).eval()(image)
    assert found["boxes"].tolist() == [square, tall, tall, large]
    assert found["labels"].tolist() == [1, 1, 2, 1]

    (found,) = saying(maps, score_thresh=0.51).eval()(image)
    assert found["boxes"].tolist() == [square, tall]
    (found,) = saying(maps, detections_per_img=1).eval()(image)
    assert found["boxes"].tolist() == [square]
    (found,) = saying(maps, topk_candidates=2).eval()(image)  # square and tall, both of class 1
    assert found["boxes"].tolist() == [square]


# The network


def test_the_neck_has_as_many_weights_as_the_published_one() -> None:
    """The convolutions after Darknet-53 in the authors' yolov3.cfg, as (inputs, outputs, side)."""
    five = [(c, half) for half in (512, 256, 128) for c in ({512: 1024, 256: 768, 128: 384}[half], 2 * half, 2 * half)]
    convs = [(c, half, 1) for c, half in five] + [(h, 2 * h, 3) for h in (512, 256, 128) for _ in range(3)]
    convs += [(512, 256, 1), (256, 128, 1)]  # on the way to the next level
    expected = sum(i * o * side**2 + 2 * o for i, o, side in convs) + sum((c + 1) * 255 for c in (1024, 512, 256))
    with torch.device("meta"):
        neck = YOLONeck((256, 512, 1024), 80)
    assert sum(p.numel() for p in neck.parameters()) == expected == 61_949_149 - 40_584_928  # all but Darknet-53


def test_maps_and_gradients() -> None:
    detector = tiny(size=(301, 333)).train()
    maps = detector.heads(torch.rand(2, 3, 301, 333))
    assert [m.shape for m in maps] == [(2, 21, 38, 42), (2, 21, 19, 21), (2, 21, 10, 11)]
    images = [torch.rand(3, 301, 333), torch.rand(3, 100, 40)]
    large = boxes((10, 20, 30, 44), (100, 100, 150, 190), (5, 5, 300, 290), labels=[1, 2, 1])
    losses = detector(images, [large, boxes((1, 2, 30, 90))])
    sum(losses.values()).backward()
    assert all(p.grad.any() and p.grad.isfinite().all() for p in detector.parameters())
    for one, image in zip(detector.eval()(images), images, strict=True):
        height, width = image.shape[1:]
        assert len(one["boxes"]) == len(one["labels"]) == len(one["scores"])
        assert (one["boxes"] >= 0).all()
        assert (one["boxes"] <= torch.tensor([width, height] * 2)).all()


def test_training_starts_with_hardly_an_object() -> None:
    maps = tiny().heads(torch.randn(4, 3, 64, 64))
    objectness = torch.cat([m.unflatten(1, (3, -1))[:, :, 4].flatten() for m in maps]).sigmoid()
    assert 0.005 < objectness.mean() < 0.02


def test_predictions_do_not_depend_on_the_batch() -> None:
    detector = tiny(score_thresh=0.0).eval()
    images = [torch.rand(3, 64, 64), torch.rand(3, 30, 50), torch.rand(3, 99, 20)]
    together = detector(images)
    for image, expected in zip(images, together, strict=True):
        assert len(expected["boxes"]) > 5
        torch.testing.assert_close(detector([image])[0], expected)


def test_each_training_step_draws_its_scale() -> None:
    scales = ((64, 96), (75, 50), (128, 128))
    detector = tiny(sizes=scales)
    seen, heads = [], detector.heads
    detector.heads = lambda x: seen.append(tuple(x.shape[-2:])) or heads(x)
    torch.manual_seed(5)
    drawn = [scales[int(torch.randint(3, ()))] for _ in range(12)]
    after = torch.get_rng_state()
    torch.manual_seed(5)
    for _ in range(12):
        detector.train()([BLANK, BLANK], [NOTHING, NOTHING])
    assert seen == drawn
    assert {*seen} == {*scales}
    assert torch.equal(torch.get_rng_state(), after)
    detector.eval()([BLANK])
    assert seen[12:] == [(64, 64)]


def test_one_scale_draws_nothing() -> None:
    detector = tiny()
    before = torch.get_rng_state()
    detector.train()([BLANK, BLANK], [NOTHING, NOTHING])
    assert torch.equal(torch.get_rng_state(), before)


def test_anchors_keep_their_pixels_on_another_scale() -> None:
    """At 128 x 128 the box of `ONE` is 20 x 24: no longer that of 8 x 16, but of 16 x 32 (0.63) or 32 x 32 (0.47)."""
    maps = [m.requires_grad_() for m in silent()]
    detector = saying(maps, sizes=((128, 128),)).train()
    detector([BLANK], [ONE])["loss_objectness"].backward()
    wanted = torch.cat([m.grad.unflatten(1, (3, -1))[0, :, 4].amin((1, 2)) < 0 for m in maps])
    assert wanted.nonzero().flatten().tolist() == [4]


def test_errors() -> None:
    image = [torch.rand(3, 64, 64)]
    with pytest.raises(ValueError, match="targets has to be one dict an image in training, 1, but got None"):
        tiny()(image)
    with pytest.raises(ValueError, match="targets has to be one dict an image in training, 1, but got 2"):
        tiny()(image, [NOTHING, NOTHING])
    with pytest.raises(ValueError, match=r"boxes has to be \(2, 4\), one a label, but got \(1, 4\)"):
        tiny()(image, [boxes((1, 2, 3, 4), labels=[1, 1])])
    for wrong in ((1, 2, 1, 4), (1, 2, 3, 0), (1, 2, 3, math.nan)):
        with pytest.raises(ValueError, match=r"boxes has to have x1 < x2 and y1 < y2, but got \[1.0, 2.0, "):
            tiny()(image, [boxes((1, 2, 3, 4), wrong)])
    for label in (0, 3):
        with pytest.raises(ValueError, match=f"labels has to be 1 to 2, but got {label}"):
            tiny()(image, [boxes((1, 2, 3, 4), labels=[label])])
    for anchors in (SHAPES[:8], SHAPES[::-1], ((0, 8), *SHAPES[1:])):
        with pytest.raises(
            ValueError, match=r"anchors has to be 9 positive \(width, height\), sorted by area, but got"
        ):
            tiny(anchors=anchors)
    with pytest.raises(ValueError, match="num_classes has to count the background and at least one class, but got 1"):
        tiny(classes=0)
    with pytest.raises(ValueError, match=r"sizes has to be of positive sides, but got \(\(64, 0\),\)"):
        tiny(sizes=((64, 0),))
    with pytest.raises(ValueError, match="levels has to have 3 maps, but got 2"):
        YOLOv3(Levels(Tiny(), 2), 3, (64, 64), image_mean=(0,) * 3, image_std=(1,) * 3)


@pytest.mark.parametrize("spec", ["resnet18-skip-1222", "mobilenet_v2-nlp_headfix2_nowin_reduced-1222121"])
def test_on_backbones(spec: str) -> None:
    import_all("attnpool.detection.detectors")
    entry = DETECTORS["yolov3"]
    assert Path(inspect.getfile(entry.target)).stem == entry.name
    features = create_model(spec, num_classes=1, features_only=True)
    detector = entry(features, 4, (64, 96), mean=(0.4,) * 3, std=(0.2,) * 3, anchors=SHAPES, sizes=((64, 64),))
    assert (detector.num_classes, detector.size, detector.sizes) == (5, (64, 96), ((64, 64), (64, 96)))
    assert (detector.image_mean, detector.image_std) == ([0.4] * 3, [0.2] * 3)
    assert detector.anchors.tolist() == [list(shape) for shape in SHAPES]
    losses = detector([torch.rand(3, 64, 96)] * 2, [boxes((3, 4, 30, 50), labels=[4]), NOTHING])
    sum(losses.values()).backward()
    behind = ("fc.", "conv_head.", "bn2.", "classifier.")  # what the backbone has after its last map
    for name, parameter in detector.named_parameters():
        unused = name.removeprefix("levels.features.net.").startswith(behind)
        assert (parameter.grad is None) == unused, name
    maps = detector.eval().heads(torch.rand(1, 3, 64, 96))
    assert [m.shape for m in maps] == [(1, 27, 8, 12), (1, 27, 4, 6), (1, 27, 2, 3)]


def test_it_learns_two_images() -> None:
    images = [torch.full((3, 64, 64), 0.5) for _ in range(2)]
    targets = [boxes((8, 8, 40, 36)), boxes((30, 20, 46, 60), (4, 4, 20, 20), labels=[2, 1])]
    for image, target in zip(images, targets, strict=True):
        for (x1, y1, x2, y2), label in zip(target["boxes"].int().tolist(), target["labels"].tolist(), strict=True):
            image[label, y1:y2, x1:x2] = 1.0
    detector = tiny(anchors=SHAPES)
    optimizer = torch.optim.Adam(detector.parameters(), lr=0.01)
    totals = []
    for _ in range(100):
        loss = sum(detector(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < totals[0] / 3
    for found, target in zip(detector.eval()(images), targets, strict=True):
        sure = found["scores"] > 0.5
        assert sure.sum() == len(target["labels"])
        iou, match = box_iou(target["boxes"], found["boxes"][sure]).max(1)
        assert (iou > 0.5).all()
        assert torch.equal(found["labels"][sure][match], target["labels"])
