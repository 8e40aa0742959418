"""Static pictures of a report for documents: the first measure against memory with the front, and learning curves."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator

from attnpool.colours import COLOURS
from attnpool.jobs._quantities import COSTS
from attnpool.jobs._report_data import curve
from attnpool.jobs._results import Configuration, DataSet
from attnpool.jobs._statistics import front

MARKERS = "osD^vPX*"
LINES = ("-", "--", ":", "-.")
MOST = 12
"""Configurations above which only those on the front are named."""
WIDE = 10
"""Ratio of the most memory to the least above which its axis is logarithmic."""


def memory_picture(data: Sequence[DataSet]) -> Figure:
    """The first measure over the int8 peak with 95 % intervals, the front as a dotted line; a plot a data set."""
    figure, plots = _subplots(data)
    for axes, part in zip(plots, data, strict=True):
        _over_memory(axes, part)
    return figure


def curves_picture(data: Sequence[DataSet]) -> Figure:
    """The first curve, by epoch: the mean over seeds in the band of its 95 % interval."""
    figure, plots = _subplots(data)
    for axes, part in zip(plots, data, strict=True):
        quantity = part.reported.curves[0]
        for c, (colour, marker, line) in _named(part):
            epochs, found = curve(c, quantity)
            means = [e.mean * quantity.scale for e in found]
            every = 1 if len(epochs) <= 25 else len(epochs)
            options: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": line, "markevery": every}
            axes.plot(epochs, means, label=_plain(c.name), **options)
            halves = [(e.half or 0) * quantity.scale for e in found]
            low, high = ([m + sign * h for m, h in zip(means, halves, strict=True)] for sign in (-1, 1))
            axes.fill_between(epochs, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity.title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _finish(axes, part)
    return figure


def _over_memory(axes: Axes, part: DataSet) -> None:
    x, y = COSTS[0], part.reported.measures[0]
    places, means = _front(part)
    stairs = [means[i] for i in places]
    axes.step(*zip(*stairs, strict=True), where="post", color="#5b666f", linestyle=":", zorder=0, label="front")
    if len(part.configurations) > MOST:
        axes.plot(*zip(*means, strict=True), "o", color="#b8b8b8", markersize=5, zorder=0, label="the others")
    for c, (colour, marker, _) in _named(part):
        value = c.estimate(y)
        bar = None if value is None or value.half is None else value.half * y.scale
        look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 9, "capsize": 4, "linestyle": ""}
        point = means[part.configurations.index(c)]
        axes.errorbar(*point, bar, label=_plain(c.name), markeredgecolor="black", markeredgewidth=0.6, **look)
    if max(means)[0] > WIDE * min(means)[0]:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.set_xlabel(x.title)
    axes.set_ylabel(y.title)
    _finish(axes, part)


def _front(part: DataSet) -> tuple[list[int], list[tuple[float, float]]]:
    """Places on the front, and the point of every configuration, in the units of the picture."""
    x, y = COSTS[0], part.reported.measures[0]
    means = [((c.mean(x) or 0.0) * x.scale, (c.mean(y) or 0.0) * y.scale) for c in part.configurations]
    return front([cost for cost, _ in means], [value for _, value in means]), means


def _named(part: DataSet) -> list[tuple[Configuration, tuple[str, str, str]]]:
    """The configurations that a legend can hold, with their looks: all, or the first of the front."""
    styles = zip(cycle(COLOURS), cycle(MARKERS), cycle(LINES), strict=False)
    looks = list(zip(part.configurations, styles, strict=False))
    return looks if len(looks) <= MOST else [looks[i] for i in _front(part)[0][:MOST]]


def _subplots(data: Sequence[DataSet]) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(1 + 7 * len(data), 5.5), dpi=120, layout="constrained")
    return figure, figure.subplots(1, len(data), squeeze=False)[0]


def _finish(axes: Axes, part: DataSet) -> None:
    count = len(part.configurations)
    some = f" (of {count} configurations, those on the front)" if count > MOST else ""
    axes.set_title(f"{_plain(part.name)}{some}", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3 if count <= MOST else 2)


def _plain(name: str) -> str:
    """A name that matplotlib shows as it is, and in its legend: no formula, no leading underscore."""
    text = name.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
