"""Batch norms folded away: equal outputs, nothing folded that something else reads."""

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from attnpool import GaussianPool2d, SelfAttentivePool2d, create_model, fuse_
from attnpool.registry import POOLS


def lived_in(model: nn.Module) -> nn.Module:
    """In float64 and eval mode, with statistics and scales as after training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            for tensor in (module.running_mean, *module.parameters()):
                nn.init.uniform_(tensor, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return model.double().eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())


NETWORKS: dict[str, Any] = {
    text: lambda text=text, attention=attention: create_model(text, num_classes=5, attention=attention)
    for text, attention in {
        "mobilenet_v2-nlp_headfix2-1222121": "after:blocks.2.1",
        "prepool-nlp_headfix2-4-resnet18-attnpool_headfix2-1222": "",
        "dyresnet18_v2-nlp_headfix2-1222": "replace:layer3.1",
        "mobilenetv3_small-mixp_headfix2-12111211121": "",
        "resnet50-gaussian_pool-1222": "",
    }.items()
}
NETWORKS |= {
    "torchvision": lambda: torchvision.models.mobilenet_v2(num_classes=5),
    "timm": lambda: timm.create_model("regnetx_002", num_classes=5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_outputs_stay(name: str) -> None:
    model = lived_in(NETWORKS[name]())
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
        folded = fuse_(model, input_size=(64, 64))
        found = model(x)
    idle = sum(isinstance(m, GaussianPool2d) for m in model.modules())  # its noise has a norm, and does not run here
    assert norms(model) == idle
    assert len(folded) > 5
    assert (found - expected).norm() < 1e-10 * expected.norm()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"patch_size": 2, "normalize": False},
    {"embed_norm": False},
    {"restore_norm": False},
]


@pytest.mark.parametrize("name", [name for name, entry in POOLS.items() if entry.base == "nlp"])
def test_a_layer_folds_its_own(name: str) -> None:
    for options in OPTIONS:
        if not options.keys() <= {key for key in options if POOLS[name].takes(key)}:
            continue
        pool: Any = lived_in(POOLS[name](4, 2, **options))
        x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
        expected = pool(x)
        for _ in range(2):
            pool.fuse_()
            torch.testing.assert_close(pool(x), expected, rtol=1e-10, atol=1e-12)
        assert norms(pool) == 0


class Shared(nn.Module):
    """What must not be folded: an output read twice, and a convolution that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.twice, self.norm2 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.last, self.norm3 = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        b = self.norm1(a) + a
        return self.norm3(self.last(self.twice(self.norm2(self.twice(b)))))


def test_what_something_else_reads_is_left_alone() -> None:
    model = lived_in(Shared())
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    expected = model(x)
    assert fuse_(model, input_size=(8, 8)) == ["norm3"]
    torch.testing.assert_close(model(x), expected)


def test_training_mode_and_nothing_to_fold_are_errors() -> None:
    with pytest.raises(ValueError, match="has to be in eval mode"):
        fuse_(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    with pytest.raises(ValueError, match="has to be in eval mode"):
        SelfAttentivePool2d(4, 2).fuse_()
    with pytest.raises(ValueError, match="but has none"):
        fuse_(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval())
    with pytest.raises(ValueError, match="has to have a 2-d convolution, but has none"):
        fuse_(nn.Sequential(nn.Linear(3, 4)).eval())


@pytest.mark.parametrize("layer", ["restore", "attend.attention.proj", "attend.embed"])
def test_weights_made_at_each_call_are_left_alone(layer: str) -> None:
    for fuse in (fuse_, SelfAttentivePool2d.fuse_):
        model = lived_in(SelfAttentivePool2d(4, 2, normalize=False))
        torch.nn.utils.parametrizations.weight_norm(model.get_submodule(layer))
        x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
        expected = model(x)
        fuse(model, input_size=(8, 8)) if fuse is fuse_ else fuse(model)  # type: ignore[operator, arg-type]
        torch.testing.assert_close(model(x), expected)


def test_a_pool_without_running_statistics() -> None:
    pool = SelfAttentivePool2d(4, 2)
    pool.restore_norm = nn.BatchNorm2d(4, track_running_stats=False)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    expected = lived_in(pool)(x)
    pool.fuse_()
    torch.testing.assert_close(pool(x), expected)
    assert norms(pool) == 1
