"""The page, the picture and the verdicts of `speed.py`, from its results alone."""

from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

MODES = {"infer": "inference", "train": "training step"}
COLOURS = {"ours": "#1f6f8b", "reference": "#c8553d"}


class Bar(NamedTuple):
    """A ratio that was to be reached."""

    case: str
    what: str
    sense: str
    """Whether the bar is the least or the most that is allowed."""
    bar: float
    found: float
    at_floor: float | None = None
    """What it would be if ours took no longer than the floor."""

    @property
    def holds(self) -> bool:
        return self.found >= self.bar if self.sense == "at least" else self.found <= self.bar


def bars(results: dict[str, Any]) -> list[Bar]:
    """All of them, with what was found."""
    found = []
    for case in results["cases"]:
        for mode, name in MODES.items():
            ours, theirs = (case[mode][way][1] for way in ("ours", "reference"))
            what = f"{name}, times faster"
            found.append(
                Bar(case["name"], what, "at least", case["bars"][mode], theirs / ours, theirs / _floor(case, mode))
            )
        if "memory" in case["bars"]:
            share = _memory(case, "train", "ours") / _memory(case, "train", "reference")
            found.append(Bar(case["name"], "training step, share of memory", "at most", case["bars"]["memory"], share))
    for row in results["pooling"]:
        for mode, bar in results["pooling_bars"].items():
            ratio = row[mode]["weighted"][1] / row[mode]["average"][1]
            what = {"infer": "forward", "train": "forward and backward"}[mode]
            name = f"weighted mean, {_shape(row)} k{row['kernel']}, {row['layout']}"
            found.append(Bar(name, f"{what}, times `avg_pool2d`", "at most", bar, ratio))
    return found


def verdicts(results: dict[str, Any]) -> str:
    """The table of `bars`."""
    lines = ["| case | what | bar | found | at the floor | holds |", "|---|---|---|---|---|---|"]
    for row in bars(results):
        at_floor = "" if row.at_floor is None else f"{row.at_floor:.2f}"
        cells = [row.case, row.what, f"{row.sense} {row.bar:g}", f"{row.found:.2f}", at_floor]
        lines.append(f"| {' | '.join(cells)} | {'yes' if row.holds else '**no**'} |")
    return "\n".join(lines)


def page(results: dict[str, Any]) -> str:
    """The page of the docs."""
    where, best = results["environment"], results["ceilings"]
    return f"""# How fast, and how far from the floor

`make bench` made this page in {results["minutes"]:.1f} minutes. Everything is timed in one process on
{where["threads"]} threads of {where["device"]}, float32: all ways of a case in turn, 5 to 40 rounds; medians
(quartiles). Memory is the rise of a fresh process to its peak, on one thread, the network and its input left out.

*Ours* is `SelfAttentivePool2d`; *folded* the same after `fuse_()`. The *reference* is its formula as it is written,
with the same parameters ([reference.py](../benchmarks/reference.py)): `nn.MultiheadAttention` with its scores, weights
restored on every pixel, two average pools. In eval mode torch runs that attention as one fused operation; *step by
step* is without it. A training step is forward and backward.

## Bars

*At the floor* is what the ratio would be if ours took no longer than the floor below.

{verdicts(results)}

## Against the formula as it is written

{_against(results)}

## Rivals

The same layer shape, or the same network with another method in its stages; `kv2` is ours with `kv_stride=2`.
Milliseconds; in brackets megabytes of a training step.

{_rivals(results)}

## The floor

The machine at its best in this process: {best["gflops"]:.0f} GFLOP/s in a matrix product, {best["gscores"]:.2f}
billion scores a second through soft-max in the cache, {best["gbytes"]:.1f} GB/s in a copy. The floor of a part is the
time of its operations and scores at these rates, or of reading its input and writing its output once, whichever is
longer; that of the whole is their sum. A training step is three times inference, attention three and a half: backward
makes its scores again. The rates are measured, each on one shape, so that a part can come out a little below its floor;
parts are timed in a run of their own.

{_floors(results)}

## Narrow heads

Nanoseconds a score, of torch's fused kernel with heads of a width, and of ours, which fills those narrower than 16 up
with zeros: the products of fewer columns are the slower ones.

{_heads(results)}

## How it grows

![Seconds and megabytes against the side of the image, for patches of 1, 2 and 4 pixels](speed.png)

One image of 16 channels, one head. Time grows with the square of the pixels, ours and the reference alike; memory of
ours with the pixels. The reference ends where its scores take 1 GB, a training step before it would take six seconds.
Memory here is the allocator's own record.

Measured at commit {where["commit"]} with torch {where["torch"]}; the figures are in `benchmarks/results/speed.json`.
"""


