"""Every pooling method in one small network: parameters, time of a training step, accuracy after a few epochs.

`make methods` runs it and writes `benchmarks/results/methods.json` and, from it, the table of `docs/methods.md`.
"""

import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, quantiles
from typing import Any

import torch
from environment import environment
from jsonargparse import auto_cli
from rich.progress import track

import attnpool
from attnpool.registry import POOLS

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks/results/methods.json", ROOT / "docs/methods.md"
COUNTED = ROOT / "benchmarks/results/accounting.json"
BEGIN, END = "<!-- measured -->", "<!-- end of what was measured -->"
COSTS = {"placement": "before", "side": 128, "strides": "2222121"}
"""Of what in `COUNTED` the memory and operations of the page are."""
WIDTH, PLACEMENT, BATCH, SIDE = 0.35, "before", 128, 32
RECIPE: dict[str, Any] = {
    "width": WIDTH,
    "placement": PLACEMENT,
    "batch_size": BATCH,
    "lr": 0.05,
    "clip_norm": 5.0,
    "augment": False,
}


def methods() -> list[str]:
    """Every registered method: a new one is measured without being named here."""
    return list(POOLS)


def string(method: str) -> str:
    """The network with the method in four of its stages."""
    pool = f"{method}_headfix2" if POOLS[method].takes("num_heads") else method
    return f"mobilenet_v2-{pool}-1222121"


def network(method: str) -> Any:
    """It, for the embedded data."""
    return attnpool.create_model(string(method), num_classes=10, in_channels=1, width=WIDTH, placement=PLACEMENT)


def accuracy(method: str, seed: int, epochs: int) -> float | None:
    """On the embedded test split, after training alone on one thread; None if the loss did not stay finite."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    train = attnpool.train  # brings Lightning, which sets the level of its log
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        run: dict[str, Any] = {"output": f"{folder}/run", "epochs": epochs, "seed": seed, **RECIPE}
        try:
            return train(string(method), progress=False, accelerator="cpu", **run).test_accuracy
        except ValueError as error:
            if "not finite" not in str(error):
                raise
            return None


def accuracies(names: Sequence[str], seeds: int, epochs: int) -> dict[str, list[float | None]]:
    """Of every method and seed, one process a core."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(accuracy, name, seed, epochs): (name, seed) for seed in range(seeds) for name in names}
        done = {jobs[job]: job.result() for job in track(as_completed(jobs), "training", total=len(jobs))}
    return {name: [done[name, seed] for seed in range(seeds)] for name in names}


def step_times(names: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of a training step of each method; all in turn in every round, to share what the machine does."""
    torch.manual_seed(0)
    models = {name: network(name) for name in names}
    optimizers = {}
    for name, model in models.items():
        models[name] = model.to(memory_format=torch.channels_last)
        optimizers[name] = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    x = torch.randn(BATCH, 1, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (BATCH,))
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in track(range(rounds + 2), "timing"):
        for name, model in models.items():
            started = time.perf_counter()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizers[name].step()
            optimizers[name].zero_grad()
            times[name].append(time.perf_counter() - started)
    return {name: values[2:] for name, values in times.items()}  # the first two warm up


def measure(epochs: int, seeds: int, rounds: int) -> dict[str, Any]:
    """Everything that the page shows, as JSON values."""
    names, where = methods(), environment()
    times = step_times(names, rounds)
    found = accuracies(names, seeds, epochs)
    rows = []
    for name in names:
        low, median, high = quantiles(times[name], n=4)
        rows.append(
            {
                "method": name,
                "architecture": string(name),
                "params": sum(p.numel() for p in network(name).parameters()),
                "step_ms": [1000 * low, 1000 * median, 1000 * high],
                "test_accuracy": found[name],
            }
        )
    settings = {"epochs": epochs, "seeds": seeds, "rounds": rounds, "side": SIDE, **RECIPE}
    return {"schema": "attnpool-methods-1", "settings": settings, "environment": where, "rows": rows}


def table(results: dict[str, Any], counted: dict[str, Any]) -> str:
    """The measured part of the page, best accuracy first; memory and operations as `benchmarks/accounting.py` counted."""
    rows, settings, where = results["rows"], results["settings"], results["environment"]
    floor = next(row["step_ms"][1] for row in rows if row["method"] == "skip")
    costs = {row["pool"]: row for row in counted["methods"] if all(row[name] == COSTS[name] for name in COSTS)}
    lines = []
    for row in sorted(rows, key=lambda row: -mean(value or 0 for value in row["test_accuracy"])):
        values = [100 * (value or 0) for value in row["test_accuracy"]]  # a run that diverged counts as 0
        low, median, high = row["step_ms"]
        cost = costs[string(row["method"]).split("-")[1]]
        lines.append(
            f"| `{row['method']}` | {mean(values):.1f} | {min(values):.1f} to {max(values):.1f} | {row['params']:,} "
            f"| {median:.0f} ({low:.0f} to {high:.0f}) | {median / floor:.2f} "
            f"| {cost['peak'] / 1e3:,.0f} | {cost['macs'] / 1e6:,.1f} |"
        )
    body = "\n".join(lines)
    return f"""
| method | test accuracy, mean, % | lowest to highest, % | parameters | step, ms | step, of `skip` | memory, kB | operations, M |
|---|---|---|---|---|---|---|---|
{body}

`mobilenet_v2-METHOD-1222121` at {settings["width"]} of its width, each pool before its stage, attention with 2 heads, on the
embedded Fashion-MNIST at {SIDE} x {SIDE}; {settings["epochs"]} epochs, batches of {settings["batch_size"]}, learning rate
{settings["lr"]}, gradients clipped at a norm of {settings["clip_norm"]}, no augmentation, {settings["seeds"]} seeds. A step is forward, backward and SGD on one batch: median
(quartiles) of {settings["rounds"]}, all methods in turn in each round, on {where["threads"]} threads of {where["device"]}, in plain PyTorch. A run
that diverged counts as 0 %. Memory is the peak in int8, and operations are multiply-accumulates, of MobileNetV2 at full
width, strides {COSTS["strides"]}, at {COSTS["side"]} pixels; attention in {counted["blocks"]} blocks of queries.

`make methods` measured it at commit {where["commit"]} with torch {where["torch"]} (`benchmarks/results/methods.json`), `make
accounting` counted it at {counted["environment"]["commit"]} (`benchmarks/results/accounting.json`).
"""


def put(text: str, measured: str) -> str:
    """The page with what was measured between its marks."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + measured + END + rest.partition(END)[2]


def main(epochs: int = 3, seeds: int = 3, rounds: int = 15, names: bool = False) -> None:
    """Measure every method and write the results and the page.

    Args:
        epochs: Passes over the training data.
        seeds: Runs of each method.
        rounds: Timed steps of each method.
        names: Only print the methods that would be measured.
    """
    if names:
        print("\n".join(methods()))
        return
    results = measure(epochs, seeds, rounds)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(put(PAGE.read_text(), table(results, json.loads(COUNTED.read_text()))))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
