"""Equal to the published code: outputs and gradients on the golden vectors, through the converter."""

import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from goldens import GOLDEN, LAYERS, NETWORKS, cotangent, model_input, published, state_of
from torch import Tensor, nn

from attnpool import create_model, parse
from attnpool.layers.dynamic_conv import DynamicConv2d
from attnpool.layers.ulsam import ULSAM
from attnpool.models.convert import ConversionError, published_layer_state_dict, published_state_dict
from attnpool.registry import POOLS

LAYER_OPTIONS = {
    "patch_size": "patch_size",
    "num_heads": "num_heads",
    "embed_ratio": "embed_ratio",
    "window_norm": "normalize",
}
"""Published option of a pooling layer to ours."""
LAYER_TOLERANCE, LOGIT_TOLERANCE = 1e-6, 1e-9
"""Relative errors in float64: of layers, stored in float32, and of logits."""


def relative_error(ours: Tensor, theirs: np.ndarray) -> float:
    expected = torch.tensor(theirs)
    return float((ours - expected).norm() / expected.norm())


def make_layer(case: dict[str, Any]) -> nn.Module:
    """Our layer with the settings of a golden case."""
    if case["kind"] == "ulsam":
        return ULSAM(case["channels"], case["num_splits"])
    if case["kind"] == "dynamic_conv":
        settings = {k: v for k, v in case.items() if k not in ("kind", "input_shape", "output_shape", "state")}
        return DynamicConv2d(**settings)
    options = {ours: case[theirs] for theirs, ours in LAYER_OPTIONS.items() if theirs in case}
    return POOLS[case["kind"]](case["channels"], case["kernel_size"], **options)


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    case = LAYERS[name]
    layer = make_layer(case).double().eval()
    layer.load_state_dict(published_layer_state_dict(case["kind"], published(case["state"])))
    x = torch.tensor(model_input(name, tuple(case["input_shape"])), requires_grad=True)
    y = layer(x)
    y.backward(torch.tensor(cotangent(name, tuple(case["output_shape"]))))
    assert x.grad is not None
    with np.load(GOLDEN / "layers.npz", allow_pickle=False) as golden:
        assert relative_error(y.detach(), golden[f"{name}/y"]) < LAYER_TOLERANCE
        assert relative_error(x.grad, golden[f"{name}/dx"]) < LAYER_TOLERANCE


@pytest.mark.parametrize("text", NETWORKS)
def test_networks(text: str) -> None:
    case = NETWORKS[text]
    model: Any = create_model(text, num_classes=10).double().eval()
    assert sum(p.numel() for p in model.parameters()) == case["params"]
    model.load_state_dict(published_state_dict(published(case["state"]), model.spec))
    maps: dict[str, Tensor] = {}
    for i, stage in enumerate(model.stage_outputs):
        hook = lambda _m, _x, y, key=f"layer{i + 1}": maps.__setitem__(key, y)  # noqa: E731
        model.get_submodule(stage.path).register_forward_hook(hook)
    with torch.no_grad():
        logits = model(torch.tensor(model_input(text, tuple(case["input_shape"]))))
    with np.load(GOLDEN / "networks.npz", allow_pickle=False) as golden:
        assert relative_error(logits, golden[f"{text}/logits"]) < LOGIT_TOLERANCE
    for name, stage in case["stages"].items():
        assert list(maps[name].shape) == stage["shape"]
        assert maps[name].mean().item() == pytest.approx(stage["mean"], rel=1e-6, abs=1e-6)
        assert maps[name].std().item() == pytest.approx(stage["std"], rel=1e-4)


def test_the_prefixes_of_the_repository_do_not_matter() -> None:
    text = "resnet18-lip-1222"
    spec = parse(text, num_classes=10)
    bare = {name.removeprefix("net."): value for name, value in state_of(text).items()}
    expected = published_state_dict(bare, spec)
    for prefix in ("net.", "module.net.", "module."):
        found = published_state_dict({prefix + name: value for name, value in bare.items()}, spec)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    layer = published(LAYERS["lip_k2"]["state"])
    assert published_layer_state_dict("lip", {f"module.{name}": value for name, value in layer.items()}).keys() == (
        published_layer_state_dict("lip", layer).keys()
    )


