"""Starting from weights that were trained before; what the other settings of training do; presets."""

import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

import attnpool
from attnpool.cli import _parse
from attnpool.jobs._classifier import Classifier, make_mix
from attnpool.jobs._finetuning import groups_with_pool_lr, new_layers
from attnpool.jobs._learner import Recipe
from attnpool.jobs._presets import PRESETS, read_preset
from attnpool.jobs._trainer import seeded
from attnpool.jobs.train import TrainResult, train
from attnpool.models.build import build
from attnpool.poolspec import SpecError
from attnpool.spec import parse

ARCHITECTURE = "resnet18-nlp_headfix2-1222"
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 16, "accelerator": "cpu", "progress": False}


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(0)
    arrays = {f"x_{split}": rng.integers(0, 256, (48, 32, 32, 3), dtype=np.uint8) for split in ("train", "test")}
    file = tmp_path_factory.mktemp("data") / "noise.npz"
    np.savez(file, **arrays, y_train=np.arange(48) % 3, y_test=np.arange(48) % 3)
    return f"npz:{file}"


def run(noise: str, output: Path, **options: Any) -> TrainResult:
    return train(ARCHITECTURE, output=str(output), data=noise, **{**QUICK, "width": 0.125, **options})


def weights(folder: Path) -> dict[str, Tensor]:
    return attnpool.load(folder).state_dict()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same weights of timm's ResNet-18 with 1000 classes, as .safetensors and as .pth."""
    state = timm.create_model("resnet18").state_dict()
    folder = tmp_path_factory.mktemp("published")
    files = {ending: folder / f"resnet18.{ending}" for ending in ("safetensors", "pth")}
    safetensors.torch.save_file(state, files["safetensors"])
    torch.save(state, files["pth"])
    return files


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_backbone_starts_from_a_file_of_timms_weights(published: dict[str, Path], ending: str) -> None:
    spec = parse(ARCHITECTURE, num_classes=3)
    found = build(spec, pretrained=str(published[ending])).state_dict()
    given = safetensors.torch.load_file(published["safetensors"])
    shared = [name for name in given if name in found and not name.startswith("fc.")]
    assert len(shared) > 100
    assert all(torch.equal(found[name], given[name]) for name in shared)
    assert found["fc.weight"].shape == (3, 512)
    as_published = build(parse(ARCHITECTURE), pretrained=str(published[ending])).state_dict()
    assert torch.equal(as_published["fc.weight"], given["fc.weight"])  # of the same classes


def test_weights_that_cannot_be_used_are_one_line(published: dict[str, Path], tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "harm",)

    (tmp_path / "harmful.pth").write_bytes(pickle.dumps({"conv1.weight": Harm()}, protocol=2))
    spec = parse(ARCHITECTURE)
    for number, content in enumerate((b"hello", b"", b"\xff\xd8\xff", b"\x80\x02q")):
        (tmp_path / f"{number}.pth").write_bytes(content)
    for file in ("missing.safetensors", "harmful.pth", "0.pth", "1.pth", "2.pth", "3.pth"):
        with pytest.raises(SpecError, match="pretrained weights have to be those of the backbone, but .*" + file):
            build(spec, pretrained=str(tmp_path / file))
    assert not (tmp_path / "harm").exists()
    with pytest.raises(SpecError, match="pretrained weights"):
        build(parse("resnet50-skip-1222"), pretrained=str(published["safetensors"]))
    with pytest.raises(ValueError, match="width has to be 1"):
        build(parse(ARCHITECTURE, width=0.5), pretrained=str(published["safetensors"]))


def test_a_frozen_backbone_waits_while_the_new_layers_learn(
    noise: str, published: dict[str, Path], tmp_path: Path
) -> None:
    start = build(parse(ARCHITECTURE, num_classes=3), pretrained=str(published["safetensors"])).state_dict()
    options = {"width": 1.0, "pretrained_file": str(published["safetensors"]), "image_size": 32}
    run(noise, tmp_path / "frozen", freeze_backbone=2, **options)
    run(noise, tmp_path / "thawed", freeze_backbone=1, **options)
    frozen, thawed = (weights(tmp_path / name / "last") for name in ("frozen", "thawed"))
    learned = {name for name in start if not torch.equal(start[name], frozen[name])}
    assert learned
    assert not [name for name in learned if not is_new(name)]
    assert not torch.equal(start["conv1.weight"], thawed["conv1.weight"])
    assert not torch.equal(start["bn1.running_mean"], thawed["bn1.running_mean"])


def is_new(name: str) -> bool:
    net = build(parse(ARCHITECTURE))
    paths = [path for path, module in net.named_modules() if any(module is layer for layer in new_layers(net))]
    return name.startswith(("fc.", *(f"{path}." for path in paths)))


def test_new_layers_have_a_learning_rate_of_their_own() -> None:
    net = build(parse(ARCHITECTURE, width=0.125))
    groups = groups_with_pool_lr(net, weight_decay=0.1, lr=5.0)
    new = {id(p) for layer in new_layers(net) for p in layer.parameters()}
    assert len(new) > 10
    for group in groups:
        assert {id(p) in new for p in group["params"]} == {group.get("lr") == 5.0}
        assert all(p.ndim > 1 for p in group["params"]) or group["weight_decay"] == 0
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))


def test_the_pools_rate_reaches_the_run(noise: str, tmp_path: Path) -> None:
    for factor in (1.0, 1e-9):
        run(noise, tmp_path / str(factor), pool_lr=factor, epochs=1, weight_decay=0.0)
    with seeded(0):
        start = build(parse(ARCHITECTURE, width=0.125, num_classes=3)).state_dict()
    usual, still = (weights(tmp_path / str(factor) / "last") for factor in (1.0, 1e-9))
    name = next(name for name in start if is_new(name) and name.endswith("weight") and start[name].ndim == 4)
    assert (usual[name] - start[name]).abs().max() > 1e-5
    assert (still[name] - start[name]).abs().max() < 1e-7


