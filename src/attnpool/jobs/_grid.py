"""A grid of trainings: axes and templates in, trials with an identity out; nothing is run or read here."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from string import Formatter
from typing import Any

from attnpool.jobs._settings import ARCHITECTURE, check_name, complete, differing, known_names
from attnpool.jobs._task import CLASSIFICATION, DETECTION, Task, task_of
from attnpool.registry import did_you_mean

TEMPLATE = "{backbone}-{method}-{strides}"
"""The architecture of a grid that has none, filled in from its axes."""


@dataclass(frozen=True)
class Trial:
    """One training of the grid.

    Args:
        settings: Every argument of what trains it that decides the outcome but the seed.
        seed: Of the training.
    """

    settings: Mapping[str, Any]
    seed: int

    @property
    def id(self) -> str:
        """12 hex digits: what is trained, whatever the grid around it."""
        return digest({"settings": differing(self.settings), "seed": self.seed})

    @property
    def configuration(self) -> str:
        """12 hex digits, the same for all seeds."""
        return configuration(self.settings)

    @property
    def folder(self) -> str:
        """Name of its folder: the string, the seed and the identity."""
        return f"{self.settings[ARCHITECTURE].replace(':', '-')}-seed{self.seed}-{self.id}"


def digest(values: Any) -> str:
    """12 hex digits of what JSON says of the values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def configuration(settings: Mapping[str, Any]) -> str:
    """12 hex digits of what is trained: a default that a later version adds changes nothing of it."""
    return digest(differing(settings))


def expand(
    common: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    trials: Sequence[Mapping[str, Any]],
    seeds: int | Sequence[int],
) -> tuple[list[Trial], int]:
    """The trials, each once, all configurations of one seed before the next seed; and how many came up again.

    Args:
        common: Arguments of `train`, or of `detect train`, for all.
        grid: A list of values for each axis: an argument, or what {braces} of the architecture name.
        trials: Further configurations: arguments beside the common ones.
        seeds: How many, from 0, or which.

    Raises:
        ValueError: naming the axis, argument or value that cannot be used.
    """
    known = known_names(kind(common, grid, trials))
    points = []
    for point in _points(common, grid):
        points.append(complete({**common, **{name: value for name, value in point.items() if name in known}}, "grid"))
    for i, further in enumerate(trials):
        if not isinstance(further, Mapping):
            raise ValueError(f"trials[{i}] has to be arguments of train and their values, but got {further!r}")
        points.append(complete({**common, **further}, f"trials[{i}]"))
    if not points:
        raise ValueError("methods, architectures, grid or trials have to say what to compare, but none is given")
    once = {configuration(point): point for point in points}
    return [Trial(point, seed) for seed in _seeds(seeds) for point in once.values()], len(points) - len(once)


def kind(common: Mapping[str, Any], grid: Mapping[str, Sequence[Any]], trials: Sequence[Any]) -> Task:
    """The task of all trials, whose arguments are as for `expand`.

    Raises:
        ValueError: if there are detectors and others, or for an axis that it does not have.
    """
    points = [{**common, **point} for point in [*_points(common, grid), *trials] if isinstance(point, Mapping)]
    of_each = {task_of(point[ARCHITECTURE]): point[ARCHITECTURE] for point in points if ARCHITECTURE in point}
    if len(of_each) > 1:
        one, other = of_each[DETECTION], of_each[CLASSIFICATION]
        raise ValueError(f"architectures has to have detectors only, or none, but got {one!r} and {other!r}")
    task = next(iter(of_each), CLASSIFICATION)
    names = {name for _, fields in _templates(common, grid) for name in fields}
    for axis in grid:
        check_name(task, axis, "grid", [*known_names(task), *names])
    return task


def labels(configurations: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """By `configuration`, what tells each from the others of its task in a few words."""
    tasks: dict[Task, dict[str, Mapping[str, Any]]] = {}
    for settings in configurations:
        tasks.setdefault(task_of(settings[ARCHITECTURE]), {})[configuration(settings)] = settings
    return {key: label for every in tasks.values() for key, label in _labels(every).items()}


def _labels(every: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    strings = {key: str(settings[ARCHITECTURE]) for key, settings in every.items()}
    parts = {key: string.split("-") for key, string in strings.items()}
    if len({len(tokens) for tokens in parts.values()}) > 1:
        parts = {key: [string] for key, string in strings.items()}
    shown = _columns_that_vary(list(parts.values()))
    others = sorted({name for settings in every.values() for name in settings} - {ARCHITECTURE})
    varying = [name for name in others if len({json.dumps(s.get(name)) for s in every.values()}) > 1]
    found = {}
    for key, settings in every.items():
        words = [parts[key][i] for i in shown]
        words += [f"{name}={'-' if settings.get(name) in (None, '') else settings[name]}" for name in varying]
        found[key] = " ".join(words) or strings[key]
    return found


def _columns_that_vary(rows: Sequence[Sequence[str]]) -> list[int]:
    """Positions whose tokens are not all the same, and not those of an earlier position."""
    columns = list(zip(*rows, strict=True))
    return [i for i, column in enumerate(columns) if len(set(column)) > 1 and column not in columns[:i]]


def _points(common: Mapping[str, Any], grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the axes, the architecture filled in."""
    for axis, values in grid.items():
        if not isinstance(values, list | tuple) or not values:
            raise ValueError(f"grid.{axis} has to be a list of values, but got {values!r}")
    if not grid:
        return [{}] if ARCHITECTURE in common else []
    axes = {axis: values for axis, values in grid.items() if axis != ARCHITECTURE}
    found = []
    for (template, names), *values in product(_templates(common, grid), *axes.values()):
        point = dict(zip(axes, values, strict=True))
        found.append({**point, ARCHITECTURE: _fill(template, names, point)})
    return found


def _templates(common: Mapping[str, Any], grid: Mapping[str, Sequence[Any]]) -> list[tuple[str, list[str]]]:
    """The architectures of a grid, and the names in braces of each."""
    return [(each, _fields(each)) for each in grid.get(ARCHITECTURE) or [common.get(ARCHITECTURE, TEMPLATE)]]


def _fields(template: Any) -> list[str]:
    """The names in braces."""
    try:
        return [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    except (ValueError, TypeError) as error:
        rule = "a string with names of axes in braces"
        raise ValueError(f"architecture has to be {rule}, but got {template!r}: {error}") from None


def _fill(template: str, names: Sequence[str], point: Mapping[str, Any]) -> str:
    for name in names:
        if name not in point:
            raise ValueError(
                f"grid has to have a list for each name in braces of {template!r}, but has none for {name!r}"
                f"{did_you_mean(name, point) if point else ''}"
            )
    return template.format_map(point)


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    which = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not which or len(set(which)) < len(which) or not all(0 <= seed < 2**63 for seed in which):
        rule = "how many, at least 1, or a list of different numbers from 0 to below 2^63"
        raise ValueError(f"seeds has to be {rule}, but got {seeds}")
    return which
