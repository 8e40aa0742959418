"""Training: files, best epoch, determinism, schedules, configuration, Ctrl-C."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import attnpool
from attnpool.data.source import Source, open_source
from attnpool.jobs import _source as source_module
from attnpool.jobs._learner import Recipe, make_schedule
from attnpool.jobs._trainer import seeded
from attnpool.jobs.evaluate import evaluate
from attnpool.jobs.train import TrainResult, train
from attnpool.models.build import build
from attnpool.models.checkpoint import Description, read_description, save
from attnpool.pools._attention import SelfAttention

ARCHITECTURE = "resnet18-nlp_headfix2-1222"
SMALL: dict[str, Any] = {"width": 0.125, "batch_size": 16, "progress": False, "workers": 0, "accelerator": "cpu"}


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A source of 120 + 30 images of 32 x 32: stripes one way, the other way, or none, in noise."""
    rng = np.random.default_rng(0)
    wave = np.where(np.arange(32) % 8 < 4, 200, 40)
    kinds = [np.tile(wave, (32, 1)), np.tile(wave, (32, 1)).T, np.full((32, 32), 120)]
    arrays = {}
    for split, count in (("train", 40), ("test", 10)):
        x = np.concatenate([np.repeat(kind[None], count, 0) for kind in kinds]) + rng.normal(0, 20, (3 * count, 32, 32))
        arrays[f"x_{split}"] = x.clip(0, 255).astype(np.uint8)
        arrays[f"y_{split}"] = np.repeat(np.arange(3), count)
    file = tmp_path_factory.mktemp("data") / "stripes.npz"
    np.savez(file, **arrays, classes=np.array(["upright", "level", "plain"]))
    return f"npz:{file}"


def run(stripes: str, output: Path, **options: Any) -> TrainResult:
    return train(ARCHITECTURE, output=str(output), data=stripes, **{**SMALL, "epochs": 3, **options})


@pytest.fixture(scope="module")
def trained(stripes: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Path]:
    output = tmp_path_factory.mktemp("runs") / "stripes"
    return run(stripes, output, epochs=6, augment=False), output


def test_it_learns_and_writes_what_it_did(trained: tuple[TrainResult, Path], stripes: str) -> None:
    result, output = trained
    assert result.test_accuracy > 0.8
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    files = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    assert {"model.safetensors", "model.json", "config.yaml", "results.json", "last/model.json"} <= files
    assert "logs/csv/metrics.csv" in files
    assert any(file.startswith("logs/tensorboard/events") for file in files)
    assert json.loads((output / "results.json").read_text())["test_accuracy"] == result.test_accuracy
    with (output / "logs/csv/metrics.csv").open() as stream:
        logged = [row["val_accuracy"] for row in csv.DictReader(stream) if row["val_accuracy"]]
    assert [float(value) for value in logged] == [row["val_accuracy"] for row in result.history]


def test_the_best_validation_epoch_is_kept_and_tested(trained: tuple[TrainResult, Path]) -> None:
    result, output = trained
    accuracies = [row["val_accuracy"] for row in result.history]
    assert result.best_epoch == 1 + accuracies.index(max(accuracies))
    about = read_description(output)
    assert about.training["epoch"] == result.best_epoch
    assert about.metrics["val_accuracy"] == result.val_accuracy == max(accuracies)
    assert about.metrics["test_accuracy"] == result.test_accuracy
    assert read_description(output / "last").training["epoch"] == 6
    assert evaluate(str(output), progress=False, output=str(output / "again")).report.top1 == result.test_accuracy


def test_the_checkpoint_says_all_that_prediction_needs(trained: tuple[TrainResult, Path]) -> None:
    about = read_description(trained[1])
    assert about.classes == ("upright", "level", "plain")
    assert about.preprocessing["image_size"] == [32, 32]
    assert (about.spec.num_classes, about.spec.in_channels, about.spec.input_size) == (3, 1, (32, 32))
    assert {"torch", "timm", "attnpool"} <= about.versions.keys()
    assert about.training["seed"] == 0


class Counted:
    """The test split, counting the images read from it."""

    def __init__(self, images: Any) -> None:
        self.images, self.reads, self.targets = images, 0, images.targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        return self.images[index]


