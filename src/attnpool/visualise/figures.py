"""One picture of one image: what the network says of it, and below it sections of panels; sizes are in inches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attnpool.colours import COLOURS
from attnpool.visualise._frame import Frame
from attnpool.visualise.painting import paint, shown_part
from attnpool.visualise.panels import Box, Panel, Section, shortened

COLUMNS, CELL, GAP, MARGIN = 6, 1.8, 0.24, 0.25
TITLE, BAR, HEADING = 0.42, 0.5, 0.44
"""Heights of what is above a panel, below it, and above the panels of a section."""
TITLES, TALLEST = 0.62, 2.6
"""Height of the title of the picture, and most of a panel's image."""
READING = (
    ("Class activation", "where the evidence for a class lies: yellow"),
    ("kept, lost", "the map after the pool, and what it lacks", "of the map before it; light is much"),
    ("weights", "w of each place; yellow is high"),
    ("counts", "weight within its window: violet counts", "more than in average pooling, brown less"),
    ("attention", "how much the framed place attends to", "each place; yellow is much"),
)
"""How to read the panels."""


@dataclass(frozen=True)
class Shown:
    """The image as it is shown, and what the network says of it.

    Args:
        image: (H, W, 3), 0 to 1.
        frame: Of what the layers get, and the part of it that the image fills.
        title: Of the picture: the file, and what the network says in short.
        network: What it is.
        measure: What the numbers are of what is said: probability, or score.
        number: How they are written, e.g. "{:.2f}".
        said: What the network says, (name, probability or score), the surest first.
        boxes: Of a detector: edges in pixels of `image`, text, and number of the kind.
    """

    image: Any
    frame: Frame
    title: str
    network: str
    measure: str
    number: str
    said: Sequence[tuple[str, float]]
    boxes: Sequence[tuple[Box, str, int]] | None = None


