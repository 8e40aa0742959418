"""Dynamic convolution and subspace attention: in a network of anyone's, and in ours."""

import copy
import itertools
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.layers import Conv2dSame
from torch import Tensor, nn

from attnpool import (
    ULSAM,
    DynamicConv2d,
    SelfAttentivePool2d,
    create_model,
    insert_attention_,
    make_dynamic_,
    parse,
    replace_downsampling_,
)
from attnpool.attentionspec import parse_attention
from attnpool.layers.dynamic_conv import anneal_
from attnpool.spec import SpecError

LAYERS: dict[str, Any] = {
    "dynamic": lambda: DynamicConv2d(8, 8, 3, 1, 1),
    "depthwise": lambda: DynamicConv2d(8, 8, 3, 1, 1, groups=8, bias=False),
    "ulsam": lambda: ULSAM(8),
    "ulsam of one group": lambda: ULSAM(8, 1),
}
each_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


@each_layer
def test_keeps_the_size_the_dtype_and_a_missing_batch(make: Any) -> None:
    layer = make().eval()
    x = torch.randn(3, 8, 7, 5)
    assert layer(x).shape == x.shape
    torch.testing.assert_close(layer(x[1]), layer(x)[1])
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(layer.to(memory_format=torch.channels_last)(last), layer(x))
    assert layer.double()(x.double()).dtype == torch.float64
    assert layer.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


@each_layer
def test_every_parameter_gets_a_gradient(make: Any) -> None:
    layer, x = make(), torch.randn(3, 8, 7, 5, requires_grad=True)
    (layer(x) * torch.randn(x.shape)).sum().backward()
    for name, tensor in {**dict(layer.named_parameters()), "input": x}.items():
        assert tensor.grad is not None, name
        assert tensor.grad.abs().max() > 0 or "bias" in name, name


@each_layer
def test_compiles_exports_and_has_right_gradients(make: Any) -> None:
    layer, x = make().eval(), torch.randn(2, 8, 6, 6)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=False)
    torch.testing.assert_close(compiled(x), layer(x))
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), layer(x))
    exact = layer.double()
    assert torch.autograd.gradcheck(exact, (x.double().requires_grad_(),), fast_mode=True)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: DynamicConv2d(0, 8, 3), "in_channels has to be a positive integer, but got 0"),
        (lambda: DynamicConv2d(8, 8, 0), "kernel_size has to be .*, but got 0"),
        (lambda: DynamicConv2d(8, 6, 3, groups=4), "groups has to divide .*, but got 4"),
        (lambda: DynamicConv2d(8, 8, 3, kernels=0), "kernels has to be .*, but got 0"),
        (lambda: DynamicConv2d(8, 8, 3, padding="valid"), "padding has to be pixels or 'same', but got 'valid'"),
        (lambda: DynamicConv2d(8, 8, 3)(torch.zeros(1, 4, 8, 8)), r"input has to be \(B, 8, H, W\) .*, but got"),
        (lambda: DynamicConv2d(8, 8, 3)(torch.zeros(1, 8, 8, 8, dtype=torch.int64)), "floating-point"),
        (lambda: ULSAM(8, 3), "groups has to divide the 8 channels, but got 3"),
        (lambda: ULSAM(8)(torch.zeros(1, 4, 8, 8)), "input has to be .*, but got"),
    ],
)
def test_bad_arguments_are_named(make: Any, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        make()


def test_subspace_attention_keeps_channels_last() -> None:
    x = torch.randn(2, 8, 5, 5).contiguous(memory_format=torch.channels_last)
    assert ULSAM(8)(x).is_contiguous(memory_format=torch.channels_last)


def test_the_shares_become_sharper_as_the_temperature_falls() -> None:
    layer, x = DynamicConv2d(8, 8, 1), 5 * torch.randn(2, 8, 4, 4)
    temperatures, sharpest = [], []
    for epoch in (0, 1, 10, 11, 50):
        temperatures.append(anneal_(layer, epoch))
        sharpest.append(layer.attention(x).max().item())
    assert temperatures == [34, 31, 4, 1, 1]
    assert sharpest == sorted(sharpest)
    assert layer.state_dict()["attention.temperature"] == 1  # a trained layer keeps what it was trained to
    assert anneal_(nn.Conv2d(1, 1, 1), 3) is None


def test_any_network_becomes_dynamic_with_equal_outputs() -> None:
    model = torchvision.models.resnet18().eval()
    x = torch.randn(2, 3, 64, 64)
    expected = model(x)
    paths = make_dynamic_(model, copy_weights=True)
    assert len(paths) == 20
    assert "layer2.0.downsample.0" in paths
    torch.testing.assert_close(model(x), expected, rtol=1e-3, atol=1e-4)
    assert len(replace_downsampling_(model, "maxp")) == 4  # and is still one whose downsampling is found
    assert model(x).shape == expected.shape


def test_what_has_no_dynamic_form_is_refused_and_the_network_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"))
    with pytest.raises(ValueError, match=r"but 1 is Conv2d.*reflect"):
        make_dynamic_(model)
    assert type(model[0]) is nn.Conv2d
    for nothing in (nn.Sequential(nn.Linear(3, 8)), nn.Conv2d(3, 8, 3), DynamicConv2d(3, 8, 3)):
        with pytest.raises(ValueError, match="model has to have convolutions inside it"):
            make_dynamic_(nothing)


def test_a_convolution_in_two_places_stays_one_and_a_frozen_one_frozen() -> None:
    shared = nn.Conv2d(8, 8, 3, padding=1).requires_grad_(False)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Conv2d(8, 8, 1))
    assert make_dynamic_(model) == ["0", "2", "3"]
    assert model[0] is model[2]
    assert not any(p.requires_grad for p in model[0].parameters())
    assert all(p.requires_grad for p in model[3].parameters())


