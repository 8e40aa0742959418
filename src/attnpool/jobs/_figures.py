"""Pictures that the jobs write: confusion, accuracy, weight maps, memory; colours safe for the colour-blind."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from attnpool.accounting.budget import Budget
from attnpool.accounting.memory import ITEMSIZE, lifetimes, live_at, live_bytes, peak_step
from attnpool.accounting.profile import Profile
from attnpool.accounting.search import Candidate
from attnpool.colours import COLOURS


def confusion_figure(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Rows are the labels, columns what they were taken for; a cell holds the part of its row, in per cent."""
    counts = np.asarray(confusion, dtype=float)
    part = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    side = 3.0 + 0.45 * len(classes)
    figure = Figure(figsize=(side + 1, side), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(part, cmap="cividis", vmin=0, vmax=100)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if len(classes) <= 20:
        for i, j in np.argwhere(part >= 1):
            colour = "black" if part[i, j] > 60 else "white"
            axes.text(j, i, f"{part[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=9)
    figure.colorbar(image, label="part of the true class, %", shrink=0.8)
    return figure


def accuracy_curves(axes: Axes, histories: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Validation accuracy after every epoch, a line for each network."""
    for colour, marker, (name, history) in zip(COLOURS, "osD^v<>", histories.items(), strict=False):
        epochs, accuracy = [row["epoch"] for row in history], [100 * row["val_accuracy"] for row in history]
        axes.plot(epochs, accuracy, color=colour, marker=marker, label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()


def weight_over_image(axes: Axes, image: Tensor, weight: Tensor, title: str) -> None:
    """One grey image (H, W) with its weight map (h, w) over it: yellow where the pool looks, blue where it does not."""
    height, width = image.shape
    axes.imshow(image, cmap="gray")
    axes.imshow(weight, cmap="cividis", alpha=0.55, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def memory_figure(profiles: Sequence[Profile]) -> Figure:
    """Bytes that are live at each operation, stacked by tensor, networks beside each other; the peak's are coloured."""
    figure = Figure(figsize=(2 + 6 * len(profiles), 6), dpi=120, layout="constrained")
    plots = figure.subplots(1, len(profiles), sharey=True, squeeze=False)[0]
    for axes, profile in zip(plots, profiles, strict=True):
        _memory_over_time(axes, profile)
    plots[0].set_ylabel(f"live activations, {_unit(profiles)[1]} ({profiles[0].dtype}, batch {profiles[0].batch})")
    plots[0].yaxis.set_major_formatter(lambda value, _: f"{value / _unit(profiles)[0]:g}")
    return figure


def front_figure(found: Sequence[Candidate], front: Sequence[Candidate], budget: Budget) -> Figure:
    """Operations over memory of all candidates, those of the front in the colour of their method, sized by weights."""
    figure = Figure(figsize=(9, 6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    memory = [budget.memory(c) / 1e3 for c in found]
    axes.scatter(memory, [c.macs / 1e6 for c in found], 4, "#d0d0d0", label="all candidates")
    methods = dict.fromkeys(c.spec.pool.method for c in front)
    most = max(c.params for c in front)
    for colour, marker, method in zip(cycle(COLOURS), cycle("osD^v<>PX"), methods, strict=False):
        own = [c for c in front if c.spec.pool.method == method]
        sizes = [10 + 70 * c.params / most for c in own]
        points = [budget.memory(c) / 1e3 for c in own], [c.macs / 1e6 for c in own], sizes
        label = f"{method}, on the front"
        axes.scatter(*points, colour, marker=marker, label=label, edgecolors="white", linewidths=0.5)
    axes.axvline(budget.ram / 1e3, color="black", linestyle="--", label=f"budget, {budget.ram / 1e3:g} kB")
    axes.set_xscale("log")
    axes.set_yscale("log")
    what = "arena of TensorFlow Lite Micro" if budget.runtime == "micro" else "peak of activations"
    axes.set_xlabel(f"{what}, kB (int8)")
    axes.set_ylabel("multiply-accumulates, millions")
    axes.set_title("Networks in whose memory no other does as many operations; size of a point: weights", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _memory_over_time(axes: Axes, profile: Profile) -> None:
    graph, itemsize = profile.graph, ITEMSIZE[profile.dtype]
    live = live_bytes(graph, itemsize)
    at, steps = peak_step(graph, itemsize), np.arange(len(live) + 1)
    base = np.zeros(len(live))
    held = sorted(live_at(graph, at), key=lambda b: -graph.buffers[b].bytes(itemsize))
    names = {b: f"{graph.buffers[b].layer} {shape_text(graph.buffers[b].shape, profile.batch)}" for b in held}
    colours = dict(zip(dict.fromkeys(names.values()), COLOURS, strict=False))
    unnamed = set(colours)
    for b, (first, last) in sorted(lifetimes(graph).items(), key=lambda item: item[1]):
        height = np.zeros(len(live))
        height[first : last + 1] = graph.buffers[b].bytes(itemsize)
        name = names.get(b, "")
        colour = colours.get(name, "#909090" if name else ("#c8c8c8", "#dedede")[b % 2])
        label = name if name in unnamed else None
        unnamed.discard(name)
        axes.stairs(base + height, steps, baseline=base, fill=True, color=colour, linewidth=0, label=label)
        base += height
    axes.plot(at + 0.5, live[at], "kv", markersize=7)
    text, side = f" {profile.memory.peak:,} B at {profile.peak_layer} ", "left" if at < len(live) / 2 else "right"
    axes.annotate(text, (at + 0.5, live[at]), xytext=(0, 8), textcoords="offset points", ha=side, fontsize=9)
    axes.set_title(f"{profile.name}, {shape_text(profile.input_size)}", fontsize=10)
    axes.set_xlabel("operation, in the order they run")
    axes.set_xlim(0, len(live))
    axes.margins(y=0.12)
    more = " (the largest)" if len(set(names.values())) > len(colours) else ""
    axes.legend(title=f"live at the peak{more}", fontsize=8, loc="center right")


def shape_text(shape: Sequence[int], batch: int | None = None) -> str:
    """E.g. 3x224x224; of a map without its batch of one."""
    return "x".join(map(str, shape[1:] if len(shape) == 4 and shape[0] == batch == 1 else shape))


def _unit(profiles: Sequence[Profile]) -> tuple[float, str]:
    most = max(profile.memory.peak for profile in profiles)
    return (1e6, "MB") if most >= 1e6 else (1e3, "kB")
