"""`attnpool fit`: the networks that fit a memory budget, and the best of them trained."""

import hashlib
import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from attnpool.accounting.budget import Budget, BudgetError, Runtime, parse_sides
from attnpool.accounting.profile import profile
from attnpool.accounting.search import COSTS, Candidate, Space, describe, evaluate, pareto
from attnpool.data.source import open_source
from attnpool.jobs._candidates import Candidates
from attnpool.jobs._figures import front_figure
from attnpool.jobs._folder import locked
from attnpool.models.build import build
from attnpool.spec import ModelSpec

CHECKED, SHOWN = 3, 15
"""Networks whose costs are confirmed by `profile`; rows on the terminal."""


@dataclass(frozen=True)
class FitResult:
    """What `fit` found; also in `fit.json` of the output folder.

    Args:
        budget: What had to be kept.
        searched: Candidates in the space that can run and are not above the flash; fitting: those that fit.
        refused: Candidates that cannot run, as their image is shrunk to nothing, and why the first of them cannot.
        per_second: Candidates evaluated a second; None if all were known from an earlier run.
        front: Those that fit and in whose memory no other one does as many operations, the most operations first.
        confirmed: How many of the front were built and confirmed by `profile`, to the byte.
        output: Folder of `fit.json`, `candidates.jsonl` and `front.png`.
        trained: Results of the networks that were trained, the best validation accuracy first.
    """

    budget: Budget
    searched: int
    fitting: int
    refused: tuple[int, str]
    per_second: float | None
    front: list[Candidate]
    confirmed: int
    output: str
    trained: list[dict[str, Any]] = field(default_factory=list)

    def __rich__(self) -> Group:
        title = (
            f"{len(self.front)} of the {self.fitting:,} that fit ({self.searched:,} candidates): most MACs for memory"
        )
        table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("network", overflow="fold")
        sizes = (f"{name}, kB" for name in self.budget.names)
        for name in ("width", "side", "blocks", *sizes, "MACs, M"):
            table.add_column(name, justify="right", no_wrap=True)
        for c in self.front[:SHOWN]:
            about = (escape(str(c.spec)), f"{c.spec.width:g}", str(c.side), str(c.spec.query_blocks or "-"))
            bytes_ = (self.budget.memory(c), self.budget.storage(c))
            table.add_row(*about, *(f"{count / 1e3:,.1f}" for count in bytes_), f"{c.macs / 1e6:,.1f}")
        rest = f", with the other {len(self.front) - SHOWN}" if len(self.front) > SHOWN else ""
        text = (
            f"{self.confirmed} confirmed by profile, to the byte. In {escape(self.output)}: fit.json{rest}; front.png"
        )
        if self.refused[0]:
            text += f"\n{self.refused[0]:,} candidates cannot run; the first: {escape(self.refused[1])}"
        return Group(table, text, *([self._trained()] if self.trained else []))

    def _trained(self) -> Table:
        table = Table(title="Trained, the best first", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("network", overflow="fold")
        for name in ("width", "input", "validation", "test"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.trained:
            accuracy = (f"{row['val_accuracy']:.2%}", f"{row['test_accuracy']:.2%}")
            table.add_row(escape(row["architecture"]), f"{row['settings'].get('width', 1):g}", row["input"], *accuracy)
        return table


def fit(
    *,
    ram: str = "256kB",
    flash: str = "1MB",
    macs: str | None = None,
    runtime: Runtime = "micro",
    input: str = "96..160",
    data: str | None = None,
    data_dir: str | None = None,
    download: bool = True,
    in_channels: int = 3,
    num_classes: int = 10,
    backbones: tuple[str, ...] = ("mobilenet", "mobilenetv1"),
    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0),
    methods: tuple[str, ...] = ("skip", "maxp", "nlp_headfix2"),
    strides: tuple[str, ...] = (),
    patches: tuple[int, ...] = (1, 4),
    placements: tuple[str, ...] = ("before",),
    query_blocks: tuple[int, ...] = (16,),
    train_top: int = 0,
    epochs: int = 10,
    output: str = "runs/fit",
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> FitResult:
    """Search networks that fit a budget of memory and operations, exactly, and train the best.

    Memory, file and operations are counted as `attnpool profile --dtype int8` does. The output folder gets
    `candidates.jsonl` (all that were evaluated: the same command goes on from there, also with another budget),
    `fit.json` and `front.png`.

    Args:
        ram: Most memory in int8, e.g. 256kB (1,000 bytes) or 256KiB (1,024).
        flash: Most memory for the network itself, e.g. 1MB.
        macs: Most multiply-accumulates, e.g. 60M; by default any number.
        runtime: micro: the ram holds all that TensorFlow Lite Micro needs, the flash its file. any: the ram holds the
            activations at their peak alone, the flash the weights alone.
        input: Sides of the image in pixels: 96, 96,128 or 96..160, which goes in steps of 32.
        data: Data source: its channels and classes, and what `train_top` trains on.
        data_dir: Where published data sets lie and are downloaded to; by default ~/.cache/attnpool.
        download: Download a published data set that is not there.
        in_channels: Channels of the image, without data.
        num_classes: Outputs, without data.
        backbones: Tokens of the grammar.
        widths: Factors on all channel numbers.
        methods: POOL tokens.
        strides: Stride strings; by default all that shrink as much as the backbone itself, and nowhere later.
        patches: Largest patch of a network's pools, in pixels; above 1 the windows are not normalised.
        placements: Where a pool stands in a stage: before, after_first, end.
        query_blocks: Blocks of queries that attention takes one after the other.
        train_top: How many of the front to train, those of the most operations, which have been found to be the most
            accurate (MCUNet, arXiv 2007.10319). What is to be quick is limited by `macs`.
        epochs: Of that training.
        output: Folder for the results.
        limit: Most networks to build, taken at random; by default all.
        seed: Of the order in which networks are evaluated, and of training.
        progress: Show a progress bar.

    Raises:
        BudgetError: if nothing fits, with the smallest that would.
        ValueError: for an argument that breaks its rule.
        KeyboardInterrupt: on Ctrl-C; the message says how to go on.
    """
    _check(limit, train_top, epochs, data)
    source = None if data is None else open_source(data, data_dir=data_dir, download=download)
    budget = Budget.parse(ram, flash, macs, runtime)
    space = Space(
        backbones=tuple(backbones),
        widths=tuple(widths),
        strides=tuple(strides),
        methods=tuple(methods),
        patches=tuple(patches),
        placements=tuple(placements),
        query_blocks=tuple(query_blocks),
        sides=parse_sides(input),
        in_channels=source.channels if source else in_channels,
        num_classes=len(source.classes) if source else num_classes,
    )
    networks = space.networks()
    random.Random(seed).shuffle(networks)
    _check_folder(Path(output))
    with locked(output) as folder:
        candidates = Candidates(folder / "candidates.jsonl")
        try:
            found, refused, per_second = _search(space, networks[:limit], budget, candidates, progress)
        except KeyboardInterrupt:
            text = f"stopped; the same command goes on from the {len(candidates.known):,} in {candidates.file}"
            raise KeyboardInterrupt(text) from None
        if refused[0] and not found:
            raise ValueError(
                f"input has to be images that the networks do not shrink to nothing, but {input}: {refused[1]}"
            )
        front = pareto((c for c in found if budget.holds(c)), budget.memory)
        if not front:
            raise BudgetError(budget.explain(found))
        chosen = {round(i * (len(front) - 1) / (CHECKED - 1)) for i in range(CHECKED)}
        for i in chosen:
            confirm(front[i])
        fitting = sum(map(budget.holds, found))
        result = FitResult(budget, len(found), fitting, refused, per_second, front, len(chosen), str(folder))
        front_figure(found, front, budget).savefig(folder / "front.png")
        _write(result, space, folder)
        if train_top and data is not None:
            source_at = {"data": data, "data_dir": data_dir, "download": download}
            how = {**source_at, "epochs": epochs, "seed": seed, "progress": progress}
            trained = [_train(c, folder, **how) for c in front[:train_top]]
            result = replace(result, trained=sorted(trained, key=lambda row: -row["val_accuracy"]))
            _write(result, space, folder)
        return result


def _check_folder(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "candidates.jsonl").exists():
        raise FileExistsError(f"output has to be a new folder or one of fit, but {folder} holds something else")


def _check(limit: int | None, train_top: int, epochs: int, data: str | None) -> None:
    if limit is not None and limit < 1:
        raise ValueError(f"limit has to be positive, but got {limit}")
    if train_top < 0:
        raise ValueError(f"train_top has to be at least 0, but got {train_top}")
    if train_top and data is None:
        raise ValueError(f"data has to be given to train on, with train_top={train_top}")
    if epochs < 1:
        raise ValueError(f"epochs has to be positive, but got {epochs}")


def _search(
    space: Space, networks: Sequence[ModelSpec], budget: Budget, candidates: Candidates, progress: bool
) -> tuple[list[Candidate], tuple[int, str], float | None]:
    """All candidates that are not above the flash; how many cannot run, and why the first cannot; and how many were
    evaluated a second after the first network.
    """
    known, found = candidates.known, list[Candidate]()
    refused: list[str] = []
    done: list[tuple[int, float]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("networks", total=len(networks))
        for network in networks:
            settings = space.settings(network)
            if missing := [spec for spec in settings if spec not in known]:
                begun = time.perf_counter()
                made = list(evaluate(network, missing, budget.flash))
                new = [c for c in made if isinstance(c, Candidate)]
                candidates.add(new)
                refused += [reason for reason in made if isinstance(reason, str)]
                done.append((len(new), time.perf_counter() - begun))
            found += [known[spec] for spec in settings if spec in known and budget.storage(known[spec]) <= budget.flash]
            bar.update(task, advance=1, description=f"networks ({sum(map(budget.holds, found)):,} fit)")
    count, seconds = map(sum, zip(*done[1:], strict=True)) if done[1:] else (0, 1)
    return found, (len(refused), refused[0] if refused else ""), count / seconds if count else None


def confirm(candidate: Candidate) -> None:
    """Build it with weights, profile it, and compare.

    Raises:
        ValueError: if a figure differs.
    """
    spec = candidate.spec
    image = (spec.in_channels, *(spec.input_size or ()))
    real = profile(build(spec), image, dtype="int8", latency=False, training=False)
    assert real.device is not None  # in int8
    costs = Candidate(spec, real.memory.peak, real.device.total, real.device.file, real.params, real.macs)
    if costs != candidate:
        found = ", ".join(f"{name} {getattr(candidate, name):,} and {getattr(costs, name):,}" for name in COSTS)
        raise ValueError(
            f"search and profile have to agree on {candidate.name}, but find {found}: candidates.jsonl was changed, or "
            "this is a bug"
        )


def _train(candidate: Candidate, folder: Path, **how: Any) -> dict[str, Any]:
    """Train it, if an earlier run did not, and tell what came of it; a run that was cut short goes on."""
    from attnpool.jobs.train import train  # which takes seconds to import, and most searches train nothing

    spec = candidate.spec
    asked = json.dumps([describe(spec), how["data"], how["epochs"], how["seed"]])  # another training, another folder
    output = folder / "trained" / f"{spec}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
    result = train(
        str(spec),
        output=str(output),
        image_size=candidate.side,
        width=spec.width,
        placement=spec.placement,  # type: ignore[arg-type]
        query_blocks=spec.query_blocks,
        resume=True,
        **how,
    )
    measured = {"val_accuracy": result.val_accuracy, "test_accuracy": result.test_accuracy}
    return {**candidate.to_dict(), "input": candidate.image, "checkpoint": str(output), **measured}


def _write(result: FitResult, space: Space, folder: Path) -> None:
    front = [c.to_dict() for c in result.front]
    values = {**vars(result), "budget": asdict(result.budget), "space": asdict(space), "front": front}
    (folder / "fit.json").write_text(json.dumps(values, indent=2) + "\n")
