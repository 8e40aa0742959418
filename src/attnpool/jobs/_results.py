"""Trials by what they share: data sets, their configurations, and the trials that failed."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attnpool.jobs._quantities import Quantity
from attnpool.jobs._reported import Reported
from attnpool.jobs._rows import Row, read_rows, reported_of_row
from attnpool.jobs._statistics import Estimate, estimate


@dataclass(frozen=True)
class Configuration:
    """All finished trials of the same settings.

    Args:
        name: That tells it from the others of its data set.
        trials: Row of each seed, the smallest seed first.
    """

    name: str
    trials: dict[int, Row]

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of training, which its seeds share."""
        return next(iter(self.trials.values()))["settings"]

    def values(self, quantity: Quantity) -> dict[Any, float]:
        """A number of each seed that has it."""
        found = {seed: quantity.of(row) for seed, row in self.trials.items()}
        return {seed: value for seed, value in found.items() if value is not None}

    def estimate(self, quantity: Quantity) -> Estimate | None:
        """Its mean over the seeds; None if it was not measured."""
        values = list(self.values(quantity).values())
        return estimate(values) if values else None

    def mean(self, quantity: Quantity) -> float | None:
        """The mean over the seeds alone."""
        found = self.estimate(quantity)
        return None if found is None else found.mean


@dataclass(frozen=True)
class DataSet:
    """What was trained on the same data and classes; configurations are in the order of the files.

    Args:
        name: Unlike that of any other data set: the source, and what else tells it apart where sources are alike.
        source: As the rows have it.
        reported: What is reported of what was trained on it.
        classes: Their names.
        configurations: At least one.
    """

    name: str
    source: str
    reported: Reported
    classes: tuple[str, ...]
    configurations: tuple[Configuration, ...]

    @property
    def names(self) -> list[str]:
        """Of the configurations."""
        return [c.name for c in self.configurations]


@dataclass(frozen=True)
class Results:
    """All data sets, and the rows of the trials that failed."""

    data: tuple[DataSet, ...]
    failed: tuple[Row, ...]

    @property
    def finished(self) -> list[Row]:
        """The rows of all finished trials."""
        return [row for part in self.data for c in part.configurations for row in c.trials.values()]


def read_results(places: Sequence[str]) -> Results:
    """Read files, or folders that hold a results.jsonl; of the same trial twice, the last row counts.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: for what is no row, naming file and line, or if no trial has finished.
    """
    trials = {(row["data"], row["trial"]): row for place in places for row in read_rows(place)}
    failed = tuple(row for row in trials.values() if row["status"] == "failed")
    groups: dict[str, list[Row]] = {}
    for row in trials.values():
        if row["status"] == "finished":
            groups.setdefault(json.dumps([row["data"], _further_data(row), row["classes"]]), []).append(row)
    if not groups:
        raise ValueError(
            f"results has to hold a finished trial, but {', '.join(places)} got as far as {len(failed)} that failed"
            if failed
            else f"results has to hold a finished trial, but got none in {', '.join(places) or 'no file'}"
        )
    often = Counter(rows[0]["data"] for rows in groups.values())
    return Results(tuple(_data_set(rows, often[rows[0]["data"]] > 1) for rows in groups.values()), failed)


def differing(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The names of the settings that are not the same everywhere."""
    names = dict.fromkeys(name for values in settings for name in values)
    missing = object()
    return [n for n in names if any(values.get(n, missing) != settings[0].get(n, missing) for values in settings)]


def _data_set(rows: Sequence[Row], has_namesakes: bool) -> DataSet:
    source, classes = rows[0]["data"], tuple(rows[0]["classes"])
    further = [f"{name} {value}" for name, value in _further_data(rows[0]).items()]
    said = ", ".join([f"{len(classes)} classes, {classes[0]} to {classes[-1]}", *further])
    name = f"{source} ({said})" if has_namesakes else source
    return DataSet(name, source, reported_of_row(rows[0]), classes, _configurations(rows))


def _further_data(row: Row) -> dict[str, str]:
    """What else than its source says which data a trial was measured on: sources of other splits."""
    found = {name: row["settings"].get(name) for name in reported_of_row(row).data if name not in ("data", "classes")}
    return {name: str(value) for name, value in found.items() if value}


def _configurations(rows: Sequence[Row]) -> tuple[Configuration, ...]:
    """Rows of the same settings together, by the last one's name; of equal names, each says what it differs in."""
    groups: dict[str, dict[int, Row]] = {}
    names: dict[str, str] = {}
    for row in rows:
        settings = json.dumps(row["settings"], sort_keys=True)
        groups.setdefault(settings, {})[row["seed"]] = row
        names[settings] = row["name"]
    namesakes: dict[str, list[dict[str, Any]]] = {}
    for settings, name in names.items():
        namesakes.setdefault(name, []).append(json.loads(settings))
    full = {key: _full_name(name, json.loads(key), namesakes[name]) for key, name in names.items()}
    return tuple(Configuration(full[key], dict(sorted(trials.items()))) for key, trials in groups.items())


def _full_name(name: str, settings: dict[str, Any], namesakes: Sequence[dict[str, Any]]) -> str:
    said = ", ".join(f"{key}={settings.get(key)}" for key in differing(namesakes))
    return f"{name} ({said})" if said else name
