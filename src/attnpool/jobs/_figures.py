"""Pictures that the jobs write: confusion matrix, accuracy curves, weight maps; colours safe for the colour-blind."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, "Color Universal Design", 2008."""


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