@pytest.mark.parametrize(("stride", "dilation", "side"), [(1, 1, 7), (2, 1, 8), (2, 1, 9), (3, 2, 10)])
def test_same_padding_is_tensorflows(stride: int, dilation: int, side: int) -> None:
    model = nn.Sequential(Conv2dSame(4, 6, 3, stride, 0, dilation))
    x = torch.randn(2, 4, side, side)
    expected = model(x)
    make_dynamic_(model, copy_weights=True)
    assert expected.shape[-1] == -(-side // stride)
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("make", [lambda: DynamicConv2d(64, 64, 3, 1, 1), lambda: ULSAM(64)])
def test_values_of_ten_thousand_stay_finite_in_half_precision(make: Any, dtype: torch.dtype) -> None:
    inputs = (torch.full((2, 64, 8, 8), 1e4), 1e4 * torch.rand(2, 64, 8, 8))
    for x, mixed in itertools.product(inputs, (True, False)):
        layer, given = (make() if mixed else make().to(dtype)), x.to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype, enabled=mixed):
            y = layer(given)
        (2.0**-20 * y.float() * torch.randn(y.shape)).sum().backward()
        for name, tensor in {**dict(layer.named_parameters()), "input": given}.items():
            assert tensor.grad is not None, name
            assert tensor.grad.isfinite().all(), name
        assert y.isfinite().all()


def static_convolutions(model: nn.Module) -> set[str]:
    inside = {id(m) for d in model.modules() if isinstance(d, DynamicConv2d) for m in d.modules()}
    return {name for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and id(m) not in inside}


@pytest.mark.parametrize(
    ("text", "static"),
    [
        ("dymobilenet_v2-nlp_headfix2-1222121", set()),
        ("dymobilenetv1-skip-12121", set()),
        ("dymobilenetv3_small-maxp-12111111111", set()),
        ("prepool-nlp_headfix2-4-dyresnet18_v2-skip-1222", set()),
        ("dyconvnext_atto-maxp-1222", set()),
        ("dytf_efficientnet_lite0-skip-1222121", set()),
        ("dyresnet18-lip-1122", {"layer3.pool.logit.0", "layer4.pool.logit.0"}),
        ("dyresnet18-gaussian_pool-1112", {f"layer4.pool.{n}.0" for n in ("hidden", "to_mean", "to_sigma")}),
        ("dyresnet18-attnpool-1112", {"layer4.pool.attend.embed", "layer4.pool.conv"}),
        ("dyresnet18-dfmnlp_headfix2-1112", {f"layer4.pool.attend.embed.{n}" for n in ("conv", "mask")}),
    ],
)
def test_dy_strings(text: str, static: set[str]) -> None:
    model: Any = create_model(text, num_classes=5)
    assert model.spec == parse(text, num_classes=5)
    assert static_convolutions(model) == static
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 5)


def test_pretrained_weights_are_copied_into_every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = timm.create_model("resnet18", num_classes=5)
    offline = copy.deepcopy(plain)  # stands in for timm's hub
    monkeypatch.setattr(timm, "create_model", lambda *_, pretrained, **__: offline)
    model: Any = create_model("dyresnet18-skip-1222", num_classes=5, pretrained=True)
    for kernel in model.layer1[0].conv1.weight.chunk(4):
        assert torch.equal(kernel, plain.layer1[0].conv1.weight)


ATTENTION = {
    "mobilenet_v2-skip-1222121": "after:blocks.4.1,replace:blocks.5.1:8",
    "mobilenetv1-nlp_headfix2-12121": "replace:blocks.3.2,after:blocks.3.4,after:blocks.4",
    "mobilenetv3_small-skip-12111211121": "after:blocks.0.0",
    "dyresnet18-nlp-1222": "after:layer2.1:1,after:layer4",
    "mobilenet_v2-nlp_headfix2-4222121": "after:blocks.6",
    "convnext_atto-maxp-1222": "after:stages.1.blocks.0:5",
}


