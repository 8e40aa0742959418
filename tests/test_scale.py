"""One run in several real processes: the same training as in one, also after a process was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attnpool
from attnpool.jobs._cluster import ALONE, Processes, processes
from attnpool.jobs.train import TrainResult, train

ARCHITECTURE = "resnet18-nlp_headfix2-1222"
SMALL: dict[str, Any] = {"epochs": 3, "batch_size": 16, "width": 0.125, "accelerator": "cpu"}
TOLERANCE = 1e-4
"""Of losses, relative: the processes add in another order."""
FRESH_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""Else restarted workers may find addresses of those before: https://github.com/pytorch/pytorch/issues/135712"""


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A source of 66 + 15 images of 32 x 32: stripes one way, the other way, or none, in noise."""
    rng = np.random.default_rng(0)
    wave = np.where(np.arange(32) % 8 < 4, 200, 40)
    kinds = np.stack([np.tile(wave, (32, 1)), np.tile(wave, (32, 1)).T, np.full((32, 32), 120)])
    arrays = {}
    for split, count in (("train", 66), ("test", 15)):
        labels = np.arange(count) % 3
        arrays[f"x_{split}"] = (kinds[labels] + rng.normal(0, 20, (count, 32, 32))).clip(0, 255).astype(np.uint8)
        arrays[f"y_{split}"] = labels
    file = tmp_path_factory.mktemp("data") / "stripes.npz"
    np.savez(file, **arrays)
    return f"npz:{file}"


def start(stripes: str, output: Path, *more: str, restarts: int = 0) -> subprocess.Popen[str]:
    """The same command as ever, behind torchrun."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", f"--max-restarts={restarts}"]
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    words = ["-m", "attnpool", "train", ARCHITECTURE, "--data", stripes, "--output", str(output), *options, *more]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **FRESH_STORE}
    command = [sys.executable, "-m", *torchrun, *words, "--no-progress"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


@pytest.fixture(scope="module")
def together(stripes: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, str]:
    """What two processes with global batch norm measured, their folder, and what they said."""
    output = tmp_path_factory.mktemp("together") / "run"
    out, err = (process := start(stripes, output, "--sync-batchnorm")).communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads((output / "results.json").read_text()), output, out


def losses(history: list[dict[str, float]]) -> list[float]:
    return [row[name] for row in history for name in ("train_loss", "val_loss")]


def test_two_processes_train_as_one_with_the_same_batch_size(
    stripes: str, together: tuple[dict[str, Any], Path, str], tmp_path: Path
) -> None:
    one: TrainResult = train(ARCHITECTURE, data=stripes, output=str(tmp_path), progress=False, **SMALL)
    two, _, said = together
    assert losses(two["history"]) == pytest.approx(losses(one.history), rel=TOLERANCE)
    assert two["test_loss"] == pytest.approx(one.test_loss, rel=TOLERANCE)
    assert two["per_class"] == one.per_class
    assert [row["step"] for row in two["history"]] == [row["step"] for row in one.history]
    assert said.count("test accuracy") == 1  # one of them speaks


def test_without_global_batch_norm_they_do_not(
    stripes: str, together: tuple[dict[str, Any], Path, str], tmp_path: Path
) -> None:
    _, err = (process := start(stripes, tmp_path / "run", "--accumulate", "2")).communicate(timeout=120)
    assert process.returncode == 0, err
    apart = json.loads((tmp_path / "run" / "results.json").read_text())
    assert losses(apart["history"]) != pytest.approx(losses(together[0]["history"]), rel=0.01)


def test_a_killed_worker_is_started_again_and_goes_on(
    stripes: str, together: tuple[dict[str, Any], Path, str], tmp_path: Path
) -> None:
    output = tmp_path / "run"
    more = ("--sync-batchnorm", "--resume", "--checkpoint-every", "1")
    process = start(stripes, output, *more, restarts=1)
    deadline = time.monotonic() + 120
    while not (output / "last" / "model.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(worker_of(process, rank=1), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "exitcode: -9" in err
    ours, theirs = (attnpool.load(each / "last").state_dict() for each in (output, together[1]))
    assert all(torch.equal(value, ours[name]) for name, value in theirs.items())
    assert losses(json.loads((output / "results.json").read_text())["history"]) == losses(together[0]["history"])


def worker_of(torchrun: subprocess.Popen[str], rank: int) -> int:
    """The process that torchrun started as `rank`."""
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError, ValueError):
            continue
        if parent == torchrun.pid and b"RANK=%d" % rank in environment:
            return int(folder.name)
    raise AssertionError(f"no worker {rank}")


def test_slurm_and_torchrun_tell_who_is_who(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes() == ALONE
    assert ALONE.writes
    assert ALONE.trainer_options() == {"devices": 1, "num_nodes": 1}
    slurm = {"SLURM_NTASKS": 8, "SLURM_NTASKS_PER_NODE": 4, "SLURM_NNODES": 2, "SLURM_PROCID": 5, "SLURM_LOCALID": 1}
    for name, value in {**slurm, "SLURM_NODEID": 1, "SLURM_JOB_ID": 7, "SLURM_JOB_NAME": "train"}.items():
        monkeypatch.setenv(name, str(value))
    me = processes()
    assert me == Processes(rank=5, count=8, nodes=2)
    assert not me.writes
    assert me.trainer_options()["devices"] == 4
    assert not me.plugins()[0].auto_requeue


def test_a_batch_that_the_processes_cannot_share_is_named(stripes: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size has to be a multiple of 3"):
        train(ARCHITECTURE, data=stripes, output=str(tmp_path / "run"), accumulate=3, **SMALL)
    assert not (tmp_path / "run").exists()
