"""Pictures of what a network looks at: the numbers in them, that looking changes nothing, and the command."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import attnpool
from attnpool.cli import main
from attnpool.detection import build
from attnpool.jobs._answer import answer
from attnpool.jobs.visualise import _names
from attnpool.models.checkpoint import Description, save
from attnpool.pools._patches import PatchAttention
from attnpool.pools._weighted import weighted_pool2d
from attnpool.registry import POOLS
from attnpool.visualise import METHODS, attention_maps, class_activation, kept_maps, weight_maps
from attnpool.visualise._frame import Frame, frame_of
from attnpool.visualise._layers import last_maps
from attnpool.visualise._pools import find_pools
from attnpool.visualise.explained import explain
from attnpool.visualise.figures import Shown, explained_figure
from attnpool.visualise.panels import activation_section

Captured = pytest.CaptureFixture[str]
WEIGHED = [name for name in POOLS if name.startswith(("nlp", "dfm", "mix", "dfmix", "lip", "soft"))]
PREPROCESSING = {"image_size": [32, 32], "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 0.875}


def roused(model: nn.Module) -> nn.Module:
    """The network with parameters that all do something: none is left at zero."""
    for p in model.parameters():
        nn.init.normal_(p)
    return model.eval()


def window(pool: Any) -> tuple[Any, ...]:
    return pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode


# ---- weights


@pytest.mark.parametrize("name", WEIGHED)
@pytest.mark.parametrize("geometry", [(2,), (3, 2, 1)], ids=str)
def test_the_weights_are_those_that_pool_the_map(name: str, geometry: tuple[int, ...]) -> None:
    model = roused(nn.Sequential(POOLS[name](4, *geometry)))
    x = torch.randn(2, 4, 9, 10)
    (found,) = weight_maps(model, x).values()
    y = model(x)
    torch.testing.assert_close(weighted_pool2d(x, found.weight, *window(model[0])), y, rtol=1e-4, atol=1e-4)
    # what a position counts is how much the sum of all outputs would change with it, if the weights stayed
    plain = torch.ones_like(x).requires_grad_()
    (by_average,) = torch.autograd.grad(F.avg_pool2d(plain, *window(model[0]), False).sum(), plain)
    weighed = (x * found.share * by_average).sum()
    torch.testing.assert_close(weighed, y.sum(), rtol=1e-3, atol=1e-2)


def test_in_windows_side_by_side_a_share_is_the_weight_over_the_windows_mean() -> None:
    model = roused(nn.Sequential(POOLS["nlp"](4, 2)))
    x = torch.randn(1, 4, 8, 8)
    (found,) = weight_maps(model, x).values()
    mean = F.interpolate(F.avg_pool2d(found.weight, 2), scale_factor=2)
    torch.testing.assert_close(found.share, found.weight / mean)
    torch.testing.assert_close(F.avg_pool2d(x * found.share, 2), model(x))
    assert found.share.std() > 0.01


def test_without_window_normalisation_a_share_is_the_weight() -> None:
    model = roused(nn.Sequential(POOLS["nlp"](4, 2, normalize=False)))
    (found,) = weight_maps(model, torch.randn(1, 4, 8, 8)).values()
    torch.testing.assert_close(found.share, found.weight)


def test_pools_that_weigh_nothing_are_left_out_and_parts_of_pools_too() -> None:
    names = [name for name in POOLS if name not in WEIGHED]
    assert len(names) >= 8
    x = torch.randn(2, 4, 8, 8)
    for name in names:
        model = roused(nn.Sequential(POOLS[name](4, 2)))
        assert weight_maps(model, x) == {}
        assert [*find_pools(model, x)] == ["0"], name


# ---- attention


@pytest.mark.parametrize("kv_stride", [1, 2])
def test_attention_is_the_row_of_the_dense_softmax(kv_stride: int) -> None:
    model = roused(nn.Sequential(POOLS["nlp"](8, 4, num_heads=2, patch_size=2, kv_stride=kv_stride)))
    x = torch.randn(2, 8, 12, 16)
    attend: PatchAttention = model[0].attend
    e = attend.norm(attend.embed(x)).relu().flatten(2).transpose(1, 2) + attend.position(6, 8)
    context = e if attend.context is None else attend.context(e, 6, 8)
    q = attend.attention.qkv(e)[..., :8].unflatten(-1, (2, 4)).transpose(1, 2)  # (B, h, N, d / h)
    k = attend.attention.qkv(context)[..., 8:16].unflatten(-1, (2, 4)).transpose(1, 2)
    dense = (q @ k.transpose(-1, -2) / 2).softmax(-1)  # (B, h, N, M)
    for query, number, place in (((0.5, 0.3), 12, (1, 4)), ((1.0, 1.0), 47, (5, 7)), ((0.0, 0.99), 40, (5, 0))):
        found = attention_maps(model, x, query)["0"]
        assert (found.query, found.grid) == (place, (6, 8))
        assert found.rows.shape == (2, 2, 6 // kv_stride, 8 // kv_stride)
        torch.testing.assert_close(found.rows.flatten(2), dense[:, :, number], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.rows.sum((2, 3)), torch.ones(2, 2))


# ---- what is kept


def test_what_is_lost_is_what_no_multiple_of_the_smaller_map_says() -> None:
    x = torch.randn(2, 3, 8, 8)
    average = kept_maps(nn.Sequential(nn.AvgPool2d(2)), x)["0"]
    gone = x - F.interpolate(F.avg_pool2d(x, 2), scale_factor=2)
    torch.testing.assert_close(average.part, gone.square().sum((1, 2, 3)) / x.square().sum((1, 2, 3)))
    for pool in (nn.MaxPool2d(2), POOLS["blurpool"](3, 2), roused(POOLS["nlp"](3, 2, normalize=False))):
        assert (kept_maps(nn.Sequential(pool), x)["0"].part >= average.part - 1e-6).all()  # the mean is the best
    flat = F.interpolate(torch.randn(2, 3, 4, 4), scale_factor=2)
    scaled = kept_maps(nn.Sequential(nn.LPPool2d(1, 2)), flat.abs())["0"]  # four times the mean: nothing is lost
    torch.testing.assert_close(scaled.lost, torch.zeros(2, 8, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.after, 4 * F.avg_pool2d(scaled.before, 2), rtol=1e-4, atol=1e-5)
    assert kept_maps(nn.Sequential(roused(POOLS["attnpool"](4, 2))), torch.randn(1, 4, 8, 8))["0"].lost is None


# ---- class activation


class Corners(nn.Module):
    """Class 0 is red, class 1 is green: a convolution that only passes them on, and their means."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1, bias=False)
        self.layer.weight.data = torch.eye(3)[:2, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).relu().mean((2, 3))


