"""The page of the app: an image on top, below it what one network or two say of it, and how to read the maps."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import gradio as gr

from attnpool.data.source import DataError
from attnpool.detection.spec import DetectionSpec
from attnpool.jobs._app_upload import ENDINGS
from attnpool.jobs._app_view import PAGE, view
from attnpool.jobs.visualise import parse_query
from attnpool.visualise.class_activation import METHODS
from attnpool.visualise.figures import READING

NONE, PREDICTED = "none", "the predicted one"
EMPTY = "<p class='note'>Drop an image in, and this is where the network says what it sees.</p>"


def make_page(models: Mapping[str, Any], max_upload: str) -> gr.Blocks:
    """The page, to launch or to put into an application of one's own.

    Args:
        models: Name to the network of a checkpoint; the first two are shown at first.
        max_upload: Size of the largest file, as the page says it; `launch` has to be told, too.

    Raises:
        ValueError: without a network.
    """
    if not models:
        raise ValueError("checkpoint has to be one or more folders, but got none")
    names = list(models)
    classes = dict.fromkeys(name for model in models.values() for name in model.description.classes)
    detects = any(isinstance(model.spec, DetectionSpec) for model in models.values())
    with gr.Blocks(analytics_enabled=False, title="attnpool app", fill_width=True) as page:
        gr.Markdown(
            "## What a network looks at\nDrop an image in; click it, or any map, to see what that place attends to."
        )
        with gr.Row():
            file = gr.File(label=f"Image, {max_upload} at most", file_types=[*ENDINGS], height=130, elem_id="upload")
            place = gr.Textbox("0.5,0.5", label="Place", info="x,y from 0 to 1; a click sets it", elem_id="place")
            method = gr.Dropdown([NONE, *METHODS], value="gradcam", label="Class activation", elem_id="method")
            target = gr.Dropdown([PREDICTED, *classes], value=PREDICTED, label="Class to explain", elem_id="target")
            threshold = gr.Slider(0, 1, 0.5, step=0.01, label="Lowest score of a box", visible=detects)
        with gr.Row(equal_height=False):
            sides = [_side(side, names) for side in range(len(names[:2]))]
        with gr.Accordion("How to read the maps", open=False):
            gr.Markdown("\n".join(f"- **{name}**: {' '.join(lines)}" for name, *lines in READING))
        look: dict[str, Any] = {
            "fn": partial(_look, models),
            "trigger_mode": "always_last",
            "api_visibility": "private",
        }
        look |= {"concurrency_id": "networks", "concurrency_limit": 1}
        changes = [file.change, place.submit, method.change, target.change, threshold.release]
        moves = [
            shown.click(_move, None, place, api_visibility="private", show_progress="hidden") for _, shown in sides
        ]
        for network, shown in sides:
            inputs = [network, file, place, method, target, threshold]
            gr.on([network.change, *changes], inputs=inputs, outputs=shown, **look)
            for move in moves:
                move.then(inputs=inputs, outputs=shown, **look)
    return page


def _side(number: int, names: Sequence[str]) -> tuple[Any, Any]:
    """A network to choose, and its view."""
    with gr.Column(min_width=360):
        label, choices = ("Network to compare", [*names, NONE]) if number else ("Network", [*names])
        network = gr.Dropdown(choices, value=names[number], label=label, elem_id=f"network{number}")
        style, code = ((PAGE / name).read_text(encoding="utf-8") for name in ("view.css", "clicks.js"))
        shown = gr.HTML(EMPTY, css_template=style, js_on_load=code, elem_id=f"view{number}")
    return network, shown


def _look(
    models: Mapping[str, Any],
    name: str,
    file: str | None,
    place: str,
    method: str,
    target: str,
    threshold: float,
) -> str:
    """The view of a network; mistakes are said on the page."""
    if file is None or name == NONE:
        return EMPTY if file is None else ""
    try:
        return view(
            models[name],
            file,
            query=parse_query(place),
            method="" if method == NONE else method,
            target="" if target == PREDICTED else target,
            threshold=threshold,
        )
    except (DataError, ValueError) as error:
        raise gr.Error(str(error), print_exception=False) from error


def _move(event: gr.EventData) -> str:
    """The place that was clicked."""
    return f"{event.x:.3f},{event.y:.3f}"
