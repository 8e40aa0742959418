"""A run that is stopped, killed or cut short goes on to the same weights, and loses nothing that was finished."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import attnpool
from attnpool.cli import main
from attnpool.data.source import Source, open_source
from attnpool.jobs import _source as source_module
from attnpool.jobs._classifier import Classifier
from attnpool.jobs._folder import STATE, locked
from attnpool.jobs._state import StateIO
from attnpool.jobs._survival import Stopped
from attnpool.jobs.train import TrainResult, train
from attnpool.models.checkpoint import read_description

ARCHITECTURE = "resnet18-nlp_headfix2-1222"
SMALL: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 16,
    "width": 0.125,
    "dropout": 0.2,
    "mixup": 0.2,
    "cutmix": 1.0,
    "ema_decay": 0.9,
    "workers": 0,
    "accelerator": "cpu",
    "progress": False,
}
"""Everything that draws random numbers or keeps a state of its own; an epoch reads 5 x 16 images, then 12."""


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A source of 105 + 9 grey images of 32 x 32 in 3 classes."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 105), ("test", 9)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (count, 32, 32), dtype=np.uint8)
        arrays[f"y_{split}"] = np.arange(count) % 3
    file = tmp_path_factory.mktemp("data") / "noise.npz"
    np.savez(file, **arrays)
    return f"npz:{file}"


def run(noise: str, output: Path, **options: Any) -> TrainResult:
    return train(ARCHITECTURE, output=str(output), data=noise, **{**SMALL, **options})


@pytest.fixture(scope="module")
def whole(noise: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Path]:
    """The run that was never stopped."""
    output = tmp_path_factory.mktemp("whole") / "run"
    return run(noise, output), output


def assert_same(result: TrainResult, output: Path, whole: tuple[TrainResult, Path]) -> None:
    """To the bit: the weights of the last and of the best epoch, and all that was measured."""
    expected, folder = whole
    for part in ("last", "."):
        ours, theirs = (attnpool.load(each / part).state_dict() for each in (output, folder))
        assert all(torch.equal(value, ours[name]) for name, value in theirs.items())
    assert untimed(result) == untimed(expected)
    assert not (output / STATE).exists()
    rows = (output / "logs/csv/metrics.csv").read_text().splitlines()
    assert sum(bool(row.split(",")[rows[0].split(",").index("val_loss")]) for row in rows[1:]) == 3


def untimed(result: TrainResult) -> dict[str, Any]:
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]
    return {**vars(result), "output": "", "seconds": 0, "history": history}


class Watched:
    """A split that calls `then` as its `count`-th image is read."""

    def __init__(self, images: Any, count: int, then: Callable[[], None]) -> None:
        self.images, self.targets, self.left, self.then = images, images.targets, count, then

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        self.left -= 1
        if self.left == 0:
            self.then()
        return self.images[index]


def at_image(noise: str, count: int, then: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(noise)
    watched: Source = replace(source, train=Watched(source.train, count, then))
    monkeypatch.setattr(source_module, "open_source", lambda *_, **__: watched)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    "image",
    [1, 40, 70, 85, 92 + 30, 2 * 92 + 85],
    ids=["first step", "mid-epoch", "last step", "validation", "second epoch", "last validation"],
)
def test_sigterm_writes_the_state_and_the_run_goes_on_to_the_same_weights(
    noise: str,
    whole: tuple[TrainResult, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    image: int,
) -> None:
    at_image(noise, image, terminate, monkeypatch)
    with pytest.raises(Stopped, match="--resume goes on") as stopped:
        run(noise, tmp_path)
    assert stopped.value.code == 143
    assert (tmp_path / STATE).exists()
    with pytest.raises(FileExistsError, match="--resume goes on with it"):
        run(noise, tmp_path)
    monkeypatch.undo()
    assert_same(run(noise, tmp_path, resume=True), tmp_path, whole)
    written = (tmp_path / "model.safetensors").stat().st_mtime_ns
    assert untimed(run(noise, tmp_path, resume=True)) == untimed(whole[0])  # it is finished: read, not run again
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == written


def test_accumulated_batches_go_on_too(noise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"accumulate": 2, "epochs": 2, "optimizer": "adamw", "schedule": "steps"}
    expected = run(noise, tmp_path / "whole", **options)
    at_image(noise, 41, terminate, monkeypatch)
    with pytest.raises(Stopped):
        run(noise, tmp_path / "run", **options)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="accumulate has to be 2, but got 1"):
        run(noise, tmp_path / "run", **{**options, "accumulate": 1}, resume=True)
    found = run(noise, tmp_path / "run", **options, resume=True)
    assert untimed(found) == untimed(expected)


def command(noise: str, output: Path, *more: str) -> list[str]:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items() if name != "progress"]
    words = ["train", ARCHITECTURE, "--data", noise, "--output", str(output), *options, "--no-progress", *more]
    return [sys.executable, "-m", "attnpool", *words]


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []

    def start(words: list[str]) -> subprocess.Popen[str]:
        processes.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_kill_9_in_mid_epoch_and_the_run_goes_on_to_the_same_weights(
    noise: str, whole: tuple[TrainResult, Path], tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    process = started(command(noise, tmp_path, "--checkpoint-every", "2"))

    def steps() -> int:
        try:
            return int(StateIO().load_checkpoint(tmp_path / STATE)["global_step"])
        except (ValueError, FileNotFoundError):
            return 0

    wait_for(process, lambda: steps() >= 8)
    with pytest.raises(ValueError, match="one is writing to"):  # a second run, while the first goes on
        run(noise, tmp_path, overwrite=True)
    process.kill()
    process.communicate()
    assert read_description(tmp_path / "last").training["epoch"] in (1, 2)
    assert not (tmp_path / "results.json").exists()
    assert_same(run(noise, tmp_path, resume=True), tmp_path, whole)


def test_a_second_ctrl_c_does_not_wait_for_the_step(
    noise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second should have ended the run")

    at_image(noise, 5, twice, monkeypatch)
    with pytest.raises(KeyboardInterrupt, match="no epoch was finished"):
        run(noise, tmp_path)
    assert not (tmp_path / STATE).exists()


def test_a_run_goes_on_with_its_own_arguments_only(noise: str, tmp_path: Path) -> None:
    first = run(noise, tmp_path, epochs=1, resume=True)  # nothing there yet: it starts
    with pytest.raises(
        ValueError, match=r"go on with the run in .*, epochs has to be 1, but got 2; --overwrite starts"
    ):
        run(noise, tmp_path, epochs=2, resume=True)
    several = r"epochs has to be 1, but got 2; lr has to be None, but got 0.5; seed has to be 0, but got 3; --overwrite"
    with pytest.raises(ValueError, match=several):
        run(noise, tmp_path, seed=3, lr=0.5, epochs=2, resume=True)
    with pytest.raises(ValueError, match="resume has to be false where overwrite is true"):
        run(noise, tmp_path, epochs=1, resume=True, overwrite=True)
    assert untimed(run(noise, tmp_path, epochs=1, resume=True, checkpoint_every=1)) == untimed(first)


@pytest.mark.parametrize("spoil", [lambda b: b[:-100], lambda b: b"", lambda b: b[:200] + b"x" + b[201:]])
def test_a_state_that_is_not_whole_is_named(
    noise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[bytes], bytes]
) -> None:
    at_image(noise, 40, terminate, monkeypatch)
    with pytest.raises(Stopped):
        run(noise, tmp_path)
    file = tmp_path / STATE
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ValueError, match=f"state to go on from has to be a whole {STATE}"):
        run(noise, tmp_path, resume=True)


def test_what_a_run_was_asked_can_be_given_back(noise: str, tmp_path: Path) -> None:
    first = run(noise, tmp_path, epochs=1, resume=True)
    given = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert (given["resume"], given["overwrite"]) == (True, False)
    assert main(["train", "--config", str(tmp_path / "config.yaml")]) == 0  # it is finished: read, not run again
    assert train(**given) == first


def test_two_that_go_on_at_once_train_once(noise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, others = open_source(noise), list[TrainResult]()

    def slow(*_: Any, **__: Any) -> Source:
        monkeypatch.setattr(source_module, "open_source", lambda *_, **__: source)
        others.append(run(noise, tmp_path, epochs=1, resume=True))  # from start to end, while this one gets ready
        return source

    monkeypatch.setattr(source_module, "open_source", slow)
    assert untimed(run(noise, tmp_path, epochs=1, resume=True)) == untimed(others[0])
    assert others[0].seconds == run(noise, tmp_path, epochs=1, resume=True).seconds


@pytest.mark.parametrize("config", ["", "a: [1", "- 1"])
def test_arguments_that_are_not_whole_are_named(noise: str, tmp_path: Path, config: str) -> None:
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(ValueError, match=r"config.yaml has to"):
        run(noise, tmp_path, epochs=1, resume=True)


def test_a_result_of_an_earlier_version_is_read(noise: str, tmp_path: Path) -> None:
    first = run(noise, tmp_path, epochs=1)
    values = json.loads((tmp_path / "results.json").read_text())
    old = {name: value for name, value in values.items() if name not in ("classes", "per_class", "skipped")}
    (tmp_path / "results.json").write_text(json.dumps(old))
    assert run(noise, tmp_path, epochs=1, resume=True) == replace(first, classes=(), per_class=[], skipped=0)


def test_other_data_than_before_is_refused(noise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_image(noise, 40, terminate, monkeypatch)
    with pytest.raises(Stopped):
        run(noise, tmp_path)
    source = open_source(noise)
    fewer: Source = replace(source, val=source.test)  # nothing is held out: more images to train on
    monkeypatch.setattr(source_module, "open_source", lambda *_, **__: fewer)
    with pytest.raises(ValueError, match="data has to have the 93 images to train on that it had, but has 105"):
        run(noise, tmp_path, resume=True)


def test_dynamic_convolution_and_frozen_layers_go_on_too(
    noise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {**SMALL, "data": noise, "freeze_backbone": 2}
    expected = train("dyresnet18-skip-1222", output=str(tmp_path / "whole"), **options)
    at_image(noise, 92 + 30, terminate, monkeypatch)
    with pytest.raises(Stopped):
        train("dyresnet18-skip-1222", output=str(tmp_path / "run"), **options)
    monkeypatch.undo()
    found = train("dyresnet18-skip-1222", output=str(tmp_path / "run"), **options, resume=True)
    assert untimed(found) == untimed(expected)
    assert [row["temperature"] for row in found.history] == [34, 31, 28]


def test_a_loss_of_validation_that_is_not_finite_stops_the_run_too(noise: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not finite at step \d+ .epoch \d"):
        run(noise, tmp_path, batch_size=93, warmup_epochs=0.0, lr=1e12, epochs=2, ema_decay=None)
    assert not [*tmp_path.rglob("*.new")]


@pytest.mark.parametrize("where", ["loss", "weight"])
def test_what_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    noise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    step = Classifier.training_step

    def spoilt(self: Classifier, batch: Any, batch_idx: int) -> Tensor:
        loss = step(self, batch, batch_idx)
        if self.global_step == 8 and where == "weight":
            next(self.model.parameters()).data.view(-1)[0] = float("nan")
        return loss * float("inf") if self.global_step == 8 and where == "loss" else loss

    monkeypatch.setattr(Classifier, "training_step", spoilt)
    says = f"{where} is not finite at step 9 .epoch 2.* the checkpoint of epoch 1 is in"
    with pytest.raises(ValueError, match=says):
        run(noise, tmp_path, checkpoint_every=1)
    assert StateIO().load_checkpoint(tmp_path / STATE)["global_step"] == 8
    for part in ("last", "."):
        assert all(bool(p.isfinite().all()) for p in attnpool.load(tmp_path / part).parameters())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("a small disk can be mounted by root only")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_stops_the_run_and_keeps_the_earlier_checkpoint(
    noise: str,
    whole: tuple[TrainResult, Path],
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, ballast = small_disk / "run", small_disk / "ballast"

    def fill() -> None:
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 100_000))

    at_image(noise, 92 + 20, fill, monkeypatch)
    assert main(command(noise, output)[3:]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    monkeypatch.undo()
    for part in ("last", "."):
        assert read_description(output / part).training["epoch"] == 1
    assert not list(output.rglob("*.new"))
    ballast.unlink()
    assert_same(run(noise, output, resume=True), output, whole)


@pytest.mark.parametrize("kind", ["read-only", "file"])
def test_output_that_cannot_be_written_fails_before_training(noise: str, small_disk: Path, kind: str) -> None:
    output = small_disk / "run"
    if kind == "file":
        output.write_text("mine")
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises((ValueError, OSError), match=r"output has to be a folder|Read-only"):
        run(noise, output)


def test_the_lock_is_for_one_and_goes_with_its_block(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ValueError, match="no other run is using"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_state_is_read_back_as_it_was(tmp_path: Path) -> None:
    state = {"a": {0: [torch.arange(3), (1, None)], "b": True}, "c": torch.zeros(0), 1.5: "text"}
    StateIO().save_checkpoint(state, tmp_path / "s")
    found = StateIO().load_checkpoint(tmp_path / "s")
    assert json.dumps(found, default=Tensor.tolist) == json.dumps(state, default=Tensor.tolist)
    assert list(found["a"]) == [0, "b"]
    assert found["a"][0][1] == (1, None)
    with pytest.raises(TypeError, match="set"):
        StateIO().save_checkpoint({"a": {1}}, tmp_path / "s")
    assert StateIO().load_checkpoint(tmp_path / "s")["c"].shape == (0,)
