"""A comparison as a whole: what there is to train, the rows that come of it, and the table at the end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import mean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from attnpool.jobs._grid import Trial, labels
from attnpool.jobs._journal import Row
from attnpool.jobs._reported import Reported, reported_of
from attnpool.jobs._settings import check
from attnpool.jobs._task import Spec, task_of
from attnpool.jobs._trial import origin

FINISHED, FAILED = "finished", "failed"


@dataclass(frozen=True)
class CompareResult:
    """What `compare` found; `results.jsonl` of the output folder has all of it.

    Args:
        rows: Of the trials that were asked for, as in `results.jsonl`.
        merged: How many trials of the grid came up twice, and were trained once.
        others: How many rows of other trials the file has besides.
        output: The folder.
    """

    rows: list[Row]
    merged: int
    others: int
    output: str

    @property
    def failed(self) -> list[Row]:
        """Rows of the trials that failed."""
        return [row for row in self.rows if row["status"] == FAILED]

    @property
    def exit_code(self) -> int:
        """Of the command: 1 if a trial failed."""
        return 1 if self.failed else 0

    def __rich__(self) -> Group:
        table = Table(title=f"{len(self.rows)} trials, on their test data", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("configuration", overflow="fold")
        reported = reported_of(self.rows[0]["settings"]["architecture"])
        first, *others = [quantity.label.removeprefix("test ") for quantity in reported.measures[: reported.shown]]
        for name in ("seeds", first, "range", *others, "peak int8, kB", "MACs, M"):
            table.add_column(name, justify="right", no_wrap=True)
        for name in dict.fromkeys(row["name"] for row in self.rows):
            table.add_row(escape(name), *_cells([row for row in self.rows if row["name"] == name], reported))
        file = f"{self.output}/results.jsonl"
        lines = [f"results: {file}" + (f" ({self.others} rows of other trials besides)" if self.others else "")]
        if self.merged:
            lines.append(f"{self.merged} configurations came up twice: each was trained once")
        lines += [f"failed: {row['name']}, seed {row['seed']}: {row['error']}" for row in self.failed]
        if self.failed:
            lines.append("the same command tries those that failed again")
        return Group(table, *map(escape, [*lines, f"next: attnpool report {file}"]))


@dataclass(frozen=True)
class Plan:
    """The trials of a comparison, and the network of each configuration."""

    trials: Sequence[Trial]
    specs: Mapping[str, Spec]

    @classmethod
    def of(cls, trials: Sequence[Trial], running: Mapping[str, Any]) -> "Plan":
        """Check the settings of all, each configuration once.

        Args:
            trials: Of the comparison.
            running: Arguments that decide no outcome: where published data are is among them.

        Raises:
            ValueError: saying in which trial, if there are several configurations.
        """
        configurations = {trial.configuration: trial.settings for trial in trials}
        names, opened, specs = labels(configurations.values()), dict[str, Any](), {}
        for key, settings in configurations.items():
            task = task_of(settings["architecture"])
            data = json.dumps([settings[name] for name in task.reported.data])
            try:
                if data not in opened:
                    opened[data] = task.open({**settings, **running})
                specs[key] = check(settings, running, opened[data])
            except ValueError as error:
                where = f" (trial {names[key]!r})" if len(names) > 1 else ""
                raise ValueError(f"{error}{where}") from error
        return cls(trials, specs)

    def row(self, trial: Trial, name: str, answer: Mapping[str, Any], costs: Mapping[str, Any], attempts: int) -> Row:
        """The row of a trial that ended, of what its process and the measurement of its network answered."""
        found = {**origin(), "device": None, **answer}
        spec = self.specs[trial.configuration]
        error = found.pop("error", None)
        about = {key: found.pop(key) for key in ("versions", "commit", "device")}
        head = {
            "status": FAILED if error else FINISHED,
            "trial": trial.id,
            "name": name,
            "settings": dict(trial.settings),
            "seed": trial.seed,
            "data": trial.settings["data"],
            "spec": {"architecture": str(spec), **spec.settings},
        }
        body = {} if error else {"classes": found.pop("classes"), **costs, **found}
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return {**head, **body, "attempts": attempts, "error": error, **about, "finished_at": at}


def _cells(rows: Sequence[Row], reported: Reported) -> list[str]:
    done = [row for row in rows if row["status"] == FINISHED]
    seeds = str(len(done)) if len(done) == len(rows) else f"{len(done)} of {len(rows)}"
    if not done:
        return [seeds, "failed"]
    found = [[row[quantity.key] for row in done] for quantity in reported.measures[: reported.shown]]
    first, *others = [f"{mean(values):.2%}" for values in found]
    spread = f"{min(found[0]):.2%} to {max(found[0]):.2%}" if len(done) > 1 else "-"
    peak, macs = done[0]["memory"]["int8"]["peak"], done[0]["macs"]
    return [seeds, first, spread, *others, f"{peak / 1e3:,.1f}", f"{macs / 1e6:,.2f}"]
