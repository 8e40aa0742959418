"""A picture of boxes on an image."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from attnpool.colours import COLOURS

Box = tuple[float, float, float, float]


def detection_figure(image: Tensor, boxes: Sequence[tuple[Box, str, str]], kinds: Sequence[str]) -> Figure:
    """The image with boxes.

    Args:
        image: (3, H, W), 0 to 255.
        boxes: Edges in pixels, what is written at the box, and the kind.
        kinds: All that there are: each has a colour, the same in every picture.
    """
    height, width = image.shape[-2:]
    side = 8.0 / max(height, width)
    figure = Figure(figsize=(max(2.0, width * side), max(2.0, height * side)), dpi=120)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image.permute(1, 2, 0).numpy())
    axes.set_axis_off()
    colours = {kind: COLOURS[i % len(COLOURS)] for i, kind in enumerate(kinds)}
    for (left, top, right, bottom), text, kind in boxes:
        colour = colours[kind]
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=2))
        if text:
            label = {"facecolor": colour, "edgecolor": "none", "pad": 1.5, "alpha": 0.85}
            place = "top" if top * side < 0.2 else "bottom"  # in inches: inside the box where there is no room above it
            axes.text(left, top, text, color="white", fontsize=8, va=place, bbox=label, clip_on=True, parse_math=False)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    return figure
