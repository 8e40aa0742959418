"""Self-attentive pooling against its formula as written, and its rivals, in one run: time, memory, and the floor.

`make bench` runs it and writes `benchmarks/results/speed.json` and, from that file alone, `docs/speed.md` and `.png`.
"""

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from cases import CASES, THREADS, WAYS, Case, remembered, work
from environment import environment
from floors import floor
from jsonargparse import auto_cli
from measure import Run, alternate, ceilings, in_fresh_processes, seconds
from reference import Reference
from rich.progress import track
from speed_page import page, picture, verdicts
from torch import Tensor, nn

from attnpool import SelfAttentivePool2d
from attnpool.accounting.training import allocations
from attnpool.pools._attention import fused_attention
from attnpool.pools._weighted import weighted_pool2d

ROOT = Path(__file__).parents[1]
RESULTS, PAGE, PICTURE = ROOT / "benchmarks/results/speed.json", ROOT / "docs/speed.md", ROOT / "docs/speed.png"
LAYOUTS = (torch.contiguous_format, torch.channels_last)
SIDES = (32, 64, 128, 256, 512)
SECONDS = 3.0
"""For the rounds of a case; at least 5 rounds are made, at most 40."""
POOL_BARS = {"infer": 2.0, "train": 3.0}
"""At most so many times the time of `F.avg_pool2d`."""


def timed(case: Case, mode: str) -> dict[str, Any]:
    """Quartiles of every way."""
    runs = {way: work(case, way, mode) for way in WAYS if mode == "infer" or way != "fused"}
    if mode == "infer":
        runs["reference, step by step"] = _without_fast_path(runs["reference"])
    return alternate(runs, SECONDS)


def _without_fast_path(run: Run) -> Run:
    """In eval mode `nn.MultiheadAttention` is one fused operation, unless told otherwise."""

    def slower() -> None:
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            run()
        finally:
            torch.backends.mha.set_fastpath_enabled(True)

    return slower


def pooling(case: Case, layout: torch.memory_format) -> dict[str, Any]:
    """The weighted mean alone, the weights given, and average pooling of the same tensor."""
    k = case.options["kernel_size"]
    x, w = (torch.rand(case.shape).to(memory_format=layout) for _ in range(2))
    g = torch.rand_like(F.avg_pool2d(x, k))
    runs: dict[str, Run] = {
        "weighted": lambda: weighted_pool2d(x, w, (k, k), (k, k)),
        "average": lambda: F.avg_pool2d(x, k),
    }
    row = {"shape": case.shape, "kernel": k, "layout": str(layout).removeprefix("torch.").removesuffix("_format")}
    infer = alternate(runs, 0.5, most=200)
    x.requires_grad_()
    w.requires_grad_()
    runs = {
        "weighted": lambda: torch.autograd.grad(weighted_pool2d(x, w, (k, k), (k, k)), (x, w), g),
        "average": lambda: torch.autograd.grad(F.avg_pool2d(x, k), x, g),
    }
    return {**row, "infer": infer, "train": alternate(runs, 0.5, most=200)}


def heads() -> list[dict[str, float]]:
    """Nanoseconds a score of torch's fused attention and of ours, which fills narrow heads up, by width of a head."""
    batch, count, tokens = 8, 4, 1024
    rows = []
    for width in (4, 8, 12, 16, 24, 32):
        q, k, v = (torch.randn(batch, count, tokens, width, requires_grad=True) for _ in range(3))
        g = torch.randn(batch, count, tokens, width)
        row: dict[str, float] = {"width": width}
        for mode in ("infer", "train"):
            runs: dict[str, Run] = {}
            for way, attend in {"torch": F.scaled_dot_product_attention, "ours": fused_attention}.items():
                runs[way] = _attention(attend, (q, k, v), g if mode == "train" else None)
            times = alternate(runs, 0.5)
            row |= {f"{way}_{mode}": times[way][1] * 1e6 / (batch * count * tokens**2) for way in runs}
        rows.append(row)
    return rows


def _attention(attend: Callable[..., Tensor], qkv: tuple[Tensor, ...], g: Tensor | None) -> Run:
    """Forward, with a gradient for the output also backward."""
    if g is None:
        return torch.no_grad()(lambda: attend(*qkv))
    return lambda: torch.autograd.grad(attend(*qkv), qkv, g)


def scaling(limits: dict[str, float]) -> list[dict[str, Any]]:
    """One image of 16 channels, 1 head, sides from 32 to 512: time once warm, and memory by the allocator's record."""
    rows = []
    for patch in (1, 2, 4):
        pool = SelfAttentivePool2d(16, 4 if patch == 1 else 2 * patch, num_heads=1, patch_size=patch)
        ways = {"ours": pool, "reference": Reference(copy.deepcopy(pool))}
        for mode, way in ((mode, way) for mode in ("infer", "train") for way in ways):
            last = 0.0
            for side in SIDES:
                tokens = (side // patch) ** 2
                if 16 * last > limits[mode] or (way == "reference" and tokens > 2**14):  # 1 GB of scores
                    break
                ways[way].train(mode == "train")
                row = {"patch": patch, "way": way, "mode": mode, "side": side}
                row |= _once(ways[way], torch.randn(1, 16, side, side), mode == "train")
                last = row["seconds"]
                rows.append(row)
    return rows


def _once(module: nn.Module, x: Tensor, train: bool) -> dict[str, float]:
    """Seconds of the fastest of three runs, of the first if that is slow, and megabytes at the peak of the first."""

    def run() -> None:
        with torch.set_grad_enabled(train):
            y = module(x)
        if train:
            y.sum().backward()

    x.requires_grad_(train)
    begun = time.perf_counter()
    held = allocations(run)[1]
    first = time.perf_counter() - begun
    return {"seconds": first if first > 2 else min(seconds(run) for _ in range(3)), "megabytes": held / 1e6}


def measure() -> dict[str, Any]:
    """Everything that the page shows, as JSON values."""
    begun = time.perf_counter()
    torch.set_num_threads(THREADS)
    where, best, cases = environment(), ceilings(), []
    for case in track(CASES, "timing"):
        row: dict[str, Any] = {**case._asdict(), "floor": floor(case, best)}
        cases.append(row | {mode: timed(case, mode) for mode in ("infer", "train")})
    tasks = [(case, way, "train") for case in CASES for way in WAYS if way != "fused"]
    tasks += [(case, way, "infer") for case in CASES for way in ("ours", "reference")]
    found = in_fresh_processes(remembered, tasks)
    for row in cases:
        of_case = [
            (way, mode, mb) for (case, way, mode), mb in zip(tasks, found, strict=True) if case.name == row["name"]
        ]
        row["megabytes"] = {m: {way: mb for way, mode, mb in of_case if mode == m} for m in ("infer", "train")}
    results = {
        "schema": "attnpool-speed-1",
        "environment": where,
        "settings": {"seconds_a_case": SECONDS, "rounds": [5, 40], "threads_for_memory": 1},
        "ceilings": best,
        "cases": cases,
        "pooling": [pooling(case, layout) for case in CASES if case.options for layout in LAYOUTS],
        "pooling_bars": POOL_BARS,
        "heads": heads(),
        "scaling": scaling({"infer": 60.0, "train": 6.0}),
    }
    return results | {"minutes": (time.perf_counter() - begun) / 60}


def main() -> None:
    """Measure, write the results, the page and the picture, and print a verdict for each bar."""
    results = measure()
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results))
    picture(results).savefig(PICTURE, dpi=110)
    print(verdicts(results))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
