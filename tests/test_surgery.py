"""Surgery on networks that are not ours: torchvision's, timm's, and a hand-written one."""

from functools import partial
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from attnpool import LocalImportancePool2d, SelfAttentivePool2d, replace_downsampling_


def hand_written() -> nn.Module:
    layers: list[nn.Module] = []
    for given, made in ((3, 8), (8, 16), (16, 32)):
        layers += [nn.Conv2d(given, made, 3, stride=2, padding=1), nn.BatchNorm2d(made), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


NETWORKS: dict[str, Any] = {
    "torchvision resnet18": torchvision.models.resnet18,
    "torchvision mobilenet_v3_small": torchvision.models.mobilenet_v3_small,
    "torchvision densenet121": torchvision.models.densenet121,
    "timm efficientnet_lite0": partial(timm.create_model, "efficientnet_lite0"),
    "timm convnext_atto": partial(timm.create_model, "convnext_atto"),
    "timm resnet10t": partial(timm.create_model, "resnet10t"),
    "hand-written": hand_written,
}
REPLACED = {
    "torchvision resnet18": ["maxpool", "layer2.0", "layer3.0", "layer4.0"],
    "torchvision mobilenet_v3_small": ["features.1", "features.2", "features.4", "features.9"],
    "torchvision densenet121": ["features.pool0", *(f"features.transition{i}.pool" for i in (1, 2, 3))],
    "timm efficientnet_lite0": ["blocks.1.0", "blocks.2.0", "blocks.3.0", "blocks.5.0"],
    "timm convnext_atto": ["stages.1", "stages.2", "stages.3"],
    "timm resnet10t": ["maxpool", "layer2.0", "layer3.0", "layer4.0"],
    "hand-written": ["3", "6"],
}
every_network = pytest.mark.parametrize("name", list(NETWORKS))


def shapes(model: nn.Module, size: tuple[int, int]) -> list[torch.Size]:
    """Output shapes of all 4-d maps of 1/4 of the image and smaller, as sizes (H, W) in order, without repeats."""
    found: list[torch.Size] = []

    def hook(_module: nn.Module, _inputs: Any, made: Any) -> None:
        if isinstance(made, torch.Tensor) and made.ndim == 4 and (not found or found[-1] != made.shape[-2:]):
            found.append(made.shape[-2:])

    handles = [m.register_forward_hook(hook) for m in model.modules()]
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, *size))
    for handle in handles:
        handle.remove()
    return sorted(set(found))


@every_network
def test_replaces_in_place_and_says_what(name: str) -> None:
    model = NETWORKS[name]()
    replaced = replace_downsampling_(model, "nlp_headfix2", input_size=(64, 64))
    assert [r.site for r in replaced] == REPLACED[name]
    for r in replaced:
        pool = model.get_submodule(r.name)
        assert isinstance(pool, SelfAttentivePool2d)
        assert (pool.channels, pool.stride) == (r.channels, (r.stride, r.stride))


@every_network
@pytest.mark.parametrize("placement", ["before", "after_first", "end"])
@pytest.mark.parametrize("size", [(64, 64), (75, 97)])
def test_every_map_keeps_its_size(name: str, placement: str, size: tuple[int, int]) -> None:
    model = NETWORKS[name]()
    before = shapes(model, size)
    replace_downsampling_(model, "maxp", placement=placement, input_size=(64, 64))
    assert set(before) <= set(shapes(model, size))


@every_network
def test_untouched_parameters_are_bit_equal(name: str) -> None:
    model = NETWORKS[name]()
    old = {key: value.clone() for key, value in model.state_dict().items()}
    replace_downsampling_(model, "lip", input_size=(64, 64))
    new = model.state_dict()
    assert old.keys() <= new.keys()
    assert all(torch.equal(value, new[key]) for key, value in old.items())


def test_training_mode_and_statistics_are_left_alone() -> None:
    model = hand_written()
    model[1].eval()
    replace_downsampling_(model, "lip")
    assert model.training
    assert not model[1].training or not model.get_submodule("1").training
    assert all(b.eq(0).all() for key, b in model.named_buffers() if key.endswith("num_batches_tracked"))


def test_where_and_a_factory_choose() -> None:
    model = torchvision.models.resnet18()
    seen: list[str] = []

    def late(name: str, module: nn.Module) -> bool:
        seen.append(name)
        return name.startswith(("layer3", "layer4"))

    factory = partial(SelfAttentivePool2d, patch_size=2, normalize=False)
    replaced = replace_downsampling_(model, factory, where=late, placement="end")
    assert [(r.name, r.site, r.channels) for r in replaced] == [
        ("layer3.pool", "layer3.0", 256),
        ("layer4.pool", "layer4.0", 512),
    ]
    assert seen == ["conv1", "maxpool", "layer2.0", "layer3.0", "layer4.0"]
    assert model.get_submodule("layer4.pool").patch_size == 2
    assert model.layer3[0].conv1.stride == model.layer3[0].downsample[0].stride == (1, 1)
    assert model.layer2[0].conv1.stride == (2, 2)


