"""A map as colours: over the image where the panel says so, every position a rectangle of its own."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize, TwoSlopeNorm
from PIL import Image

from attnpool.visualise._frame import Frame
from attnpool.visualise.panels import Box, Panel

LEAST = 192
"""Fewest pixels of the shorter side of what is painted, so that the edges of coarse maps lie where they should."""


def paint(panel: Panel, image: Any, frame: Frame) -> Any:
    """The panel's colours on the part of the frame that shows the image: (H', W', 3), 0 to 1.

    Args:
        panel: What to paint.
        image: (H, W, 3), 0 to 1; any size of the proportions of `frame.shown`.
        frame: What the values are of, and the part that the image fills.
    """
    height, width = frame.shown
    times = -(-LEAST // min(height, width))
    values = panel.values
    whole = frame.size if values.shape != frame.shown else frame.shown  # class activation is of the image alone
    rows, columns = (
        (np.arange(times * shown) + 0.5) / (times * of) * count
        for shown, of, count in zip(frame.shown, whole, values.shape, strict=True)
    )
    values = values[rows.astype(int)][:, columns.astype(int)]
    norm = _norm(panel)
    colours = colormaps[panel.colours](norm(values))[..., :3]
    if not panel.over_image:
        return colours
    grey = Image.fromarray((np.asarray(image).mean(-1) * 255).round().astype(np.uint8))
    under = np.asarray(grey.resize((times * width, times * height), Image.Resampling.BOX))[..., None] / 255
    opacity: Any = 0.7
    if panel.colours == "viridis":  # where nothing is looked at, the image shows through
        opacity = 0.45 + 0.4 * np.clip(norm(values), 0, 1)[..., None]
    return opacity * colours + (1 - opacity) * under


def _norm(panel: Panel) -> Normalize:
    """What takes values to 0..1, places of the colour map."""
    if panel.middle is None:
        return Normalize(panel.low, panel.high)
    return TwoSlopeNorm(panel.middle, panel.low, panel.high)


def shown_part(mark: Box, frame: Frame) -> Box:
    """Edges in parts of the whole frame, as parts of what the image fills."""
    across, down = (of / shown for of, shown in zip(frame.size[::-1], frame.shown[::-1], strict=True))
    left, top, right, bottom = mark
    return left * across, top * down, right * across, bottom * down