def picture(results: dict[str, Any]) -> Figure:
    """Time and memory against the side of the image."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for axes, (key, label) in zip(
        figure.subplots(1, 2), {"seconds": "seconds", "megabytes": "MB"}.items(), strict=True
    ):
        for patch, marker in ((1, "o"), (2, "s"), (4, "^")):
            for way in COLOURS:
                for mode, line in (("infer", "-"), ("train", "--")):
                    points = [
                        (row["side"], row[key])
                        for row in results["scaling"]
                        if (row["patch"], row["way"], row["mode"]) == (patch, way, mode)
                    ]
                    axes.plot(*zip(*points, strict=True), line, color=COLOURS[way], marker=marker, markersize=4)
        _finish(axes, label)
    handles = [
        *(axes.plot([], [], color=colour, label=way)[0] for way, colour in COLOURS.items()),
        *(
            axes.plot([], [], line, color="gray", label=name)[0]
            for line, name in (("-", "inference"), ("--", "training step"))
        ),
        *(
            axes.plot([], [], marker, color="gray", label=f"patch {p}")[0]
            for p, marker in ((1, "o"), (2, "s"), (4, "^"))
        ),
    ]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def _finish(axes: Axes, label: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    sides = (32, 64, 128, 256, 512)
    axes.set_xticks(sides, [str(side) for side in sides])
    axes.set_xlabel("side of the image, pixels")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _against(results: dict[str, Any]) -> str:
    lines = [
        "| case | mode | ours, ms | folded, ms | reference, ms | times faster | step by step | MB | MB, reference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in results["cases"]:
        for mode, name in MODES.items():
            times = case[mode]
            ratio = _median(times, "reference") / _median(times, "ours")
            cells = [_quartiles(times.get(way)) for way in ("ours", "fused", "reference")]
            cells += [f"{ratio:.1f}", _quartiles(times.get("reference, step by step"))]
            cells += [f"{_memory(case, mode, way):.0f}" for way in ("ours", "reference")]
            lines.append(f"| {case['name']}, {_shape(case)} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rivals(results: dict[str, Any]) -> str:
    ways = [way for way in results["cases"][0]["train"] if way != "reference"]
    lines = [f"| case | mode | {' | '.join(ways)} |", "|---|---|" + "---|" * len(ways)]
    for case in results["cases"]:
        for mode, name in MODES.items():
            cells = [f"{_median(case[mode], way):.3g}" for way in ways]
            if mode == "train":
                cells = [f"{cell} ({_memory(case, mode, way):.0f})" for cell, way in zip(cells, ways, strict=True)]
            lines.append(f"| {case['name']} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _floors(results: dict[str, Any]) -> str:
    lines = [
        "| case | part | GFLOP | billion scores | MB | floor, ms | found, ms | found / floor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in results["cases"]:
        *parts, step = case["floor"]
        total = {key: sum(part[key] for part in parts) for key in ("gflop", "gscores", "mbytes", "floor_ms")}
        total |= {"part": "**inference**", "ms": _median(case["infer"], "ours")}
        step = {**step, "part": "**training step**", "ms": _median(case["train"], "ours")}
        for part in (*parts, total, step):
            cells = [f"{part[key]:.3g}" for key in ("gflop", "gscores", "mbytes", "floor_ms")]
            cells += [f"{part['ms']:.3g}", f"{part['ms'] / part['floor_ms']:.1f}"] if part["ms"] else ["", ""]
            lines.append(f"| {case['name']} | {part['part']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _floor(case: dict[str, Any], mode: str) -> float:
    *parts, step = case["floor"]
    return step["floor_ms"] if mode == "train" else sum(part["floor_ms"] for part in parts)


def _heads(results: dict[str, Any]) -> str:
    ways = ("torch_infer", "ours_infer", "torch_train", "ours_train")
    lines = [
        "| channels a head | torch, forward | ours | torch, forward and backward | ours |",
        "|---|---|---|---|---|",
    ]
    for row in results["heads"]:
        lines.append(f"| {row['width']} | {' | '.join(f'{row[way]:.2f}' for way in ways)} |")
    return "\n".join(lines)


def _median(times: dict[str, list[float]], way: str) -> float:
    return times[way][1]


def _memory(case: dict[str, Any], mode: str, way: str) -> float:
    value: float = case["megabytes"][mode][way]
    return value


def _quartiles(times: list[float] | None) -> str:
    return "" if times is None else f"{times[1]:.3g} ({times[0]:.3g} to {times[2]:.3g})"


def _shape(row: dict[str, Any]) -> str:
    return "x".join(map(str, row["shape"]))
