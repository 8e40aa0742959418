"""Times as ratios in one run, memory in fresh processes, and what the machine can do at best."""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import quantiles
from typing import Any

import torch
from torch import Tensor

Run = Callable[[], Any]
Times = dict[str, list[float]]
"""Lower quartile, median and upper quartile in milliseconds, by what was timed."""


def alternate(runs: dict[str, Run], limit: float, least: int = 5, most: int = 40) -> Times:
    """Time all in turn, round after round, until `limit` seconds have passed; a first round is not counted.

    Args:
        runs: What to time, by name.
        limit: Time in seconds after which no further round is begun.
        least: Rounds that are made however long they take.
        most: Rounds after which it ends.
    """
    for run in runs.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in runs}
    started = time.perf_counter()
    for done in range(most):
        if done >= least and time.perf_counter() - started > limit:
            break
        for name, run in runs.items():
            found[name].append(1000 * seconds(run))
    return {name: quantiles(values, n=4, method="inclusive") for name, values in found.items()}


def ceilings() -> dict[str, float]:
    """The best that is seen here, in 10^9 a second: operations of a matrix product, soft-max scores, bytes copied."""
    a, b = torch.randn(2, 1024, 1024).unbind()
    scores, likely = torch.randn(2, 64, 1024).unbind()  # in the cache
    source, target = torch.randn(2, 1 << 25).unbind()
    work: dict[str, tuple[float, Run]] = {
        "gflops": (2 * 1024**3, lambda: torch.mm(a, b)),
        "gscores": (50 * scores.numel(), lambda: [torch.softmax(scores, -1, out=likely) for _ in range(50)]),
        "gbytes": (2 * 4 * source.numel(), lambda: target.copy_(source)),
    }
    return {name: amount / 1e9 / min(seconds(run) for _ in range(50)) for name, (amount, run) in work.items()}


def seconds(run: Run) -> float:
    """Of one run."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def parts(module: torch.nn.Module, x: Tensor, names: Iterable[str], rounds: int = 15) -> dict[str, float]:
    """Median milliseconds of the modules at those paths, "" the whole, while `module` runs on x."""
    begun: dict[str, float] = {}
    took: dict[str, list[float]] = {name: [] for name in names}

    def start(name: str) -> Callable[..., None]:
        return lambda *_: begun.update({name: time.perf_counter()})

    def stop(name: str) -> Callable[..., None]:
        return lambda *_: took[name].append(1000 * (time.perf_counter() - begun[name]))

    handles = []
    for name in took:
        part = module.get_submodule(name)
        handles += [part.register_forward_pre_hook(start(name)), part.register_forward_hook(stop(name))]
    for _ in range(rounds):
        module(x)
    for handle in handles:
        handle.remove()
    return {name: quantiles(values, n=4)[1] for name, values in took.items()}


def in_fresh_processes(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], workers: int = 2) -> list[Any]:
    """`function(*task)` of each, every one in a process of its own that has made its imports and nothing else."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["attnpool", "jsonargparse", "matplotlib.figure", "rich.progress", "torch.profiler"])
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool:
        return [job.result() for job in [pool.submit(function, *task) for task in tasks]]


def peak_memory(run: Run) -> float:
    """Megabytes by which the memory of this process rises at most while `run` runs (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 1000


def _status(key: str) -> float:
    """In kilobytes of 1,000."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1.024 * int(line.split()[1]) for line in lines if line.startswith(key))