@pytest.mark.parametrize(("text", "attention"), ATTENTION.items())
def test_attention_in_networks_of_strings(text: str, attention: str) -> None:
    plain: Any = create_model(text, num_classes=5)
    model: Any = create_model(text, num_classes=5, attention=attention)
    modules = {name: m for name, m in model.named_modules() if isinstance(m, ULSAM)}
    sites = parse_attention(attention)
    assert [m.groups for m in modules.values()] == [site.groups for site in sites]
    assert parse(str(model.spec), **model.spec.settings) == model.spec
    gone = tuple(f"{site.block}." for site in sites if site.where == "replace")
    assert not [name for name in plain.state_dict().keys() - model.state_dict().keys() if not name.startswith(gone)]
    features: Any = create_model(text, num_classes=5, attention=attention, features_only=True).eval()
    seen: list[Tensor] = []
    for module in features.modules():
        if isinstance(module, ULSAM):
            module.register_forward_hook(lambda _m, _x, y: seen.append(y))
    with torch.no_grad():
        maps = features(torch.zeros(1, 3, 128, 128))
    assert [128 // m.shape[2] for m in maps] == features.reductions
    if attention.endswith((".4", "layer4", "blocks.6")):
        assert torch.equal(maps[-1], seen[-1])  # what stands after the last stage belongs to it


@pytest.mark.parametrize(("block", "stage"), [("blocks.0.0", 0), ("blocks.4", -1), ("blocks.4.2", -1)])
def test_a_stage_ends_behind_its_attention(block: str, stage: int) -> None:
    model: Any = create_model("mobilenetv3_small-skip-12111211121", attention=f"after:{block}")
    assert isinstance(model.get_submodule(model.stage_outputs[stage].path), ULSAM)


def test_a_block_that_strides_is_not_replaced_even_on_one_pixel() -> None:
    with pytest.raises(ValueError, match=r"keeps its map's shape, but 'blocks.4.1'"):
        create_model("mobilenetv3_small-skip-22222222222", attention="replace:blocks.4.1")


def test_blocks_inside_each_other_and_empty_shortcuts() -> None:
    model = timm.create_model("resnet18", num_classes=4)
    model.layer1[0].downsample = nn.Sequential()  # as many write an identity
    paths = insert_attention_(model, "after:layer2,after:layer1.0.conv1,after:layer1.0,after:layer1.0.downsample:1")
    assert {type(model.get_submodule(path)) for path in paths.values()} == {ULSAM}
    assert paths["layer2.1"] == "layer2.attention"
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 4)


def test_equal_attention_is_written_in_one_way() -> None:
    one = parse("resnet18-skip-1222", attention="after:layer1.0:4 , replace:layer2.1:8")
    assert one == parse("resnet18-skip-1222", attention="after:layer1.0,replace:layer2.1:8")
    assert one.attention == "after:layer1.0,replace:layer2.1:8"
    for wrong in (None, ("after:layer1.0",)):
        with pytest.raises(SpecError, match="attention has to be"):
            parse("resnet18-skip-1222", attention=wrong)


class Own(nn.Module):
    """A network as a user writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.body = nn.Conv2d(8, 8, 3, 1, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def test_attention_in_a_network_of_anyone() -> None:
    model = Own().double()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert insert_attention_(model, "after:stem:2, replace:body", input_size=(32, 32)) == {
        "stem": "stem.attention",
        "body": "body",
    }
    assert model(torch.randn(2, 3, 32, 32, dtype=torch.float64)).shape == (2, 4)
    torch.testing.assert_close(model.state_dict()["stem.block.weight"], state["stem.weight"])


@pytest.mark.parametrize(
    ("attention", "rule"),
    [
        ("", "attention has to be after:BLOCK"),
        ("before:stem", "but got 'before:stem'"),
        ("after:stem:0", "but got 'after:stem:0'"),
        ("after:stm", "did you mean 'stem'.*but got 'stm'"),
        ("after:head", "gives a map.*but got 'head'"),
        ("replace:stem", r"keeps its map's shape, but 'stem' makes \(8, 16, 16\) of \(3, 32, 32\)"),
        ("after:stem:3", "attention at 'stem': groups has to divide the 8 channels"),
        ("replace:body,after:body", "names 'body' again"),
    ],
)
def test_attention_that_cannot_be_is_refused_and_the_network_left_alone(attention: str, rule: str) -> None:
    model = Own()
    before = str(model)
    with pytest.raises(ValueError, match=rule):
        insert_attention_(model, attention, input_size=(32, 32))
    assert str(model) == before


def test_a_spec_with_wrong_attention_is_refused() -> None:
    with pytest.raises(SpecError, match="attention has to be"):
        parse("resnet18-skip-1222", attention="layer1")
    with pytest.raises(ValueError, match=r"did you mean 'layer1\.0'"):
        create_model("resnet18-skip-1222", attention="after:layer1.00")


def test_a_pool_and_attention_share_a_network() -> None:
    model = create_model("resnet18-nlp_headfix2-1222", attention="after:layer2.1")
    kinds = [type(m) for m in model.modules() if isinstance(m, ULSAM | SelfAttentivePool2d)]
    assert kinds.count(ULSAM) == 1
    assert kinds.count(SelfAttentivePool2d) == 3