def test_the_stem_is_replaced_if_asked_or_alone() -> None:
    model = torchvision.models.resnet18()
    (stem,) = replace_downsampling_(model, "avgp", where=lambda name, _: name == "conv1", input_size=(64, 64))
    assert stem.name == "conv1.pool"
    assert isinstance(model.conv1[1], nn.AvgPool2d)  # after the convolution, not on the image
    only = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    assert [r.name for r in replace_downsampling_(only, "lip", input_size=(32, 32))] == ["pool"]
    assert only(torch.zeros(2, 3, 32, 32)).shape == (2, 2)


def test_gradients_reach_every_parameter_afterwards() -> None:
    model = hand_written()
    replace_downsampling_(model, LocalImportancePool2d, input_size=(32, 32))
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"pool": "nlp", "where": lambda name, module: False}, r"matched none \(sites: 0, 3, 6\)"),
        ({"pool": "nlq"}, "did you mean 'nlp'"),
        ({"pool": "nlp_reduced"}, "patch_size"),
        ({"pool": "nlp", "placement": "after"}, "placement has to be one of before"),
    ],
)
def test_mistakes_are_named_and_leave_the_network_as_it_was(arguments: dict[str, Any], says: str) -> None:
    model = hand_written()
    before = str(model)
    with pytest.raises(ValueError, match=says):
        replace_downsampling_(model, **arguments)
    assert str(model) == before


def test_a_network_that_needs_its_sizes_is_refused_and_left_as_it_was() -> None:
    dqn = nn.Sequential(nn.Conv2d(4, 8, 8, 4), nn.ReLU(), nn.Conv2d(8, 8, 4, 2), nn.Flatten(), nn.Linear(8 * 9 * 9, 2))
    before = str(dqn)
    with pytest.raises(ValueError, match="need the sizes they had"):
        replace_downsampling_(dqn, "maxp", input_size=(84, 84))
    assert str(dqn) == before


def test_a_factory_that_fails_at_the_second_site_changes_nothing() -> None:
    def factory(channels: int, stride: int, *, ceil_mode: bool) -> nn.Module:
        if channels > 8:
            raise RuntimeError("no")
        return nn.MaxPool2d(stride, ceil_mode=ceil_mode)

    model = hand_written()
    before = str(model)
    with pytest.raises(RuntimeError, match="no"):
        replace_downsampling_(model, factory)
    assert str(model) == before


@pytest.mark.parametrize("name", ["inception_v3", "googlenet", "squeezenet1_1", "shufflenet_v2_x0_5", "regnet_x_400mf"])
def test_other_networks_run_as_before_or_are_refused(name: str) -> None:
    model = getattr(torchvision.models, name)(
        weights=None, **({"init_weights": False} if name in ("inception_v3", "googlenet") else {})
    )
    size = (139, 139)
    with torch.no_grad():
        shape = model.eval()(torch.zeros(1, 3, *size)).shape
    before = str(model)
    try:
        replace_downsampling_(model, "lip", input_size=size)
    except ValueError:
        assert str(model) == before
    with torch.no_grad():
        assert model(torch.zeros(1, 3, *size)).shape == shape


def test_the_image_is_known_by_the_input_and_not_by_its_size() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 12, 3, 2, 1), nn.PixelShuffle(2), nn.Upsample(scale_factor=8)
    )
    (replaced,) = replace_downsampling_(model, "lip", input_size=(32, 32))
    assert (replaced.site, replaced.channels) == ("1", 8)


def test_even_kernels_keep_their_size_and_other_paddings_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 4, 2, 1, padding_mode="circular"))
    with pytest.raises(ValueError, match="1 has to have zero padding"):
        replace_downsampling_(model, "lip", input_size=(32, 32))
    even = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 2, 2))
    replace_downsampling_(even, "lip", input_size=(32, 32))
    assert even(torch.zeros(2, 3, 32, 32)).shape == (2, 8, 16, 16)


def test_a_size_that_the_network_does_not_run_on_is_named() -> None:
    lenet = nn.Sequential(nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 14 * 14, 10))
    with pytest.raises(ValueError, match="input_size has to be one that the network runs on"):
        replace_downsampling_(lenet, "lip")
    assert len(replace_downsampling_(lenet, "lip", input_size=(32, 32))) == 1


def test_a_network_without_downsampling_or_convolutions() -> None:
    with pytest.raises(ValueError, match="there is none"):
        replace_downsampling_(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), "lip")
    with pytest.raises(ValueError, match="2-d convolution"):
        replace_downsampling_(nn.Linear(2, 2), "lip")
