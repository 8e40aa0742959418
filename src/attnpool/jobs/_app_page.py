"""The page of the app: an image on top, below it what one network or two say of it, and how to read the maps."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from html import escape
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
        options = [place, method, target, threshold]
        networks, shown = ([pair[part] for pair in sides] for part in (0, 1))
        look: dict[str, Any] = {
            "trigger_mode": "always_last",
            "api_visibility": "private",
            "concurrency_id": "networks",
            "concurrency_limit": 1,
        }
        # One call an event: of two, each repeats the other without end where a third event comes in between.
        everything = {"fn": partial(_look_all, models), "inputs": [file, *options, *networks], "outputs": shown, **look}
        changes = [file.change, place.submit, method.change, target.change, threshold.release]
        gr.on(changes, **everything)
        clicks = [side.click for side in shown]
        moved = gr.on(clicks, _move, None, place, api_visibility="private", show_progress="hidden")
        moved.then(**everything)
        for network, side in sides:
            network.change(partial(_look, models), [file, *options, network], side, **look)
    return page


def _side(number: int, names: Sequence[str]) -> tuple[Any, Any]:
    """A network to choose, and its view."""
    with gr.Column(min_width=360):
        label, choices = ("Network to compare", [*names, NONE]) if number else ("Network", [*names])
        network = gr.Dropdown(choices, value=names[number], label=label, elem_id=f"network{number}")
        style, code = ((PAGE / name).read_text(encoding="utf-8") for name in ("view.css", "clicks.js"))
        shown = gr.HTML(EMPTY, css_template=style, js_on_load=code, elem_id=f"view{number}")
    return network, shown


def _look_all(
    models: Mapping[str, Any], file: str | None, place: str, method: str, target: str, threshold: float, *names: str
) -> Iterator[list[Any]]:
    """The views of the networks, each as soon as it is there."""
    views: list[Any] = [gr.skip() for _ in names]
    for side, name in enumerate(names):
        views[side] = _look(models, file, place, method, target, threshold, name)
        yield views


def _look(
    models: Mapping[str, Any], file: str | None, place: str, method: str, target: str, threshold: float, name: str
) -> str:
    """The view of a network; mistakes are said in its place: an error would end what waits behind it, too."""
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
        return f"<p role='alert'>{escape(str(error))}</p>"


def _move(event: gr.EventData) -> str:
    """The place that was clicked."""
    return f"{event.x:.3f},{event.y:.3f}"
