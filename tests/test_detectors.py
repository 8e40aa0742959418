"""Detectors on our backbones: every one trains and predicts at any size, and is what its string says."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

import attnpool
from attnpool import SpecError, create_model, profile
from attnpool.detection import build
from attnpool.detection._resize import KeepAPixel
from attnpool.detection.levels import Levels
from attnpool.detection.spec import DetectionSpec, parse_detector
from attnpool.models.checkpoint import Description, save
from attnpool.registry import DETECTORS

BACKBONES = (
    "resnet18-skip-1222",
    "resnet18-nlp-1222",
    "mobilenet_v2-nlp_headfix2_nowin_reduced-1222121",
    "mobilenetv3_small-skip-22211111211",
)


def targets(*sizes: tuple[int, int]) -> list[dict[str, Tensor]]:
    """Two boxes on each image, of labels 1 and 2; none on the last but the first."""
    made = []
    for i, (height, width) in enumerate(sizes):
        boxes = torch.tensor([[0.1, 0.2, 0.5, 0.7], [0.4, 0.3, 0.9, 0.9]]) * torch.tensor([width, height] * 2)
        keep = slice(0, 0 if 0 < i == len(sizes) - 1 else 2)
        made.append({"boxes": boxes[keep], "labels": torch.tensor([1, 2])[keep]})
    return made


def check_detections(found: list[dict[str, Tensor]], images: list[Tensor], classes: int) -> None:
    assert len(found) == len(images)
    for each, image in zip(found, images, strict=True):
        height, width = image.shape[1:]
        assert each.keys() == {"boxes", "labels", "scores"}
        assert len(each["boxes"]) == len(each["labels"]) == len(each["scores"])
        assert bool((each["boxes"] >= 0).all())
        assert bool((each["boxes"] <= torch.tensor([width, height] * 2) + 1e-3).all())
        assert bool(((each["labels"] >= 1) & (each["labels"] <= classes)).all())
        assert bool((each["scores"].diff() <= 0).all())


@pytest.mark.parametrize(("detector", "backbone"), [*product(DETECTORS, BACKBONES)])
def test_every_detector_trains_and_predicts_on_every_backbone(detector: str, backbone: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"neck": 16} if DETECTORS[detector].takes("neck") else {}
    model = build(detector, backbone, num_classes=2, image_size=96, **options).train()
    images = [torch.rand(3, 96, 96), torch.rand(3, 71, 103)]
    losses = model(images, targets((96, 96), (71, 103)))
    total = torch.stack(list(losses.values())).sum()
    assert total.isfinite()
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    with torch.no_grad():
        check_detections(model.eval()(images), images, 2)


@pytest.mark.parametrize("detector", DETECTORS)
def test_detectors_at_320_and_at_an_odd_size(detector: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"neck": 16} if DETECTORS[detector].takes("neck") else {}
    for size in (320, (251, 333)):
        model = build(detector, BACKBONES[3], num_classes=3, image_size=size, **options)
        image = torch.rand(3, 181, 217)
        model.train()([image, image], targets((181, 217), (181, 217)))
        with torch.no_grad():
            check_detections(model.eval()([image]), [image], 3)


def test_faster_rcnn_with_more_than_256_positions_a_side() -> None:
    """Where the published code runs out of positions: 1344 / 4 = 336 tokens a row."""
    torch.manual_seed(0)
    model = build("faster_rcnn", "resnet18-nlp_kv8-1222", num_classes=2, image_size=(800, 1344), width=0.125, neck=8)
    image = torch.rand(3, 800, 1344)
    rows: list[int] = []
    table = next(m for m in model.modules() if type(m).__name__ == "PositionTable")
    table.register_forward_hook(lambda _module, sides, _output: rows.append(max(sides)))
    with torch.no_grad():
        check_detections(model.eval()([image]), [image], 2)
    assert rows == [336]


@pytest.mark.parametrize("detector", DETECTORS)
def test_images_of_extreme_proportions(detector: str) -> None:
    """Of 3000 x 2 pixels the resize that keeps proportions leaves no pixel; and of 49 x 160, rounding does."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"neck": 16} if DETECTORS[detector].takes("neck") else {}
    model = build(detector, BACKBONES[3], num_classes=2, image_size=96, **options)
    sizes = ((3000, 2), (2, 3000), (1, 49 * 160), (49, 49 * 160), (1, 1))
    images = [torch.rand(3, *size) for size in sizes]
    made = targets(*sizes)
    before = [each["boxes"].clone() for each in made]
    losses = model.train()(images, made)
    assert all(loss.isfinite() for loss in losses.values())
    assert all(torch.equal(each["boxes"], boxes) for each, boxes in zip(made, before, strict=True))
    with torch.no_grad():
        check_detections(model.eval()(images), images, 2)


