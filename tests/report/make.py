"""The real results that the report is tested on, made in ten minutes by `.venv/bin/python tests/report/make.py`.

Small networks on the embedded data for three epochs: four configurations of three seeds, one of a single seed, and one
whose loss does not stay finite.
"""

import hashlib
import inspect
import json
import platform
import subprocess
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import attnpool
from attnpool.data.source import open_source
from attnpool.spec import ModelSpec

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
RECIPE: dict[str, Any] = {"epochs": 3, "width": 0.25, "batch_size": 128, "lr": 0.05, "augment": False}
NOT_SETTINGS = ("seed", "output", "progress", "workers", "overwrite")
TRIALS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "strided convolution": ("prepool-skip-4-resnet18-skip-1222", {}, (0, 1, 2)),
    "max pooling": ("prepool-maxp-4-resnet18-maxp-1222", {}, (0, 1, 2)),
    "SoftPool": ("prepool-softpool-4-resnet18-softpool-1222", {}, (0, 1, 2)),
    "self-attentive": ("prepool-nlp_headfix2-4-resnet18-nlp_headfix2-1222", {}, (0, 1, 2)),
    "average, at half width": ("prepool-avgp-4-resnet18-avgp-1222", {"width": 0.125}, (0,)),
    "strided, lr 1e30": ("prepool-skip-4-resnet18-skip-1222", {"lr": 1e30}, (0,)),
}


def row(name: str, architecture: str, given: dict[str, Any], seed: int) -> dict[str, Any]:
    """One trial, trained and measured, as `attnpool compare` writes it."""
    defaults = {p.name: p.default for p in inspect.signature(attnpool.train).parameters.values()}
    values = {**defaults, **RECIPE, **given, "architecture": architecture}
    settings = {key: value for key, value in values.items() if key not in NOT_SETTINGS}
    identity = hashlib.sha256(json.dumps([settings, seed], sort_keys=True).encode()).hexdigest()[:12]
    spec: ModelSpec = attnpool.parse(architecture, width=settings["width"], num_classes=10, in_channels=1)
    about = {"trial": identity, "name": name, "settings": settings, "seed": seed, "data": "fashion_mnist"}
    classes = list(open_source("fashion_mnist").classes)
    about |= {"spec": {"architecture": architecture, **spec.settings}}
    try:
        measured = {"status": "finished", **about, "classes": classes, **measure(settings, seed), "error": None}
    except ValueError as error:
        measured = {"status": "failed", **about, "error": str(error)}
    return {**measured, "attempts": 1, **surroundings()}


def measure(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train, test and profile."""
    with tempfile.TemporaryDirectory() as folder:
        result = attnpool.train(**settings, seed=seed, output=folder, overwrite=True, workers=0, progress=False)
        tested = attnpool.evaluate(folder, output=f"{folder}/evaluation", workers=0, progress=False).report
        model: Any = attnpool.load(folder)
        size = (1, *model.description.preprocessing["image_size"])
        counted = {
            dtype: attnpool.profile(model, size, dtype=dtype, latency=dtype == "float32", training=False)
            for dtype in ("float32", "int8")
        }
    time = counted["float32"].latency
    assert time is not None
    return {
        "params": result.params,
        "macs": counted["int8"].macs,
        "weight_bytes": {dtype: cost.weight_bytes for dtype, cost in counted.items()},
        "memory": {dtype: vars(cost.memory) for dtype, cost in counted.items()},
        "latency": {
            "median_ms": time.median,
            "quartiles_ms": [time.lower, time.upper],
            "threads": time.threads,
            "passes": time.runs,
        },
        "best_epoch": result.best_epoch,
        "val_accuracy": result.val_accuracy,
        "test_accuracy": result.test_accuracy,
        "test_loss": result.test_loss,
        "per_class": list(tested.per_class),
        "seconds": result.seconds,
        "history": result.history,
    }


def surroundings() -> dict[str, Any]:
    """Where and when, and with what."""
    names = ("attnpool", "torch", "torchvision", "timm", "pytorch-lightning", "numpy")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "versions": {name: version(name) for name in names} | {"python": platform.python_version()},
        "commit": commit or None,
        "device": processor[0].partition(": ")[2] if processor else platform.machine(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    with RESULTS.open("w") as stream:
        for name, (architecture, given, seeds) in TRIALS.items():
            for seed in seeds:
                found = row(name, architecture, given, seed)
                stream.write(json.dumps(found) + "\n")
                stream.flush()
