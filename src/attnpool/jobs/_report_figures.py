"""Static pictures of a report for documents: accuracy against memory with the front, and learning curves."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from attnpool.jobs._figures import COLOURS
from attnpool.jobs._quantities import COSTS, CURVES, MEASURES
from attnpool.jobs._report_data import curve
from attnpool.jobs._results import DataSet
from attnpool.jobs._statistics import front

MARKERS = "osD^vPX*"
LINES = ("-", "--", ":", "-.")
WIDE = 10
"""Ratio of the most memory to the least above which its axis is logarithmic."""


def memory_picture(data: Sequence[DataSet]) -> Figure:
    """Test accuracy over the int8 peak with 95 % intervals, the front as a dotted line; data sets beside each other."""
    figure, plots = _subplots(data)
    for axes, part in zip(plots, data, strict=True):
        _accuracy_over_memory(axes, part)
    return figure


def curves_picture(data: Sequence[DataSet]) -> Figure:
    """Validation accuracy after every epoch, the mean over seeds in the band of its 95 % interval."""
    figure, plots = _subplots(data)
    quantity = CURVES[0]
    for axes, part in zip(plots, data, strict=True):
        for c, (colour, marker, line) in zip(part.configurations, _styles(), strict=False):
            epochs, found = curve(c, quantity)
            means = [e.mean * quantity.scale for e in found]
            axes.plot(epochs, means, color=colour, marker=marker, linestyle=line, label=_plain(c.name))
            halves = [(e.half or 0) * quantity.scale for e in found]
            low, high = ([m + sign * h for m, h in zip(means, halves, strict=True)] for sign in (-1, 1))
            axes.fill_between(epochs, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity.title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _finish(axes, part)
    return figure


def _accuracy_over_memory(axes: Axes, part: DataSet) -> None:
    x, y = COSTS[0], MEASURES[0]
    points = []
    for c, (colour, marker, _) in zip(part.configurations, _styles(), strict=False):
        cost, value = c.estimate(x), c.estimate(y)
        if cost is None or value is None:
            continue
        points.append((cost.mean * x.scale, value.mean * y.scale))
        bar = None if value.half is None else value.half * y.scale
        options: dict[str, Any] = {"capsize": 4, "markeredgecolor": "black", "markeredgewidth": 0.6, "markersize": 9}
        axes.errorbar(*points[-1], bar, color=colour, marker=marker, linestyle="", label=_plain(c.name), **options)
    stairs = [points[i] for i in front([cost for cost, _ in points], [value for _, value in points])]
    axes.step(*zip(*stairs, strict=True), where="post", color="#5b666f", linestyle=":", zorder=0, label="front")
    if max(points)[0] > WIDE * min(points)[0]:
        axes.set_xscale("log")
    axes.set_xlabel(x.title)
    axes.set_ylabel(y.title)
    _finish(axes, part)


def _subplots(data: Sequence[DataSet]) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(1 + 7 * len(data), 5.5), dpi=120, layout="constrained")
    return figure, figure.subplots(1, len(data), squeeze=False)[0]


def _styles() -> Any:
    return zip(cycle(COLOURS), cycle(MARKERS), cycle(LINES), strict=False)


def _finish(axes: Axes, part: DataSet) -> None:
    axes.set_title(_plain(part.name), fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _plain(name: str) -> str:
    """A name that matplotlib shows as it is, and in its legend: no formula, no leading underscore."""
    text = name.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