def test_the_test_split_is_read_once_at_the_end(stripes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(stripes)
    test = Counted(source.test)
    counted: Source = replace(source, test=test)
    monkeypatch.setattr(source_module, "open_source", lambda *_, **__: counted)
    run(stripes, tmp_path / "run", epochs=2)
    assert test.reads == len(test)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return attnpool.load(folder).state_dict()


def test_a_seed_gives_the_same_weights_and_no_global_state_moves(stripes: str, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(stripes, tmp_path / name, seed=seed, dropout=0.2, epochs=2)
        assert torch.equal(state, torch.get_rng_state())
        assert not torch.are_deterministic_algorithms_enabled()
        torch.rand(seed)  # what happened before does not matter
        state = torch.get_rng_state()
    a, b, c = (weights(tmp_path / name / "last") for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adamw", "lr": 0.002, "schedule": "steps"},
        {"optimizer": "adam", "precision": "bf16-mixed", "image_size": 40, "placement": "before"},
        {"warmup_epochs": 0.0, "label_smoothing": 0.1, "val_fraction": 0.5, "batch_size": 500},
    ],
)
def test_options_reach_the_run(stripes: str, tmp_path: Path, options: dict[str, Any]) -> None:
    run(stripes, tmp_path / "run", epochs=1, **options)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config.items() >= options.items()
    about = read_description(tmp_path / "run")
    assert about.spec.placement == options.get("placement")
    assert about.preprocessing["image_size"] == [options.get("image_size", 32)] * 2


def test_blocks_of_queries_are_for_use_and_leave_training_as_it_was(stripes: str, tmp_path: Path) -> None:
    plain, blocks = (run(stripes, tmp_path / str(n), epochs=1, query_blocks=n) for n in (None, 4))
    found = weights(Path(blocks.output))
    assert all(torch.equal(value, found[name]) for name, value in weights(Path(plain.output)).items())
    model: Any = attnpool.load(blocks.output)
    assert model.spec.query_blocks == 4
    assert {m.query_blocks for m in model.modules() if isinstance(m, SelfAttention)} == {4}


def rates(name: Any, steps: int, warmup: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make_schedule(optimizer, name, steps, warmup)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_papers_schedule_divides_by_5_at_60_80_and_90_percent() -> None:
    found = rates("steps", 100, 0)
    expected = [1.0] * 60 + [0.2] * 20 + [0.04] * 10 + [0.008] * 10
    assert found == pytest.approx(expected)


def test_cosine_rises_then_falls_to_zero() -> None:
    found = rates("cosine", 100, 10)
    assert found[0] == pytest.approx(0.01)
    assert found[10] == pytest.approx(1.0)
    assert found[:11] == sorted(found[:11])
    assert found[10:] == sorted(found[10:], reverse=True)
    assert found[-1] < 0.001
    assert rates("cosine", 2, 10)[0] > 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"epochs": 0}, "epochs has to be positive"),
        ({"lr": 0.0}, "lr has to be positive"),
        ({"momentum": 1.0}, "momentum has to be"),
        ({"weight_decay": -1.0}, "weight_decay has to be"),
        ({"warmup_epochs": -1.0}, "warmup_epochs has to be"),
        ({"label_smoothing": 1.0}, "label_smoothing has to be"),
        ({"dropout": 1.5}, "dropout has to be"),
        ({"val_fraction": 0.0}, "val_fraction has to be"),
        ({"image_size": -3}, "image_size has to be"),
        ({"image_size": 8}, "image_size has to suit resnet18.* pixels a side would do"),
        ({"width": -1.0}, "width has to be"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_written(
    stripes: str, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        run(stripes, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_result_is_not_overwritten_unless_asked(stripes: str, tmp_path: Path) -> None:
    model = attnpool.create_model(ARCHITECTURE, num_classes=2, width=0.125)
    save(model, Description(model.spec, ("a", "b"), {}), tmp_path)
    with pytest.raises(FileExistsError, match="--overwrite"):
        run(stripes, tmp_path)
    assert read_description(tmp_path).classes == ("a", "b")
    run(stripes, tmp_path, overwrite=True, epochs=1)
    assert read_description(tmp_path).classes == ("upright", "level", "plain")


def test_a_folder_that_is_not_a_run_loses_nothing(stripes: str, tmp_path: Path) -> None:
    mine = tmp_path / "evaluation" / "diary.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    run(stripes, tmp_path, overwrite=True, epochs=1)
    assert mine.read_text() == "mine"


def test_the_recipe_has_the_published_optimiser() -> None:
    assert Recipe() == Recipe("sgd", momentum=0.9)


def test_ctrl_c_leaves_the_last_finished_epoch_and_one_line(stripes: str, tmp_path: Path) -> None:
    output = tmp_path / "run"
    words = ["train", ARCHITECTURE, "--data", stripes, "--output", str(output), "--epochs", "1000", "--width", "0.125"]
    process = subprocess.Popen(
        [sys.executable, "-m", "attnpool", *words, "--batch-size", "16", "--no-progress"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    deadline = time.monotonic() + 120
    while not (output / "last" / "model.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    epoch = read_description(output / "last").training["epoch"]
    kept = f"the checkpoint of epoch {epoch} is in {output / 'last'}"
    assert err.splitlines() == [f"attnpool: stopped; {kept}, and --resume goes on from the last step"]
    assert out == ""
    assert attnpool.load(output / "last")(torch.zeros(1, 1, 32, 32)).shape == (1, 3)


def test_dynamic_convolution_is_annealed_and_keeps_its_temperature(stripes: str, tmp_path: Path) -> None:
    options = {**SMALL, "epochs": 3, "data": stripes, "attention": "after:layer2.0"}
    result = train("dyresnet18-skip-1222", output=str(tmp_path / "run"), **options)
    assert [row["temperature"] for row in result.history] == [34, 31, 28]
    for folder, epoch in ((tmp_path / "run", result.best_epoch), (tmp_path / "run" / "last", 3)):
        model: Any = attnpool.load(folder)
        assert model.layer1[0].conv1.attention.temperature == 34 - 3 * (epoch - 1)
        assert model.spec.attention == "after:layer2.0"
        assert isinstance(model.layer2.attention, attnpool.ULSAM)


def test_a_clipped_gradient_moves_the_weights_by_no_more(stripes: str, tmp_path: Path) -> None:
    run(stripes, tmp_path / "run", epochs=1, clip_norm=1e-6, momentum=0.0, weight_decay=0.0, warmup_epochs=0.0)
    moved: Any = attnpool.load(tmp_path / "run" / "last")
    with seeded(0):
        fresh = build(moved.spec)
    steps = math.ceil(0.9 * 120 / 16)
    for a, b in zip(moved.parameters(), fresh.parameters(), strict=True):
        assert (a - b).norm() <= steps * 0.02 * 1e-6 + 1e-6 * b.norm()