@pytest.mark.parametrize("method", [name for name in METHODS if "eigen" not in name])  # whose sign is arbitrary
def test_class_activation_points_at_the_evidence(method: str) -> None:
    x = torch.zeros(1, 3, 16, 24)
    x[:, 0, :6, :8] = 1.0  # red, upper left
    x[:, 1, 10:, 16:] = 2.0  # green, lower right, and more of it
    model = Corners()
    said = class_activation(model, x, method)
    assert (said.target, said.layers, said.map.shape, said.map.dtype) == (1, ("layer",), (16, 24), np.float32)
    assert said.map[10:, 16:].min() > 0.99
    assert said.map[:10].max() < 0.01
    red = class_activation(model, x, method, target=0, layers=["layer"])
    assert red.map[:6, :8].min() > 0.99
    assert red.map[6:].max() < 0.01


def test_the_layer_that_is_looked_at_is_the_last_with_a_map_of_some_size() -> None:
    pool = POOLS["nlp"](3, 2)
    model = nn.Sequential(nn.Conv2d(3, 3, 1), pool, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert last_maps(model, torch.randn(1, 3, 8, 8)) == ("2",)
    assert last_maps(model, torch.randn(1, 3, 6, 6)) == ("0",)  # and not within the pool
    ours = attnpool.create_model("resnet18-skip-1222", num_classes=2, width=0.125)
    assert last_maps(ours, torch.randn(1, 3, 64, 64)) == ("layer3",)


def test_mistakes_of_class_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = Corners(), torch.rand(1, 3, 8, 8)
    with pytest.raises(
        ValueError, match=r"method has to be one of gradcam, .*did you mean 'gradcam'.*but got 'grdcam'"
    ):
        class_activation(model, x, "grdcam")
    with pytest.raises(ValueError, match="target has to be a class, 0 to 1, but got 2"):
        class_activation(model, x, target=2)
    with pytest.raises(ValueError, match=r"did you mean 'layer'.*but got 'layr'"):
        class_activation(model, x, layers=["layr"])
    with pytest.raises(ValueError, match="x has to be one image, but got 2"):
        class_activation(model, x.expand(2, -1, -1, -1))
    assert not any(module._forward_hooks for module in model.modules())
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(ImportError, match=r"pip install attnpool\[visualise\]"):
        class_activation(model, x)


# ---- the network stays as it is


@pytest.mark.parametrize("kind", ["classifier", "detector"])
def test_looking_changes_nothing(kind: str) -> None:
    torch.manual_seed(1)
    model: Any
    if kind == "classifier":
        model = attnpool.create_model("prepool-nlp_headfix2-4-resnet18-maxp-1222", num_classes=3, width=0.125)
        x: Any = torch.randn(1, 3, 32, 32)
    else:
        model = build("ssd", "resnet18-nlp_headfix2-1222", num_classes=3, image_size=64, width=0.125)
        x = [torch.rand(3, 50, 64)]
    model.eval()
    before = model(x)
    model.train()
    next(model.modules()).training = True
    frozen, kept = list(model.parameters())[:2]
    frozen.requires_grad_(False)
    kept.grad = torch.ones_like(kept)
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    assert len(weight_maps(model, x)) == len(attention_maps(model, x)) > 0
    assert len(kept_maps(model, x)) == 4
    for method in ("gradcam", "eigencam"):
        class_activation(model, x, method)
    assert torch.equal(random, torch.get_rng_state())
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert not frozen.requires_grad
    assert kept.requires_grad
    assert torch.equal(kept.grad, torch.ones_like(kept))
    assert all(p.grad is None for p in model.parameters() if p is not kept)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    after = model.eval()(x)
    pairs = [(before, after)] if kind == "classifier" else [(before[0][n], after[0][n]) for n in before[0]]
    assert all(torch.equal(one, other) for one, other in pairs)


def test_what_fills_an_image_up_is_not_shown_nor_asked() -> None:
    model = build("faster_rcnn", "resnet18-nlp_headfix2-1222", num_classes=2, image_size=64, width=0.125, neck=8)
    x = [torch.rand(3, 64, 70)]  # filled up to 64 x 96
    frame = frame_of(model, x)
    assert (frame.size, frame.shown) == ((64, 96), (64, 70))
    first = next(iter(attention_maps(model, x, (1.0, 0.0)).values()))
    assert (first.query, first.grid) == ((0, int(70 / 96 * first.grid[1])), first.grid)
    model.roi_heads.score_thresh = 0.0
    assert class_activation(model.eval(), x).map.shape == (64, 70)


# ---- the command


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier, a detector, and two images of the same name."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("place")
    spec = "mobilenet_v2-nlp_headfix2-1222121"
    net: Any = attnpool.create_model(spec, num_classes=3, width=0.25)
    save(net, Description(net.spec, ("cat", "dog", "$cow"), PREPROCESSING), root / "classifier")
    detector: Any = build("ssd", "resnet18-lip-1222", num_classes=2, image_size=64, width=0.125)
    save(detector, Description(detector.spec, ("cat", "dog"), {}), root / "detector")
    for folder, colour in (("a", (200, 90, 30)), ("b", (20, 90, 200))):
        (root / folder).mkdir()
        Image.new("RGB", (60, 40), colour).save(root / folder / "1.png")
    return root


def test_the_command_on_a_classifier(place: Path, tmp_path: Path, capsys: Captured) -> None:
    words = ["visualise", str(place / "classifier"), str(place / "a/1.png"), "-o", str(tmp_path), "--query", "0.9,0.1"]
    options = ["--channels", "0,20", "--cam", "gradcam", "eigencam", "--target", "dog", "--no-progress"]
    assert main([*words, *options]) == 0
    assert "1.png" in capsys.readouterr().out
    assert sorted(f.name for f in tmp_path.iterdir()) == ["1.npz", "1.png"]
    model = attnpool.load(place / "classifier")
    with np.load(tmp_path / "1.npz", allow_pickle=False) as arrays:
        x = (torch.from_numpy(arrays["image"]).permute(2, 0, 1).unsqueeze(0) - 0.5) / 0.25
        wanted = weight_maps(model, x)
        for path, found in wanted.items():
            np.testing.assert_allclose(arrays[f"{path}/weight"], found.weight[0], rtol=1e-4)
            assert arrays[f"{path}/attention"].sum() == pytest.approx(2, abs=1e-4)
            assert arrays[f"{path}/lost"].shape == arrays[f"{path}/before"].shape == found.weight.shape[-2:]
        assert len(wanted) == 4
        np.testing.assert_allclose(arrays["probabilities"], model(x).softmax(1)[0].detach(), atol=1e-5)
        likeliest = int(arrays["probabilities"].argmax())
        assert {name for name in arrays if "cam/" in name} == {
            f"{method}/{target}" for method in ("gradcam", "eigencam") for target in {likeliest, 1}
        }
        assert (arrays["blocks.1.pool/query"] == (1, 14)).all()  # of 16 x 16 patches
    with Image.open(tmp_path / "1.png") as picture:
        assert picture.width == 1250
        assert picture.height > 1000


def test_the_command_on_a_detector_and_its_other_spelling(place: Path, tmp_path: Path) -> None:
    words = ["visualize", str(place / "detector"), str(place / "a/1.png"), "-o", str(tmp_path), "--no-progress"]
    assert main([*words, "--threshold", "0.2", "--cam", "layercam"]) == 0
    with np.load(tmp_path / "1.npz", allow_pickle=False) as arrays:
        assert arrays["boxes"].shape == (len(arrays["scores"]), 4)
        assert arrays["image"].shape == (40, 60, 3)
        (activation,) = (arrays[name] for name in arrays if name.startswith("layercam/"))
        assert activation.shape == (64, 64)
        assert any(name.endswith("layer2.pool/weight") for name in arrays)
    assert main([*words, "--threshold", "1", "--cam", "none", "--overwrite"]) == 0
    with np.load(tmp_path / "1.npz", allow_pickle=False) as arrays:
        assert not [name for name in arrays if name.startswith("layercam")]


def test_panels_do_not_overlap_and_stay_on_the_page(place: Path) -> None:
    model: Any = attnpool.load(place / "classifier")
    said = answer(model, Image.new("RGB", (20, 90), (9, 90, 30)), 0.5)
    found = explain(model, said.x, methods=["gradcam"], targets=[0, 2])
    sections = [activation_section(found.activations, ("cat", "dog", "$cow"), 2), *found.pool_sections([0, 1])[:2]]
    for frame, boxes in ((found.frame, None), (Frame((90, 20), (90, 20)), [((0, 0, 15, 9), "$cow 0.9", 2)])):
        figure = explained_figure(
            Shown(said.image, frame, "a $name$ " * 40, "net", "score", "{:.2f}", said.said, boxes), sections
        )
        places: Any = [axes.get_position() for axes in figure.axes]
        places += [text.get_window_extent().transformed(figure.transFigure.inverted()) for text in figure.texts]
        edges = np.array([(p.x0, p.y0, p.x1, p.y1) for p in places])
        assert len(edges) > 80
        assert edges.min() >= 0
        assert edges.max() <= 1
        (x0, y0, x1, y1), slack = edges.T[:, :, None], 1e-3
        meets = (x0 < x1.T - slack) & (x1 - slack > x0.T) & (y0 < y1.T - slack) & (y1 - slack > y0.T)
        assert meets.sum() == len(edges)  # each meets itself alone


def test_several_images_of_one_name_have_numbers() -> None:
    assert _names(["a/1.png", "b/2.png", "c/1.jpg"]) == ["0000-1", "2", "0002-1"]


WRONG = {
    "classifier a/1.png --cam grdcam": "cam has to be some of gradcam, gradcam++, hirescam",
    "classifier a/1.png --cam none gradcam": "or none alone",
    "classifier a/1.png --query 0.5,1.2": "query has to be x,y as parts of the image from 0 to 1, but got (0.5, 1.2)",
    "classifier a/1.png --query 0.5": "query has to be x,y as parts of the image from 0 to 1, but got '0.5'",
    "classifier a/1.png --channels 0,900": "channels has to be numbers from 0 to 39, but got 900",
    "classifier a/1.png --channels 0,x": "channels has to be numbers from 0 with commas between them, but got '0,x'",
    "classifier a/1.png --target dgo": "target has to be a class or its number, 0 to 2 (did you mean 'dog'?), but got",
    "classifier a/1.png --cam-layer blocks.9": "layers has to hold paths of the network's layers (did you mean",
    "classifier a/1.png --threshold 2": "threshold has to be from 0 to 1, but got 2",
    "classifier a/1.png nowhere.png": "cannot read the image nowhere.png: there is no such file",
    "classifier a/1.png -o full": "output has to be a folder without 1.png, but full has it; or say --overwrite",
    "classifier a/1.png -o a/1.png/x": "a/1.png/x",
    "classifier a/1.png -o a --overwrite": "output has to be another folder than that of a/1.png, which is an image",
    "model.tflite a/1.png": "checkpoint has to be a folder, but model.tflite is an export",
    "a a/1.png": "checkpoint has to be a folder with",
    "ssd:resnet18-lip-1222 a/1.png": "checkpoint has to be a folder",
}


@pytest.mark.parametrize(("words", "says"), WRONG.items(), ids=WRONG)
def test_a_mistake_is_one_line_and_writes_nothing(
    words: str, says: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(place)
    Path("full").mkdir(exist_ok=True)
    Path("full/1.png").write_text("mine")
    assert main(["visualise", *words.split(), "--no-progress"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert Path("full/1.png").read_text() == "mine"
    assert not Path("classifier/pictures").exists()


def test_without_grad_cam_all_else_is_drawn(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    words = ["visualise", str(place / "classifier"), str(place / "a/1.png"), "-o", str(tmp_path), "--no-progress"]
    assert main(words) == 2
    assert "pip install attnpool[visualise]" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []
    assert main([*words, "--cam", "none"]) == 0
