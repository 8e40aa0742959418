"""`attnpool compare`: a grid of trainings, side by side on all processors, and what each network costs."""

import inspect
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import rich.console
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from attnpool.jobs._comparison import FAILED, FINISHED, CompareResult, Plan
from attnpool.jobs._folder import LOCK, locked
from attnpool.jobs._grid import Trial, configuration, digest, expand, kind, labels
from attnpool.jobs._journal import Rows
from attnpool.jobs._ray import Ended, Signals, import_ray, ray_running, run_all, slots
from attnpool.jobs._settings import split
from attnpool.jobs._survival import Stopped
from attnpool.jobs._trainer import make_trainer, seeded
from attnpool.jobs._trial import measure_costs, origin, run_trial

Runner = Callable[..., Iterator[Ended]]
RECORD, RESULTS, COSTS, TRIALS = "compare.yaml", "results.jsonl", "costs.jsonl", "trials"


@dataclass(frozen=True)
class Resources:
    """What a trial may use: processors, part of a GPU (None: one if there is one), attempts after the first."""

    cpus: int
    gpus: float | None
    retries: int

    def __post_init__(self) -> None:
        if self.cpus < 1:
            raise ValueError(f"cpus_per_trial has to be positive, but got {self.cpus}")
        if self.gpus is not None and not 0 <= self.gpus <= 1:
            raise ValueError(f"gpus_per_trial has to be from 0 to 1, but got {self.gpus:g}")
        if self.retries < 0:
            raise ValueError(f"retries has to be at least 0, but got {self.retries}")


def compare(
    *,
    architectures: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    backbones: tuple[str, ...] = (),
    strides: tuple[int, ...] = (),
    grid: dict[str, list[Any]] | None = None,
    trials: list[dict[str, Any]] | None = None,
    seeds: int | list[int] = 1,
    train: dict[str, Any] | None = None,
    data: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    image_size: int | list[int] | None = None,
    width: float | None = None,
    lr: float | None = None,
    augment: bool = True,
    workers: int | None = None,
    output: str = "runs/compare",
    cpus_per_trial: int = 1,
    gpus_per_trial: float | None = None,
    retries: int = 1,
    address: str | None = None,
    progress: bool = True,
) -> CompareResult:
    """Train every combination of methods, strides, settings and seeds, and put accuracy, or AP, and costs side by side.

    The output folder gets `results.jsonl` (a row for each trial), `trials/` (what `attnpool train` writes, for each),
    `compare.yaml` (these arguments) and `costs.jsonl`. The same command goes on where it was stopped; with a larger
    grid it trains what is new. Where the architectures are detectors, `train` below is `detect train`, which has to be
    given `test_data`.

    Args:
        architectures: Strings as for `train`, or all of them DETECTOR:ARCHITECTURE; {method}, {backbone} and {strides}
            are filled in from the lists below, by default in {backbone}-{method}-{strides}.
        methods: POOL tokens.
        backbones: Tokens of the grammar.
        strides: Stride strings.
        grid: Further axes, a list of values for each: an argument of `train`, or another name in braces of the
            architectures; e.g. {width: [0.35, 0.5]}.
        trials: Further trials outside the grid, each the arguments of `train` that it has of its own.
        seeds: How many, from 0; or a list of them, e.g. [0,5].
        train: Any arguments of `train`, for all trials.
        data: As for `train`, for all trials, like the next ones; these win over those under train.
        epochs: Passes over the training data.
        batch_size: Images a step.
        image_size: Side that the images are resized to, in pixels; for detectors also a list of two.
        width: Factor on all channel numbers of the network.
        lr: Peak learning rate.
        augment: Random crops and flips of the training images; off if it is here or under train.
        workers: Processes of a trial that read images.
        output: Folder for everything that is written.
        cpus_per_trial: Processors of a trial; as many threads as it uses.
        gpus_per_trial: Part of a GPU of a trial, 0 to 1; by default 1 where there are GPUs.
        retries: How often a trial that fails is tried again before it is reported.
        address: Of a Ray cluster that runs, e.g. auto; by default Ray is started on this machine for the time being.
        progress: Show a progress bar.

    Raises:
        ValueError: for an argument that breaks its rule, or an output folder that another comparison is using.
        FileExistsError: if the output folder holds something else.
        ImportError: if Ray is not installed.
        Stopped: (a KeyboardInterrupt) on Ctrl-C or SIGTERM; the message says what is finished.
    """
    arguments = dict(locals())
    resources = Resources(cpus_per_trial, gpus_per_trial, retries)
    flags = {name: arguments[name] for name in ("data", "epochs", "batch_size", "image_size", "width", "lr", "workers")}
    given = {name: value for name, value in flags.items() if value is not None} | (
        {} if augment else {"augment": False}
    )
    asked = {**(train or {}), **given}
    lists = {"architecture": architectures, "method": methods, "backbone": backbones, "strides": strides}
    axes = _merge(lists, grid or {})
    common, running = split(kind(asked, axes, trials or []), asked)
    expanded, merged = expand(common, axes, trials or [], seeds)
    plan = Plan.of(expanded, running)
    if address is None:
        with seeded(0):
            make_trainer(running.get("accelerator", "auto"), False, logger=False)  # refuses what is not there
    import_ray()
    folder = Path(output)
    held = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if held - {LOCK} and RECORD not in held:
        raise FileExistsError(f"output has to be a new folder or one of compare, but {folder} holds something else")
    with locked(folder):
        driver = Driver(folder, plan, running, resources)
        _record(folder / RECORD, arguments)
        try:
            driver.run(address, progress)
        except (KeyboardInterrupt, SystemExit) as stop:  # Ray exits at a SIGTERM while it starts
            driver.results = Rows(folder / RESULTS, "trial")  # as the file has them, wherever it was interrupted
            done = sum(row["status"] == FINISHED for row in driver.rows())
            text = f"stopped; {done} of {len(expanded)} trials are finished, in {folder / RESULTS}"
            ended = isinstance(stop, SystemExit) or driver.signals.received == signal.SIGTERM  # Ray may raise its own
            signum = signal.SIGTERM if ended else signal.SIGINT
            raise Stopped(f"{text}; the same command goes on", signum) from None
        rows = driver.rows()
        return CompareResult(rows, merged, len(driver.results.known) - len(rows), str(folder))