@pytest.mark.parametrize("thin", [1, 2, 5, 18, 19, 40])
def test_resizing_keeps_a_pixel_and_else_is_torchvisions(thin: int) -> None:
    """At a longest side of 160, of 3000 x 18 pixels nothing would be left, and of 3000 x 19 one."""
    options: Any = (96, 160, [0.0] * 3, [1.0] * 3)
    ours, theirs = KeepAPixel(*options).eval(), GeneralizedRCNNTransform(*options).eval()
    image, boxes = torch.rand(3, 3000, thin), torch.tensor([[0.0, 300.0, thin, 600.0]])
    batch, resized = ours([image], [{"boxes": boxes}])
    sides = batch.image_sizes[0]
    assert sides == (160, max(1, thin * 160 // 3000))
    assert torch.allclose(resized[0]["boxes"], torch.tensor([[0.0, 16.0, sides[1], 32.0]]))
    assert torch.allclose(ours.postprocess(resized, [sides], [(3000, thin)])[0]["boxes"], boxes, rtol=1e-5)
    if thin > 18:
        assert torch.equal(theirs([image])[0].tensors, batch.tensors)


@pytest.mark.parametrize("detector", DETECTORS)
def test_what_is_found_does_not_depend_on_the_other_images(detector: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"neck": 16} if DETECTORS[detector].takes("neck") else {}
    model = build(detector, BACKBONES[3], num_classes=2, image_size=96, **options).eval()
    image, other = torch.rand(3, 96, 96), torch.rand(3, 96, 96)
    with torch.no_grad():
        (alone,), (beside, _) = model([image]), model([image, other])
    assert len(alone["scores"]) == len(beside["scores"])
    assert torch.allclose(alone["scores"], beside["scores"], atol=1e-5)
    assert torch.allclose(alone["boxes"], beside["boxes"], atol=1e-2)


@pytest.mark.parametrize("detector", ["faster_rcnn", "retinanet"])
def test_with_a_published_backbone_they_are_torchvisions(detector: str) -> None:
    """With ResNet-50 ours are torchvision's: as many parameters, and the same anchors on each level."""
    import torchvision.models.detection as theirs

    makers = {"faster_rcnn": theirs.fasterrcnn_resnet50_fpn, "retinanet": theirs.retinanet_resnet50_fpn}
    expected: Any = makers[detector](weights=None, weights_backbone=None, num_classes=3)
    model: Any = build(detector, "resnet50-skip-1222", num_classes=2, image_size=(800, 1333))
    of = {"faster_rcnn": lambda m: m.rpn.anchor_generator, "retinanet": lambda m: m.anchor_generator}[detector]
    ours, other = of(model).cell_anchors, of(expected).cell_anchors
    assert all(torch.equal(a, b) for a, b in zip(ours, other, strict=True))
    own, published = (sum(p.numel() for p in m.parameters()) for m in (model, expected))
    assert own == published


@pytest.mark.parametrize("detector", DETECTORS)
def test_labels_count_from_1(detector: str) -> None:
    model = build(detector, BACKBONES[3], num_classes=2, image_size=96).train()
    for wrong in (0, 3):
        bad = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([wrong])}]
        with pytest.raises(ValueError, match=f"labels have to be from 1 to 2, but one is {wrong}"):
            model([torch.rand(3, 96, 96)], bad)


