"""What runs in a process of its own: the training of a trial, and the measurement of a network's costs."""

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from attnpool.accounting.profile import profile
from attnpool.jobs._survival import Stopped
from attnpool.jobs._task import Spec, task_of
from attnpool.models.checkpoint import LIBRARIES


def run_trial(
    settings: Mapping[str, Any],
    seed: int,
    output: str,
    running: Mapping[str, Any],
    place: str,
    threads: int,
    gpus: float,
) -> dict[str, Any]:
    """Train, or go on where the training in `output` stopped; an answer with `error` if it fails.

    Args:
        settings: Arguments of what trains it that decide the outcome.
        seed: Of the training.
        output: Folder of the trial.
        running: Arguments that do not.
        place: Working directory that paths are relative to.
        threads: Of the processor, for torch.
        gpus: Part of a GPU that may be used; 0: none is seen.
    """
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks
    torch.set_num_threads(threads)
    os.chdir(place)
    about = {**origin(), "device": device(gpus)}
    task = task_of(settings["architecture"])
    try:
        result = task.train(**settings, seed=seed, output=output, resume=True, progress=False, **running)
    except (Exception, Stopped) as error:
        return {"error": _one_line(error), **about}
    return {"classes": list(result.classes), **task.measured(result), **about}


def measure_costs(spec: Spec) -> dict[str, Any]:
    """What a network costs; latency is that of one thread. An answer with `error` if it cannot be counted."""
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=()):
            model, size = task_of(spec).profiled(spec)
        found = profile(model, size, training=False)
        small = profile(model, size, dtype="int8", latency=False, training=False)
    except Exception as error:
        return {"error": _one_line(error)}
    latency = found.latency
    assert latency is not None
    return {
        "params": found.params,
        "macs": found.macs,
        "weight_bytes": {p.dtype: p.weight_bytes for p in (found, small)},
        "memory": {p.dtype: asdict(p.memory) for p in (found, small)},
        "latency": {
            "median_ms": latency.median,
            "quartiles_ms": [latency.lower, latency.upper],
            "threads": latency.threads,
            "passes": latency.runs,
            "device": device(0),
        },
    }


@cache
def origin() -> dict[str, Any]:
    """Versions and commit of what runs here."""
    return {"versions": {name: version(name) for name in LIBRARIES}, "commit": _commit()}


def device(gpus: float) -> str:
    """Name of the GPU that may be used, or of the processor."""
    if gpus and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit that this package is of, with "+" if files of it differ; None if it is not in its repository."""
    package = Path(__file__).parents[1]

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "--no-optional-locks", *words], cwd=package, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # a repository around an installed package is another one
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