def _record(file: Path, arguments: Mapping[str, Any]) -> None:
    """Write what was asked for, to be given back with `--config`: what differs from the defaults."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(compare).parameters.items()}
    differing = {name: value for name, value in arguments.items() if value != defaults[name]}
    written = {name: list(value) if isinstance(value, tuple) else value for name, value in differing.items()}
    file.write_text(yaml.safe_dump({**written, "output": str(file.parent)}, sort_keys=False))


def _merge(axes: Mapping[str, Sequence[Any]], grid: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """The axes that have lists of their own, and the others."""
    given = {axis: values for axis, values in axes.items() if values}
    if twice := given.keys() & grid.keys():
        raise ValueError(f"grid has to leave out what is given beside it, but has {', '.join(sorted(twice))}")
    return {**given, **grid}


class Driver:
    """Sees to it that every trial has its row.

    Args:
        folder: For everything; this process alone writes there, but for the folders of the trials.
        plan: What to train.
        running: Arguments of `train` that decide no outcome.
        resources: Of a trial.
    """

    def __init__(self, folder: Path, plan: Plan, running: Mapping[str, Any], resources: Resources) -> None:
        self.folder, self.plan, self.running, self.resources = folder, plan, running, resources
        self.signals = Signals()
        self.results, self.costs = Rows(folder / RESULTS, "trial"), Rows(folder / COSTS, "network")
        known = [*self.results.known.values()]
        self.names = labels([*(row["settings"] for row in known), *(trial.settings for trial in plan.trials)])
        self.results.replace({**row, "name": self.names[configuration(row["settings"])]} for row in known)
        self.ended = {row["trial"] for row in known if row["status"] != FAILED}

    def rows(self) -> list[dict[str, Any]]:
        """Of the trials of the plan that have one."""
        return [self.results.known[trial.id] for trial in self.plan.trials if trial.id in self.results.known]

    def run(self, address: str | None, progress: bool) -> None:
        """Measure every network, one at a time with nothing beside it; then train what has no row."""
        todo = {trial.id: trial for trial in self.plan.trials if trial.id not in self.ended}
        if not todo:
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        terminal = rich.console.Console(stderr=True)
        with (
            ray_running(address, self.signals) as ray,
            Progress(*columns, console=terminal, disable=not progress) as bar,
        ):
            gpus = self._gpus(ray)
            count = slots(ray, self.resources.cpus, gpus)
            run = partial(run_all, ray, retries=self.resources.retries, signals=self.signals)
            self._measure(ray, run, todo.values(), bar)
            self._train(ray, run, todo, count, gpus, bar)
        self._sort()

    def _sort(self) -> None:
        """The rows in the order of the plan, whichever trial ended first; those of other plans stay before them."""
        planned = {trial.id for trial in self.plan.trials}
        others = [row for key, row in self.results.known.items() if key not in planned]
        self.results.replace([*others, *self.rows()])

    def _measure(self, ray: Any, run: Runner, trials: Any, bar: Progress) -> None:
        """What the networks cost, with all processors of one machine held, so that nothing of ours runs beside."""
        specs = {self._network(trial): self.plan.specs[trial.configuration] for trial in trials}
        todo = {key: (spec,) for key, spec in specs.items() if "error" in self.costs.known.get(key, {"error": ""})}
        machine = max(
            (node for node in ray.nodes() if node["Alive"]), key=lambda n: (n["Resources"].get("CPU", 0), n["NodeID"])
        )
        there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(machine["NodeID"], soft=False)
        every = machine["Resources"]["CPU"]
        task = ray.remote(num_cpus=every, max_retries=0, scheduling_strategy=there)(measure_costs)
        line = bar.add_task("networks measured", total=len(todo))
        for ended in run(task, todo, 1):
            self.costs.add({"network": ended.key, **ended.answer})
            bar.advance(line)

    def _train(
        self, ray: Any, run: Runner, trials: Mapping[str, Trial], count: int, gpus: float, bar: Progress
    ) -> None:
        """Train what has no row, `count` at a time, each in a fresh process."""
        cpus = self.resources.cpus
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, max_calls=1)(run_trial)
        todo, failed = {}, 0
        line = bar.add_task("trials", total=len(trials))
        for key, trial in trials.items():
            if "error" in self.costs.known[self._network(trial)]:
                failed += self._end(trial, {}, 1)
                bar.advance(line)
            else:
                output = str(self.folder / TRIALS / trial.folder)
                todo[key] = (trial.settings, trial.seed, output, self.running, os.getcwd(), cpus, gpus)
        _tell(bar, line, failed, min(count, len(todo)))
        for ended in run(task, todo, count):
            failed += self._end(trials[ended.key], ended.answer, ended.attempts)
            bar.advance(line)
            _tell(bar, line, failed, ended.running)

    def _end(self, trial: Trial, answer: Mapping[str, Any], attempts: int) -> bool:
        """Write the row of a trial; whether it failed."""
        costs = {name: value for name, value in self.costs.known[self._network(trial)].items() if name != "network"}
        answer = {**answer, "error": costs["error"]} if "error" in costs else answer
        row = self.plan.row(trial, self.names[trial.configuration], answer, costs, attempts)
        self.results.add(row)
        return bool(row["status"] == FAILED)

    def _network(self, trial: Trial) -> str:
        """What its costs are known by: another version may count otherwise."""
        spec = self.plan.specs[trial.configuration]
        return digest([str(spec), spec.settings, origin()["versions"]])

    def _gpus(self, ray: Any) -> float:
        if self.resources.gpus is not None:
            return self.resources.gpus
        wanted = self.running.get("accelerator", "auto") != "cpu"
        return 1 if wanted and ray.cluster_resources().get("GPU", 0) >= 1 else 0


def _tell(bar: Progress, line: TaskID, failed: int, running: int) -> None:
    done = int(bar.tasks[line].completed) - failed
    bar.update(line, description=f"trials ({done} finished, {failed} failed, {running} running)")