def test_ssds_boxes_are_the_published_ones() -> None:
    """Liu et al. for COCO at 300 x 300, as torchvision has them: 21, 45, 99, 153, 207, 261 pixels, and 315."""
    model: Any = build("ssd", "resnet18-skip-1222", num_classes=2, image_size=300, width=0.25)
    smallest = [pairs[0, 0].item() * 300 for pairs in model.anchor_generator._wh_pairs]
    assert smallest == pytest.approx([21, 45, 99, 153, 207, 261])


def test_levels_of_any_strides() -> None:
    cases = {
        "resnet18-skip-1222": ([8, 16, 32], [128, 256, 512]),
        "prepool-skip-1-mobilenet_v2-maxp-4121121": ([8, 16, 32], [96, 320, 160]),  # the last is made
        "mobilenet_v2-skip-1411121": ([8, 16, 32], [96, 320, 160]),
        "resnet18-maxp-4111": ([16, 32, 64], [512, 256, 128]),  # the backbone's own finest is 16
    }
    for string, (reductions, channels) in cases.items():
        levels = Levels(create_model(string, num_classes=1, features_only=True), 3).eval()
        assert (levels.reductions, levels.channels) == (reductions, channels)
        with torch.no_grad():
            maps = levels(torch.zeros(1, 3, 128, 128))
        sides = [128 // reduction for reduction in reductions]
        assert [tuple(m.shape[1:]) for m in maps] == [*zip(channels, sides, sides, strict=True)]
    between = Levels(create_model("mobilenet_v2-skip-1411121", num_classes=1, features_only=True), 3, finest=2)
    assert between.reductions == [2, 4, 8]
    assert between.channels == [16, 16, 96]  # that of 4 is made of that of 2
    with pytest.raises(ValueError, match="powers of two for a detector, but one is 6 times"):
        Levels(create_model("mobilenet_v2-skip-3221121", num_classes=1, features_only=True), 3)
    with pytest.raises(ValueError, match="count has to be positive, but got 0"):
        Levels(between.features, 0)


def test_layers_that_no_detector_reads_are_left_out() -> None:
    model = build("ssdlite", "mobilenet_v2-skip-1222121", num_classes=2)
    names = [name for name, _ in model.named_parameters()]
    assert not [name for name in names if "conv_head" in name or "classifier" in name]
    assert [name for name in names if "blocks.6" in name]


def test_a_spec_is_its_string_and_its_settings() -> None:
    options: dict[str, Any] = {"image_size": (128, 160), "anchors": ((8, 9),) * 9, "sizes": ((96, 96), (160, 160))}
    spec = parse_detector("yolov3:mobilenet_v2-nlp_headfix2-1222121", num_classes=1, width=0.5, **options)
    assert str(spec) == "yolov3:mobilenet_v2-nlp_headfix2-1222121"
    assert parse_detector(str(spec), **spec.settings) == spec
    assert parse_detector(str(spec), **json.loads(json.dumps(spec.settings))) == spec  # lists in place of tuples


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("resnet18-skip-1222", {}, "detector has to be written DETECTOR:.* but got 'resnet18-skip-1222'"),
        ("yolo:resnet18-skip-1222", {}, "did you mean 'yolov3'"),
        ("ssd:resnet18-skip-12", {}, "STRIDES|digit"),
        ("ssd:resnet18-skip-1222", {"num_classes": 0}, "num_classes has to be positive, but got 0"),
        ("ssd:resnet18-skip-1222", {"image_size": (320, 0)}, "image_size has to be two positive whole numbers"),
        ("ssd:resnet18-skip-1222", {"image_size": (320.5, 320)}, "image_size has to be two positive whole numbers"),
        ("faster_rcnn:resnet18-skip-1222", {"image_size": (320, 64)}, "the shortest side, then the longest"),
        ("yolov3:resnet18-skip-1222", {"anchors": ((float("inf"), 8.0),) * 9}, "anchors has to be pairs"),
        ("ssd:resnet18-skip-1222", {"neck": 64}, "neck has to be left out: ssd has none"),
        ("ssd:resnet18-skip-1222", {"sizes": ((320, 320),)}, "sizes has to be left out"),
        ("retinanet:resnet18-skip-1222", {"anchors": ((8, 8),)}, "anchors has to be left out"),
        ("ssd:resnet18-skip-1222", {"anchors": ((8, -8),)}, "anchors has to be pairs"),
        ("ssd:resnet18-skip-1222", {"in_channels": 1}, "in_channels has to be 3 for a detector, but got 1"),
    ],
)
def test_what_is_not_valid(text: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_detector(text, **settings)


def test_anchors_of_ssd_go_in_equal_parts_to_its_levels() -> None:
    anchors = tuple((8.0 + i, 10.0 + i) for i in range(12))
    model: Any = build("ssd", "resnet18-skip-1222", num_classes=2, image_size=(128, 64), width=0.25, anchors=anchors)
    pairs = model.anchor_generator._wh_pairs
    assert [len(p) for p in pairs] == [2] * 6
    assert pairs[0][1].tolist() == pytest.approx([9 / 64, 11 / 128])
    with pytest.raises(ValueError, match="anchors has to be a multiple of 6, the levels of SSD, but there are 5"):
        build("ssd", "resnet18-skip-1222", num_classes=2, anchors=anchors[:5])


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_checkpoint_gives_the_detector_back_and_its_layers_are_profiled(detector: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = "mobilenet_v2-nlp_headfix2_kv2-1222121"
    model: Any = build(detector, backbone, num_classes=2, image_size=64, width=0.25).eval()
    save(model, Description(model.spec, ("a", "b"), {}), tmp_path)
    again: Any = attnpool.load(tmp_path)
    assert again.spec == model.spec
    assert isinstance(again.spec, DetectionSpec)
    image = torch.rand(3, 64, 64)
    with torch.no_grad():
        ours, theirs = (m([image])[0] for m in (model, again))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        raw = model.raw()(image.unsqueeze(0))
    last = {"ssd": [4, 3], "ssdlite": [4, 3], "retinanet": [4, 3], "yolov3": [8] * 3, "faster_rcnn": [8] * 5 + [8] * 5}
    sides = [each.shape[-1] for each in raw]
    assert len(raw) == len(last[detector])
    assert sides == last[detector] or detector in ("yolov3", "faster_rcnn")  # maps: boxes before classes elsewhere
    found = profile(str(tmp_path), (3, 64, 64), latency=False, training=False)
    assert found.name == str(model.spec)
    assert found.params == sum(p.numel() for p in model.parameters())
    alone = profile(create_model(backbone, width=0.25, num_classes=1), (3, 64, 64), latency=False, training=False)
    assert found.macs > alone.macs / 2


@pytest.mark.parametrize("detector", DETECTORS)
def test_what_the_heads_say_goes_to_onnx_with_suppression_left_out(detector: str, tmp_path: Path) -> None:
    import onnxruntime

    backbone = BACKBONES[3] if detector == "ssdlite" else "resnet18-nlp_headfix2_kv2-1222"
    raw = build(detector, backbone, num_classes=3, image_size=128, width=0.25).eval().raw().eval()
    image = torch.rand(1, 3, 128, 128)
    torch.onnx.export(raw, (image,), tmp_path / "heads.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "heads.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    assert "NonMaxSuppression" not in (tmp_path / "heads.onnx").read_bytes().decode("latin-1")
    with torch.no_grad():
        expected = torch.utils._pytree.tree_leaves(raw(image))
    for made, meant in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(made), meant, rtol=1e-4, atol=1e-4)
