"""Checkpoints: rebuilt from the directory alone, written whole or not at all, never unpickled."""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import attnpool
from attnpool.models import checkpoint
from attnpool.models.checkpoint import CheckpointError, Description, load, read_description, save

ARCHITECTURE = "mobilenet_v2-nlp_headfix2-1222121"


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return attnpool.create_model(ARCHITECTURE, num_classes=3, width=0.35, input_size=(32, 32), patch_sizes=(1,) * 7)


def description(model: nn.Module, **metrics: float) -> Description:
    preprocessing = {"image_size": [32, 32], "channels": 3, "mean": [0.5] * 3, "std": [0.2] * 3}
    return Description(model.spec, ("cat", "dog", "Ørn"), preprocessing, metrics, {"seed": 1}, {"python": "3"})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = network()
    save(model, description(model, val_accuracy=0.5), tmp_path / "run")
    return tmp_path / "run"


def test_it_is_rebuilt_from_the_directory_alone(saved: Path) -> None:
    model, copy = network().eval(), attnpool.load(saved)
    assert sorted(p.name for p in saved.iterdir()) == ["model.json", "model.safetensors"]
    assert copy.spec == model.spec
    assert copy.description == description(model, val_accuracy=0.5)
    assert not copy.training
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(copy(x), model(x))


def test_in_another_process(saved: Path) -> None:
    code = f"import attnpool; print(attnpool.load({str(saved)!r}).spec)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ARCHITECTURE


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def edit(file: Path) -> None:
    text = file.read_bytes()
    at = text.index(b"0.35") if file.suffix == ".json" else len(text) - 5
    file.write_bytes(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def foreign(file: Path) -> None:
    if file.suffix == ".json":
        file.write_text('{"name": "other tool"}')
    else:
        torch.save({"weight": torch.zeros(2)}, file)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("damage", [truncate, edit, empty, foreign, Path.unlink])
def test_a_damaged_file_is_named(saved: Path, name: str, damage: Callable[[Path], object]) -> None:
    damage(saved / name)
    with pytest.raises(CheckpointError, match="model") as caught:
        load(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_newer_format_and_another_folder(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint has to be a folder with .*, but .*nothing does not exist"):
        load(tmp_path / "nothing")
    values = json.loads((saved / "model.json").read_text())
    (saved / "model.json").write_text(json.dumps({**values, "format": 99}))
    with pytest.raises(CheckpointError, match="format 1, but is of 99"):
        load(saved)


def test_weights_of_another_network_are_refused(saved: Path, tmp_path: Path) -> None:
    other = attnpool.create_model("resnet18-skip-1222", num_classes=3, width=0.25)
    save(other, description(other), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", saved)
    with pytest.raises(CheckpointError, match="do not belong together"):
        load(saved)


def test_nothing_is_unpickled(saved: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(trap),)

    (saved / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError):
        load(saved)
    assert not trap.exists()


@pytest.mark.parametrize("moves", [0, 1])
def test_a_save_that_dies_leaves_a_whole_checkpoint(saved: Path, moves: int) -> None:
    """A process that is killed before the first, or between the two moves of a save."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_checkpoint import description, network, save
real, left = os.replace, [{moves}]
def replace(a, b):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    real(a, b)
os.replace = replace
model = network(seed=1)
save(model, description(model, val_accuracy=0.9), {str(saved)!r})
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    expected = network(seed=moves).state_dict()
    copy = load(saved)
    assert all(torch.equal(value, expected[key]) for key, value in copy.state_dict().items())
    assert copy.description.metrics == {"val_accuracy": [0.5, 0.9][moves]}
    model = network(seed=2)
    save(model, description(model), saved)  # and the next save tidies up
    assert sorted(p.name for p in saved.iterdir()) == ["model.json", "model.safetensors"]


def test_a_save_that_dies_twice_leaves_a_whole_checkpoint(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off between the two moves, and then again before the next save's first."""
    real = os.replace

    def cut(moves: int) -> None:
        left = [moves]

        def replace(a: Path, b: Path) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            real(a, b)

        monkeypatch.setattr(checkpoint.os, "replace", replace)

    for moves, seed in ((1, 1), (1, 2)):  # the second cut is right after the pending move of the first
        cut(moves)
        model = network(seed)
        with pytest.raises(KeyboardInterrupt):
            save(model, description(model, val_accuracy=seed / 10), saved)
    monkeypatch.undo()
    assert read_description(saved).metrics == {"val_accuracy": 0.1}
    assert torch.equal(load(saved).conv_stem.weight, network(1).conv_stem.weight)


def test_a_save_that_cannot_write_loses_nothing(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    model = network(seed=1)
    with pytest.raises(OSError, match="No space left"):
        save(model, description(model), saved)
    assert read_description(saved).metrics == {"val_accuracy": 0.5}
