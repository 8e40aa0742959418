"""Networks from strings: as published, at other widths, and their features."""

import copy
import math

import pytest
import torch
from goldens import NETWORKS
from torch import nn

from attnpool import SelfAttentivePool2d, SpecError, create_model, parse
from attnpool.models.stages import BACKBONES, PLACEMENTS, find_backbone


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("text", NETWORKS)
def test_published_parameter_counts(text: str) -> None:
    assert count(create_model(text, num_classes=10)) == NETWORKS[text]["params"]


@pytest.mark.parametrize("text", NETWORKS)
def test_published_stage_shapes(text: str) -> None:
    features = create_model(text, num_classes=10, features_only=True).eval()
    with torch.no_grad():
        maps = features(torch.zeros(1, 3, 128, 128))
    assert [list(m.shape[1:]) for m in maps] == [stage["shape"][1:] for stage in NETWORKS[text]["stages"].values()]
    assert [m.shape[1] for m in maps] == features.channels
    assert [128 // m.shape[2] for m in maps] == features.reductions


def digits(name: str) -> str:
    """Stride digits for a backbone: 2 in its second and last stage, 1 elsewhere."""
    n = len(find_backbone(name).stages)
    return "".join("2" if i in (1, n - 1) else "1" for i in range(n))


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("pool", ["skip", "maxp", "nlp_headfix2"])
@pytest.mark.parametrize("name", [*BACKBONES, "efficientnet_lite0", "convnext_atto", "regnetx_002"])
def test_every_backbone_with_a_pool_at_every_placement(name: str, pool: str, placement: str) -> None:
    features = create_model(f"{name}-{pool}-{digits(name)}", placement=placement, in_channels=1, features_only=True)
    with torch.no_grad():
        maps = features.eval()(torch.zeros(1, 1, 64, 64))
    assert [64 // m.shape[2] for m in maps] == features.reductions
    assert features.reductions[-1] == 4 * features.reductions[0]
    pools = [m for m in features.modules() if isinstance(m, SelfAttentivePool2d)]
    assert len(pools) == (2 if pool == "nlp_headfix2" else 0)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_first_logits_are_small_for_any_number_of_classes(name: str) -> None:
    """timm draws the classifier of MobileNets for 1000 classes: with 10 its first loss was 4 to 6."""
    torch.manual_seed(0)
    for classes in (2, 10, 1000):
        model = create_model(f"{name}-avgp-{digits(name)}", num_classes=classes).train()
        logits = model(torch.randn(16, 3, 64, 64))
        assert nn.functional.cross_entropy(logits, torch.arange(16) % classes) < math.log(classes) + 0.6


def test_a_stem_may_keep_the_size_of_the_image() -> None:
    for name in ("mobilenet_v2", "resnet18"):
        strings = (f"{name}-skip-{digits(name)}", f"prepool-skip-1-{name}-skip-{digits(name)}")
        plain, still = (create_model(string, features_only=True) for string in strings)
        stem = 4 if name == "resnet18" else 2
        assert plain.reductions == [stem * reduction for reduction in still.reductions]
        assert [m.shape[2] for m in still(torch.zeros(2, 3, 32, 32))] == [32 // r for r in still.reductions]


@pytest.mark.parametrize("pool", ["skip", "maxp", "nlp"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50_v2", "mobilenet", "mobilenetv3_small", "convnext_atto"])
def test_prepool_sets_the_stem_to_its_stride(name: str, pool: str) -> None:
    plain, pooled = (
        create_model(f"{prepool}{name}-skip-{digits(name)}", features_only=True)
        for prepool in ("", f"prepool-{pool}-8-")
    )
    assert pooled.reductions[0] == 8
    assert plain.reductions[0] in (2, 4)
    with torch.no_grad():
        assert pooled.eval()(torch.zeros(1, 3, 64, 64))[0].shape[-1] == 8
    if pool != "nlp":
        assert count(pooled) == count(plain)


@pytest.mark.parametrize("name", [b.name for b in BACKBONES.values() if b.scaled])
def test_width_scales_every_channel_number(name: str) -> None:
    text = f"{name}-nlp_headfix2-{digits(name)}"
    half, full = (create_model(text, width=width, num_classes=10, features_only=True) for width in (0.5, 1.0))
    pairs = list(zip(half.channels, full.channels, strict=True))
    assert all(0.4 <= h / f <= 0.75 for h, f in pairs)
    stems = [next(m for m in net.modules() if isinstance(m, nn.Conv2d)).out_channels for net in (half, full)]
    assert stems[0] < stems[1] or name.startswith("mobilenetv3")  # its stem of 16 is fixed, as in the paper
    with torch.no_grad():
        assert half.eval()(torch.zeros(1, 3, 32, 32))[-1].shape[1] == half.channels[-1]


def test_the_network_says_what_it_is() -> None:
    model = create_model("mobilenet_v2-nlp_headfix2-1222121", num_classes=7, in_channels=1, width=0.35, dropout=0.3)
    assert model.spec == parse(
        "mobilenet_v2-nlp_headfix2-1222121", num_classes=7, in_channels=1, width=0.35, dropout=0.3
    )
    assert model.eval()(torch.zeros(2, 1, 32, 32)).shape == (2, 7)


def test_dropout_is_applied_in_training_only() -> None:
    model, x = create_model("resnet18-skip-1222", width=0.25, num_classes=10, dropout=0.9), torch.randn(2, 3, 32, 32)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_a_stage_that_is_average_pooling_is_built_as_average_pooling() -> None:
    with pytest.warns(UserWarning, match="plain average pooling"):
        model = create_model("mobilenet_v2-nlp_headfix2_reduced-1222121")
    pools = [model.get_submodule(f"blocks.{i}.pool") for i in (1, 2, 3, 5)]
    assert [type(p) for p in pools] == [nn.AvgPool2d] * 3 + [SelfAttentivePool2d]


@pytest.mark.parametrize("text", ["resnet18-skip-1222", "mobilenet_v2-nlp_headfix2-1222121"])
def test_a_network_compiles_without_a_graph_break(text: str) -> None:
    model, x = create_model(text, num_classes=10).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=False)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("text", ["resnet18d-maxp-1222", "resnet18d-skip-1222", "resnet34-lip-2222"])
def test_timm_networks_follow_their_string(text: str) -> None:
    model = create_model(text, num_classes=10).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 10)


@pytest.mark.parametrize("text", ["resnetblur50-maxp-1222", "mobilenetv4_conv_blur_medium-maxp-12221"])
def test_timm_networks_that_stride_in_other_ways_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match="stride by convolutions and pools alone"):
        create_model(text)


def test_features_can_be_copied() -> None:
    features = create_model("resnet18-maxp-1222", width=0.25, features_only=True).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(copy.deepcopy(features)(x), features(x), strict=True):
            assert torch.equal(a, b)


def test_a_stage_that_has_nothing_to_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="convolution that can stride"):
        create_model("convnext_atto-skip-2222")
