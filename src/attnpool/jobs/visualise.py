"""`attnpool visualise`: pictures of what a network looks at, and the numbers behind them."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rich
from rich.markup import escape
from rich.progress import track
from rich.table import Column, Table

from attnpool.data.images import read_image
from attnpool.export.files import ENDINGS
from attnpool.jobs._answer import Answer, answer
from attnpool.jobs._checkpoint import load_either
from attnpool.jobs._write import make_folder, write_whole
from attnpool.models.checkpoint import CheckpointError
from attnpool.registry import did_you_mean
from attnpool.visualise.attention_maps import check_query
from attnpool.visualise.class_activation import METHODS, need_grad_cam
from attnpool.visualise.explained import Explained, explain
from attnpool.visualise.figures import Shown, explained_figure
from attnpool.visualise.panels import activation_section


@dataclass(frozen=True)
class Visualised:
    """What was drawn.

    Args:
        output: Folder of the pictures and arrays.
        images: File to what the network says of it, and the path of its picture; the arrays are beside it, in .npz.
    """

    output: str
    images: dict[str, tuple[str, str]]

    def __rich__(self) -> Table:
        table = Table(Column("image", overflow="fold"), "the network says", Column("picture", overflow="fold"))
        for image, (said, picture) in self.images.items():
            table.add_row(escape(image), escape(said), escape(picture))
        table.caption = "the arrays of each picture are beside it, in .npz"
        return table


def visualise(
    checkpoint: str,
    images: list[str],
    *,
    output: str | None = None,
    query: str = "0.5,0.5",
    channels: str | None = None,
    cam: list[str] = ["gradcam", "gradcam++", "layercam"],  # noqa: B006
    target: str | None = None,
    cam_layer: str | None = None,
    threshold: float = 0.5,
    overwrite: bool = False,
    progress: bool = True,
) -> Visualised:
    """Draw what a network looks at in images: weights of its pools, attention, what is lost, class activation.

    Of each image a picture and its arrays are written: NAME.png and NAME.npz. The network is that of a classifier or a
    detector; class activation needs pip install attnpool[visualise].

    Args:
        checkpoint: Folder of the checkpoint.
        images: Image files of any kind that Pillow reads; photographs are turned upright as their EXIF says.
        output: Folder for the pictures and arrays; by default `pictures` in the checkpoint's.
        query: Place whose attention is shown, x,y as parts of the width and height, 0 to 1.
        channels: Numbers of channels whose weights are shown, e.g. 0,3; by default the one that varies most.
        cam: Methods of class activation: gradcam, gradcam++, hirescam, xgradcam, layercam, gradcamelementwise,
            eigencam, eigengradcam; or none.
        target: Class to explain beside the predicted one: its name or its number, from 0.
        cam_layer: Path of the layer whose map class activation looks at; by default the last stage with a map of 4 x 4
            or more, of a detector all stages that its head looks at.
        threshold: Lowest score of a detector's box that counts, 0 to 1.
        overwrite: Replace files that are there.
        progress: Show a progress bar.

    Raises:
        CheckpointError: for a checkpoint that cannot be read.
        DataError: for a file that is not an image, named.
        ValueError: for an argument that breaks its rule.
        FileExistsError: if a file is there, and `overwrite` is false.
        ImportError: if class activation is asked for and grad-cam is not installed.
    """
    place, methods, shown = parse_query(query), _methods(cam), parse_channels(channels)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold has to be from 0 to 1, but got {threshold}")
    if Path(checkpoint).suffix in ENDINGS:
        raise CheckpointError(f"checkpoint has to be a folder, but {checkpoint} is an export, whose layers nobody sees")
    model = load_either(checkpoint)
    asked = None if target is None else parse_target(target, model.description.classes)
    for path in images:
        read_image(path, upright=True)  # before anything is written
    folder = Path(output or Path(checkpoint) / "pictures")
    names = _names(images)
    _refuse_overwriting(folder, names, images, overwrite)
    made = {}
    terminal = rich.console.Console(stderr=True)
    for path, name in track([*zip(images, names, strict=True)], "drawing", console=terminal, disable=not progress):
        said = answer(model, read_image(path, upright=True), threshold)
        wanted = [c for c in dict.fromkeys((said.likeliest, asked)) if c is not None and c in said.explainable]
        found = explain(
            model,
            said.x,
            query=place,
            methods=methods,
            targets=wanted,
            layers=() if cam_layer is None else (cam_layer,),
            threshold=threshold,
        )
        _check_channels(shown, found)
        picture = _draw(model, said, found, Path(path).name, shown, asked, bool(methods))
        make_folder(folder)
        _write(folder, name, picture, {**said.arrays, **found.arrays()})
        made[str(path)] = (said.title, str(folder / f"{name}.png"))
    return Visualised(str(folder), made)


def parse_query(query: str) -> tuple[float, float]:
    """x and y of "0.5,0.3"; `ValueError` for anything else."""
    try:
        x, y = (float(part) for part in query.split(","))
    except ValueError:
        raise ValueError(f"query has to be x,y as parts of the image from 0 to 1, but got {query!r}") from None
    check_query((x, y))
    return x, y


def parse_channels(channels: str | None) -> list[int] | None:
    """Numbers of "0,3"; `ValueError` for anything else."""
    if channels is None:
        return None
    parts = channels.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"channels has to be numbers from 0 with commas between them, but got {channels!r}")
    return list(dict.fromkeys(map(int, parts)))


def parse_target(target: str, classes: Sequence[str]) -> int:
    """The class of a name or a number; `ValueError` for one that is not there."""
    if target in classes:
        return list(classes).index(target)
    if target.isdecimal() and int(target) < len(classes):
        return int(target)
    near = did_you_mean(target, classes)
    raise ValueError(f"target has to be a class or its number, 0 to {len(classes) - 1}{near}, but got {target!r}")


def _methods(cam: Sequence[str]) -> list[str]:
    """The methods of class activation, once each."""
    if [*cam] == ["none"]:
        return []
    for name in cam:
        if name not in METHODS:
            near = did_you_mean(name, [*METHODS, "none"])
            raise ValueError(f"cam has to be some of {', '.join(METHODS)}, or none alone{near}, but got {name!r}")
    if cam:
        need_grad_cam()
    return list(dict.fromkeys(cam))


def _check_channels(channels: Sequence[int] | None, found: Explained) -> None:
    """Refuse channels that no pool with weights has."""
    most = max((w.weight.shape[1] for w in found.weights.values()), default=0)
    beyond = [channel for channel in channels or () if channel >= most]
    if beyond and not most:
        raise ValueError(f"channels has to be left out where no pool has weights, but got {beyond[0]}")
    if beyond:
        raise ValueError(f"channels has to be numbers from 0 to {most - 1}, but got {beyond[0]}")


def _names(images: Sequence[str]) -> list[str]:
    """What the files of each image are called: as the image, with its number in front where several have one name."""
    stems = [Path(path).stem for path in images]
    often = Counter(stems)
    return [stem if often[stem] == 1 else f"{number:04d}-{stem}" for number, stem in enumerate(stems)]


def _refuse_overwriting(folder: Path, names: Sequence[str], images: Sequence[str], overwrite: bool) -> None:
    """Refuse to write over the images, and over anything else unless it is to be replaced."""
    there = [f"{name}.{kind}" for name in names for kind in ("png", "npz") if (folder / f"{name}.{kind}").exists()]
    for image in images:
        if any((folder / name).samefile(image) for name in there):
            raise ValueError(f"output has to be another folder than that of {image}, which is an image to look at")
    if there and not overwrite:
        raise FileExistsError(f"output has to be a folder without {there[0]}, but {folder} has it; or say --overwrite")


def _draw(
    model: Any,
    said: Answer,
    found: Explained,
    name: str,
    channels: Sequence[int] | None,
    asked: int | None,
    activates: bool,
) -> Any:
    """The figure."""
    classes = model.description.classes
    missing = "nothing is found" if said.likeliest is None else None
    if missing is None and asked is not None and asked not in said.explainable:
        missing = f"no {classes[asked]} is found"
    sections = found.pool_sections(channels)
    if activates:
        sections.insert(0, activation_section(found.activations, classes, said.likeliest, missing or ""))
    title, number = f"{name}: {said.title}", "{:.1%}" if said.boxes is None else "{:.2f}"
    head = Shown(said.image, found.frame, title, str(model.spec), said.measure, number, said.said, said.boxes)
    return explained_figure(head, sections)


def _write(folder: Path, name: str, picture: Any, arrays: dict[str, Any]) -> None:
    """The picture and its arrays, each in one move."""
    drawn, packed = io.BytesIO(), io.BytesIO()
    picture.savefig(drawn, format="png")
    np.savez_compressed(packed, allow_pickle=False, **arrays)
    write_whole(folder / f"{name}.png", drawn.getvalue())
    write_whole(folder / f"{name}.npz", packed.getvalue())
