"""The numbers of a report: estimates, fronts and paired differences, as the page and summary.csv have them."""

from collections.abc import Iterable, Sequence
from typing import Any

from attnpool.jobs._quantities import COSTS, Quantity
from attnpool.jobs._reported import Reported
from attnpool.jobs._results import Configuration, DataSet
from attnpool.jobs._statistics import Estimate, estimate, front, paired

Pair = tuple[float, float | None]
"""Mean, and half of the interval or None."""


def page_data(data: DataSet, baseline: int) -> dict[str, Any]:
    """All that the page shows of a data set, for JSON; configurations are told by their place."""
    configurations, reported = data.configurations, data.reported
    return {
        "name": data.name,
        "goodness": reported.goodness,
        "measures": quantity_data(reported.measures),
        "curves": quantity_data(reported.curves),
        "classes": list(data.classes),
        "baseline": baseline,
        "configurations": [_configuration(c, reported) for c in configurations],
        "fronts": {x.key: {y.key: _front(configurations, x, y) for y in reported.measures} for x in COSTS},
        "pairs": [[_difference(c, base, data) for c in configurations] for base in configurations],
    }


def quantity_data(quantities: Sequence[Quantity]) -> list[dict[str, Any]]:
    """Names, units and decimals, for JSON."""
    return [
        {
            "key": q.key,
            "label": q.label,
            "title": q.title,
            "unit": q.unit,
            "scale": q.scale,
            "digits": q.digits,
            "up": q.higher_is_better,
        }
        for q in quantities
    ]


def table_rows(data: DataSet, baseline: int) -> list[dict[str, Any]]:
    """A row for each configuration, as in the page's table: numbers in their own units, empty where there is none."""
    base, measures = data.configurations[baseline], data.reported.measures
    rows = []
    for c in data.configurations:
        row: dict[str, Any] = {"data": data.name, "name": c.name, "seeds": len(c.trials)}
        for quantity in measures:
            row |= _columns(quantity.key, c.estimate(quantity))
        difference = None if c is base else paired(c.values(measures[0]), base.values(measures[0]))
        row |= {"baseline": base.name, "pairs": difference.n if difference else ""}
        row |= _columns("difference", difference)
        row["excludes_0"] = "" if difference is None or difference.half is None else str(difference.excludes_zero)
        rows.append(row | {cost.key: c.mean(cost) for cost in COSTS})
    return rows


def curve(configuration: Configuration, quantity: Quantity) -> tuple[list[int], list[Estimate]]:
    """Epochs, and the mean over the seeds that have each."""
    values: dict[int, list[float]] = {}
    for row in configuration.trials.values():
        for epoch in row["history"]:
            values.setdefault(epoch["epoch"], []).append(epoch[quantity.key])
    return sorted(values), [estimate(values[epoch]) for epoch in sorted(values)]


def _configuration(c: Configuration, reported: Reported) -> dict[str, Any]:
    curves = {}
    for quantity in reported.curves:
        epochs, estimates = curve(c, quantity)
        curves[quantity.key] = {"epochs": epochs, "values": list(map(_pair, estimates))}
    by_class = zip(*(row["per_class"] for row in c.trials.values()), strict=True)
    return {
        "name": c.name,
        "seeds": list(c.trials),
        "measures": {q.key: _pair(c.estimate(q)) for q in reported.measures},
        "costs": {q.key: c.mean(q) for q in COSTS},
        "classes": list(map(_known, by_class)),
        "curves": curves,
    }


def _difference(c: Configuration, base: Configuration, data: DataSet) -> dict[str, Any] | None:
    """Of one configuration to another; None to itself, or without a common seed."""
    common = [seed for seed in c.trials if seed in base.trials]
    if c is base or not common:
        return None
    by_class = []
    for k in range(len(data.classes)):
        pairs = [(c.trials[seed]["per_class"][k], base.trials[seed]["per_class"][k]) for seed in common]
        by_class.append(_known([None if None in pair else pair[0] - pair[1] for pair in pairs]))
    measures = {q.key: _pair(paired(c.values(q), base.values(q))) for q in data.reported.measures}
    return {"n": len(common), "measures": measures, "classes": by_class}


def _front(configurations: Sequence[Configuration], x: Quantity, y: Quantity) -> list[int]:
    points = [(c.mean(x), c.mean(y)) for c in configurations]
    costs = [None if value is None else cost for cost, value in points]
    return front(costs, [value or 0.0 for _, value in points], higher_is_better=y.higher_is_better)


def _known(values: Iterable[float | None]) -> Pair | None:
    """Of the values that are there."""
    found = [value for value in values if value is not None]
    return _pair(estimate(found)) if found else None


def _pair(found: Estimate | None) -> Pair | None:
    return None if found is None else (round(found.mean, 8), None if found.half is None else round(found.half, 8))


def _columns(name: str, found: Estimate | None) -> dict[str, float | str]:
    if found is None:
        return {name: "", f"{name}_low": "", f"{name}_high": ""}
    if found.half is None:
        return {name: found.mean, f"{name}_low": "", f"{name}_high": ""}
    return {name: found.mean, f"{name}_low": found.mean - found.half, f"{name}_high": found.mean + found.half}