def test_weights_of_average_pooling_stages_are_dropped_with_a_warning() -> None:
    text = "mobilenet_v2-nlp_headfix2_reduced-1222121"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec = parse(text, num_classes=10)
    plain = "mobilenet_v2-nlp_headfix2_nowin_reduced-1222121"  # the same names and shapes
    other = "mobilenet_v2-nlp_headfix2-1222121"  # of patches of one pixel: attention that does not cancel
    with pytest.warns(UserWarning, match="average pooling"):
        found = published_state_dict(state_of(plain), spec)
    assert not any(name.startswith("blocks.1.pool") for name in found)
    assert any(name.startswith("blocks.5.pool") for name in found)
    with pytest.raises(ConversionError, match=r"mis-shaped: blocks\.1\.pool\.attend\.embed\.weight"):
        published_state_dict(state_of(other), spec)


@pytest.mark.parametrize("ours", ["resnet18_v2-nlp-1222", "resnet18-nlp-1222"])
def test_the_placement_of_a_pool_is_part_of_its_name(ours: str) -> None:
    """Both have the same shapes, and other outputs: weights of one are not those of the other."""
    state = state_of("resnet18-nlp-1222")
    theirs = {re.sub(r"(layer\d)\.pool\.", r"\1.0.pooling.", name): value for name, value in state.items()}
    right, wrong = (theirs, state) if "_v2" in ours else (state, theirs)
    model = create_model(ours, num_classes=10)
    model.load_state_dict(published_state_dict(right, parse(ours, num_classes=10)))
    with pytest.raises(ConversionError, match=r"unknown: net\.layer2\.(0\.pooling|pool)\."):
        published_state_dict(wrong, parse(ours, num_classes=10))


def test_a_weight_that_comes_twice_is_refused() -> None:
    state = state_of("resnet18-lip-1222")
    with pytest.raises(ConversionError, match=r"twice: conv1\.weight"):
        published_state_dict({**state, "module.conv1.weight": torch.zeros(64, 3, 7, 7)}, parse("resnet18-lip-1222"))


def test_what_does_not_fit_is_listed() -> None:
    text = "resnet18-nlp-1222"
    state = state_of(text)
    state["net.fc.weight"] = torch.zeros(7, 512)
    del state["net.bn1.weight"]
    with pytest.raises(ConversionError, match=r"missing: bn1\.weight; mis-shaped: fc\.weight \(7, 512\)"):
        published_state_dict(state, parse(text, num_classes=10))
    with pytest.raises(ConversionError, match="unknown: nonsense; missing: bn1"):
        published_state_dict({"nonsense": torch.zeros(1)}, parse(text, num_classes=10))
    with pytest.raises(ConversionError, match="published backbone"):
        published_state_dict({}, parse("convnext_atto-nlp-1222"))
    with pytest.raises(ConversionError, match="methods whose published form is ours, but 'dfmnlp' is another"):
        published_state_dict(state, parse("resnet18-dfmnlp-1222"))


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("nlp", "colour", "do not fit a layer of nlp: unknown: colour"),
        ("lip", "ToMean.0.weight", "do not fit a layer of lip: unknown: ToMean"),
        ("dynamic_conv", "kernel", "do not fit a layer of dynamic_conv: unknown: kernel"),
        ("ulsam", "subspaces.0.colour", "do not fit a layer of ulsam: unknown: subspaces.0.colour"),
        ("ulsam", "subspaces.1.bn_dws.weight", "do not fit a layer of ulsam: missing: subspaces.0.bn_dws.weight"),
        ("nonsense", "weight", "kind has to be of a layer that was published, .* but got 'nonsense'"),
        ("mixp", "weight", "kind has to be .* but got 'mixp'"),
    ],
)
def test_what_is_no_such_layer_is_refused(kind: str, name: str, says: str) -> None:
    with pytest.raises(ConversionError, match=says):
        published_layer_state_dict(kind, {name: torch.zeros(1)})