def test_the_average_of_the_weights_is_validated_and_kept(noise: str, tmp_path: Path) -> None:
    results = {decay: run(noise, tmp_path / str(decay), ema_decay=decay) for decay in (None, 0.0, 0.9)}
    plain, none, some = (weights(tmp_path / str(decay) / "last") for decay in (None, 0.0, 0.9))
    assert all(torch.equal(plain[name], none[name]) for name in plain)  # a decay of 0 keeps the newest alone
    assert not torch.equal(plain["conv1.weight"], some["conv1.weight"])
    assert results[None].history[0]["train_loss"] == results[0.9].history[0]["train_loss"]
    assert results[None].history[-1]["val_loss"] != results[0.9].history[-1]["val_loss"]


def test_the_average_is_that_of_the_steps() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    classifier = Classifier(model, 3, Recipe(ema_decay=0.5))
    assert classifier.averaged is not None
    assert classifier.result is not classifier.model
    before = model[1].weight.detach().clone()
    with torch.no_grad():
        model[1].weight += 1
    classifier.averaged.update(classifier.model, step=10_000)
    average: Any = classifier.result
    assert torch.allclose(average[1].weight, before + 0.5)


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixing_keeps_the_parts_of_the_labels(options: dict[str, float]) -> None:
    mix = make_mix(Recipe(**options), 3)  # type: ignore[arg-type]
    labels = torch.arange(12) % 3
    images = labels.view(12, 1, 1, 1).float().expand(12, 1, 16, 16).contiguous()
    mixed, parts = mix(images, labels)
    assert parts.shape == (12, 3)
    assert torch.allclose(parts.sum(1), torch.ones(12))
    mean = (parts * torch.arange(3)).sum(1)  # an image is as bright as its label, so a mixture is as their mean
    assert torch.allclose(mixed.mean((1, 2, 3)), mean, atol=1e-5)
    assert torch.equal(make_mix(Recipe(), 3)(images, labels)[1], labels)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mixup": -0.1}, "mixup has to be at least 0"),
        ({"cutmix": -0.1}, "cutmix has to be at least 0"),
        ({"ema_decay": 1.0}, "ema_decay has to be at least 0 and below 1"),
        ({"pool_lr": 0.0}, "pool_lr has to be positive"),
        ({"freeze_backbone": -1}, "freeze_backbone has to be at least 0"),
        ({"accumulate": 0}, "accumulate has to be positive"),
        ({"checkpoint_every": 0}, "checkpoint_every has to be positive"),
        ({"reprob": 2.0}, "reprob has to be from 0 to 1"),
        ({"auto_augment": "rant-m9"}, "auto_augment has to be"),
        ({"crop_pct": 0.0}, "crop_pct has to be"),
    ],
)
def test_bad_settings_are_named_before_anything_is_written(
    noise: str, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        run(noise, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_augmentation_and_evaluation_settings_reach_the_run(noise: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"crop": "resized", "scale": (0.5, 1.0), "auto_augment": "rand-m9-mstd0.5", "reprob": 0.5}
    one = run(noise, tmp_path / "one", epochs=1, **options, crop_pct=0.875, interpolation="bicubic")
    two = run(noise, tmp_path / "two", epochs=1)
    assert one.history[0]["train_loss"] != two.history[0]["train_loss"]
    assert attnpool.load(one.output).description.preprocessing["crop_pct"] == 0.875  # type: ignore[union-attr]


def test_a_compiled_network_trains_and_is_kept_as_it_is(noise: str, tmp_path: Path) -> None:
    torch.compiler.reset()
    options: dict[str, Any] = {"epochs": 1, "width": 0.0625}
    plain = run(noise, tmp_path / "plain", **options)
    compiled = run(noise, tmp_path / "compiled", compile=True, ema_decay=0.5, **options)
    assert compiled.history[0]["train_loss"] == pytest.approx(plain.history[0]["train_loss"], rel=1e-3)
    assert weights(tmp_path / "compiled").keys() == weights(tmp_path / "plain").keys()
    torch.compiler.reset()


@pytest.mark.parametrize("name", PRESETS[("train",)])
def test_a_preset_holds_arguments_of_train_and_says_where_they_come_from(name: str) -> None:
    values = read_preset(name)
    assert values.keys() <= inspect.signature(train).parameters.keys()
    assert PRESETS[("train",)][name].read_text().startswith("# ")
    verb, arguments = _parse(["train", ARCHITECTURE, "--preset", name, "--epochs", "7"])
    assert verb is train
    assert arguments.items() >= {**values, "epochs": 7, "architecture": ARCHITECTURE}.items()
    Recipe(**{key: arguments[key] for key in ("optimizer", "lr", "momentum", "weight_decay", "schedule", "ema_decay")})


def test_presets_come_before_the_file_and_the_file_before_the_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("lr: 0.5\nepochs: 3\n")
    words = ["train", "--config", str(tmp_path / "mine.yaml"), "--epochs=4", "--preset=cifar", ARCHITECTURE]
    arguments = _parse(words)[1]
    assert (arguments["lr"], arguments["epochs"], arguments["batch_size"]) == (0.5, 4, 128)
    with pytest.raises(ValueError, match="--preset has to be given once"):
        _parse(["train", ARCHITECTURE, "--preset", "cifar", "--preset=vww"])
    with pytest.raises(ValueError, match="did you mean 'cifar'"):
        _parse(["train", ARCHITECTURE, "--preset", "cifr"])
