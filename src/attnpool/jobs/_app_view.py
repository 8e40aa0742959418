"""What the app shows of one image in one network, as HTML: what it says, and every map."""

import io
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image

from attnpool.colours import COLOURS
from attnpool.jobs._answer import answer
from attnpool.jobs._app_upload import read_upload
from attnpool.jobs._html import template
from attnpool.visualise._frame import Frame
from attnpool.visualise.explained import explain
from attnpool.visualise.figures import digits
from attnpool.visualise.painting import paint, shown_part
from attnpool.visualise.panels import Box, Panel, Section, activation_section

PAGE = Path(__file__).parent / "app_page"
STOPS = np.linspace(0, 1, 9)
"""Places of a colour bar whose colours are told to the browser, which mixes those between."""


def view(
    model: Any, file: str, *, query: tuple[float, float], method: str = "", target: str = "", threshold: float = 0.5
) -> str:
    """The view; what comes from a checkpoint or a file is escaped.

    Args:
        model: Of a checkpoint.
        file: Of the image; turned upright as its EXIF says.
        query: Place whose attention is shown, (x, y), from 0 to 1.
        method: Of class activation; "" for none.
        target: Name of the class that is explained; "" for the one that the network says.
        threshold: Lowest score of a detector's box.

    Raises:
        DataError: for a file that is not an image, or too large a one.
    """
    said = answer(model, read_upload(file), threshold)
    classes = model.description.classes
    explained, missing = _explained(said, list(classes), target)
    found = explain(
        model,
        said.x,
        query=query,
        methods=[method] * bool(method),
        targets=[] if explained is None else [explained],
        threshold=threshold,
    )
    sections = found.pool_sections(None)
    if method:
        sections.insert(0, activation_section(found.activations, classes, said.likeliest, missing))
    height, width = np.asarray(said.image).shape[:2]
    return template(PAGE / "view.html").render(
        title=said.title,
        network=str(model.spec),
        measure=said.measure,
        said=[(name, value, f"{value:.1%}" if said.boxes is None else f"{value:.2f}") for name, value in said.said],
        image=_png(said.image),
        proportions=f"{found.frame.shown[1]} / {found.frame.shown[0]}",
        boxes=[
            (_place((left / width, top / height, right / width, below / height)), text, COLOURS[kind % len(COLOURS)])
            for (left, top, right, below), text, kind in said.boxes or ()
        ],
        query=f"left: {query[0]:.2%}; top: {query[1]:.2%}",
        sections=[_section(section, said.image, found.frame) for section in sections],
    )


def _explained(said: Any, classes: Sequence[str], target: str) -> tuple[int | None, str]:
    """The class to explain; or None, and why there is none."""
    if not target:
        return said.likeliest, "" if said.likeliest is not None else "nothing is found"
    if target not in classes:
        return None, f"this network has no class {target}"
    wanted = classes.index(target)
    return (wanted, "") if wanted in said.explainable else (None, f"no {target} is found")


def _section(section: Section, image: Any, frame: Frame) -> dict[str, Any]:
    maps = [_map(panel, image, frame) for panel in section.panels]
    return {"name": section.name, "note": section.note, "maps": maps}


def _map(panel: Panel, image: Any, frame: Frame) -> dict[str, Any]:
    first, _, second = panel.title.partition("\n")
    return {
        "first": first,
        "second": second,
        "image": _png(paint(panel, image, frame)),
        "mark": None if panel.mark is None else _place(shown_part(panel.mark, frame)),
        "colours": ", ".join(map(to_hex, colormaps[panel.colours](STOPS))),
        "low": digits(panel.low),
        "high": digits(panel.high),
        "unit": panel.unit,
    }


def _place(edges: Box) -> str:
    """Where a rectangle lies, as style."""
    left, top, right, bottom = edges
    return f"left: {left:.2%}; top: {top:.2%}; width: {right - left:.2%}; height: {bottom - top:.2%}"


def _png(pixels: Any) -> str:
    """An address that holds the picture, (H, W, 3) from 0 to 1."""
    packed = io.BytesIO()
    Image.fromarray((np.asarray(pixels) * 255).round().astype(np.uint8)).save(packed, format="png")
    return "data:image/png;base64," + b64encode(packed.getvalue()).decode()