def explained_figure(shown: Shown, sections: Sequence[Section]) -> Figure:
    """The image with what the network says, then a block of panels for each section."""
    height, width = shown.frame.shown
    side, tall = _fit(CELL, TALLEST, width / height)
    large = _fit(2 * CELL + GAP, 2 * TALLEST, width / height)
    lines = [-(-len(section.panels) // COLUMNS) for section in sections]
    reading = _reading(sections)
    line = TITLE + tall + BAR
    top = TITLES + max(
        large[1] + 0.2, 0.165 * sum(map(len, reading)) + 0.1 * len(reading), 0.42 * len(shown.said) + 0.4
    )
    inches = (2 * MARGIN + COLUMNS * (CELL + GAP) - GAP, 2 * MARGIN + top + sum(HEADING + n * line for n in lines))
    figure = Figure(figsize=inches, dpi=100)
    page = _Page(figure, inches)
    page.text(MARGIN, MARGIN, shortened(shown.title, 100), 13, "bold")
    page.text(MARGIN, MARGIN + 0.26, shown.network, 10)
    _head(page, shown, reading, *large)
    y = MARGIN + top
    for section, count in zip(sections, lines, strict=True):
        page.rule(y + 0.02)
        page.text(MARGIN, y + 0.12, section.name, 11, "bold", after=section.note)
        for i, panel in enumerate(section.panels):
            place = (MARGIN + i % COLUMNS * (CELL + GAP), y + HEADING + i // COLUMNS * line)
            _panel(page, panel, shown, place, (side, tall))
        y += HEADING + count * line
    return figure


def _reading(sections: Sequence[Section]) -> list[tuple[str, ...]]:
    """How to read the panels that there are."""
    there = {panel.title.partition("\n")[0] for section in sections for panel in section.panels}
    there |= {section.name for section in sections if section.panels}
    return [words for words in READING if there & {*words[0].split(", ")}]


def _fit(widest: float, tallest: float, proportions: float) -> tuple[float, float]:
    """Width and height with these proportions, neither larger than it may be."""
    width = min(widest, tallest * proportions)
    return width, width / proportions


class _Page:
    """A figure whose places are inches from its upper left corner."""

    def __init__(self, figure: Figure, inches: tuple[float, float]) -> None:
        self.figure, self.inches = figure, inches

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        across, down = self.inches
        return self.figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))

    def text(
        self,
        left: float,
        top: float,
        text: str,
        size: float,
        weight: str = "normal",
        *,
        after: str = "",
        align: str = "left",
        colour: str = "black",
    ) -> None:
        """A line, its upper edge at `top`; `after` it, in grey, more."""
        across, down = self.inches
        place = (left / across, 1 - top / down)
        look: Any = {"fontsize": size, "fontweight": weight, "ha": align, "color": colour}
        said = self.figure.text(*place, text, va="top", parse_math=False, **look)
        if after:
            end = said.get_window_extent().x1 / self.figure.dpi + 0.12
            self.figure.text(
                end / across, place[1] - 0.012 / down, after, fontsize=size - 1.5, va="top", color="#444444"
            )

    def rule(self, top: float) -> None:
        across, down = self.inches
        line = Rectangle((MARGIN / across, 1 - top / down), 1 - 2 * MARGIN / across, 0.01 / down, color="#999999")
        self.figure.add_artist(line)


def _head(page: _Page, shown: Shown, reading: Sequence[Sequence[str]], side: float, tall: float) -> None:
    """The image, twice as large as a panel; bars of what the network says; and how to read the panels."""
    top = MARGIN + TITLES
    axes = page.axes(MARGIN, top, side, tall)
    axes.imshow(shown.image, interpolation="nearest")
    axes.set_axis_off()
    for (left, above, right, below), text, kind in shown.boxes or ():
        colour = COLOURS[kind % len(COLOURS)]
        axes.add_patch(Rectangle((left, above), right - left, below - above, fill=False, edgecolor=colour, linewidth=2))
        label = {"facecolor": colour, "edgecolor": "none", "pad": 1.5, "alpha": 0.85}
        place = "top" if above * tall < 0.2 * len(shown.image) else "bottom"  # inside where there is no room above
        axes.text(left, above, text, color="white", fontsize=8, va=place, bbox=label, clip_on=True, parse_math=False)
    middle = MARGIN + 2 * (CELL + GAP)
    if shown.said:
        _bars(page, shown, middle + 0.05, top)
    for words in reading:
        for line, weight in zip(words, ("bold", *["normal"] * len(words)), strict=False):
            page.text(MARGIN + 4 * (CELL + GAP), top, line, 9, weight)
            top += 0.165
        top += 0.1


def _bars(page: _Page, shown: Shown, left: float, top: float) -> None:
    """A bar for each thing that the network says, under its name."""
    page.text(left, top, shown.measure, 9, "bold")
    count = len(shown.said)
    bars = page.axes(left, top + 0.2, 2 * CELL - 0.1, 0.42 * count)
    for i, (name, value) in enumerate(shown.said):
        bars.barh(i, 1, color="#e8e8e8", height=0.35)
        bars.barh(i, value, color=COLOURS[0], height=0.35)
        bars.text(0, i - 0.24, shortened(name, 28), va="bottom", fontsize=9, parse_math=False)
        bars.text(1, i - 0.24, shown.number.format(value), va="bottom", ha="right", fontsize=9)
    bars.set_xlim(0, 1)
    bars.set_ylim(count - 0.7, -0.75)
    bars.set_axis_off()


def _panel(page: _Page, panel: Panel, shown: Shown, place: tuple[float, float], size: tuple[float, float]) -> None:
    (left, top), (side, tall) = place, size
    first, _, second = panel.title.partition("\n")
    page.text(left, top, first, 9.5, "bold")
    page.text(left, top + 0.175, second, 9)
    axes = page.axes(left, top + TITLE, side, tall)
    axes.imshow(paint(panel, shown.image, shown.frame), extent=(0, 1, 1, 0), aspect="auto", interpolation="nearest")
    if panel.mark:
        x0, y0, x1, y1 = shown_part(panel.mark, shown.frame)
        for colour, thickness in (("black", 3.0), ("white", 1.4)):
            box = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=thickness)
            axes.add_patch(box)
    axes.set_xlim(0, 1)
    axes.set_ylim(1, 0)
    axes.set_axis_off()
    _bar(page, panel, left, top + TITLE + tall + 0.05, CELL)


def _bar(page: _Page, panel: Panel, left: float, top: float, side: float) -> None:
    """The colours from low to high, and below them what they mean."""
    bar = page.axes(left, top, side, 0.09)
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=colormaps[panel.colours], aspect="auto")
    bar.set_axis_off()
    page.text(left, top + 0.115, digits(panel.low), 8)
    page.text(left + side, top + 0.115, digits(panel.high), 8, align="right")
    page.text(left + side / 2, top + 0.125, panel.unit, 7.5, align="center", colour="#444444")


def digits(value: float) -> str:
    """Three digits; one of a small number."""
    return f"{value:.3g}" if abs(value) >= 0.1 else f"{value:.1g}"
