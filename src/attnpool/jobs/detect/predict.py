"""`attnpool detect predict`: what is where in images, drawn and written."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import rich
import torch
from rich.markup import escape
from rich.progress import track
from rich.table import Column, Table
from torchvision.transforms import v2

from attnpool.data.images import read_image
from attnpool.jobs._checkpoint import load_detector
from attnpool.jobs._write import make_folder, write_whole
from attnpool.jobs.detect._figure import detection_figure


@dataclass(frozen=True)
class Found:
    """One object.

    Args:
        label: Name of its kind.
        score: How sure, 0 to 1.
        box: Left, top, right and bottom edge in pixels of the image as it is shown, upright.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Detections:
    """What was found in each image, the surest first; also in `detections.json` of the output folder.

    Args:
        output: Folder with the JSON and a picture of each image.
        images: File to what is in it.
    """

    output: str
    images: dict[str, list[Found]]

    def __rich__(self) -> Table:
        table = Table(Column("image", overflow="fold"), "object", "score", "left, top, right, bottom")
        for image, objects in self.images.items():
            for i, found in enumerate(objects):
                box = ", ".join(f"{edge:.0f}" for edge in found.box)
                table.add_row(escape(image) if i == 0 else "", escape(found.label), f"{found.score:.2f}", box)
            if not objects:
                table.add_row(escape(image), "nothing", "", "")
            table.add_section()
        table.caption = f"pictures and detections.json are in {escape(self.output)}"
        return table


def predict(
    checkpoint: str,
    images: list[str],
    *,
    output: str | None = None,
    threshold: float = 0.5,
    progress: bool = True,
) -> Detections:
    """Find the objects in images; draw them with names and scores, and write `detections.json`.

    Args:
        checkpoint: Folder of the checkpoint.
        images: Image files of any kind that Pillow reads; photographs are turned upright as their EXIF says.
        output: Folder for the pictures and the JSON; by default `predictions` in the checkpoint's.
        threshold: Lowest score that counts, 0 to 1.
        progress: Show a progress bar.

    Raises:
        CheckpointError: for a checkpoint that cannot be read, or that is of no detector.
        DataError: for a file that is not an image, named.
        ValueError: if `threshold` is not within 0 and 1, or the output cannot be a folder.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold has to be from 0 to 1, but got {threshold}")
    model = load_detector(checkpoint)
    classes = model.description.classes
    for path in images:
        read_image(path, upright=True)  # before anything is written
    folder = make_folder(output or Path(checkpoint) / "predictions")
    for earlier in folder.glob("[0-9][0-9][0-9][0-9]-*.png"):
        earlier.unlink()
    found: dict[str, list[Found]] = {}
    terminal = rich.console.Console(stderr=True)
    for number, path in enumerate(track(images, "finding objects", console=terminal, disable=not progress)):
        image = v2.functional.to_image(read_image(path, upright=True))
        with torch.inference_mode():
            (seen,) = model([v2.functional.to_dtype(image, torch.float32, scale=True)])
        found[str(path)] = _objects(seen, classes, threshold)
        picture = detection_figure(
            image, [(o.box, f"{o.label} {o.score:.2f}", o.label) for o in found[str(path)]], classes
        )
        picture.savefig(folder / f"{number:04d}-{Path(path).stem}.png")
    result = Detections(str(folder), found)
    values: dict[str, Any] = asdict(result)
    write_whole(folder / "detections.json", json.dumps(values["images"], indent=2) + "\n")
    return result


def _objects(seen: dict[str, Any], classes: tuple[str, ...], threshold: float) -> list[Found]:
    rows = zip(seen["labels"].tolist(), seen["scores"].tolist(), seen["boxes"].tolist(), strict=True)
    sure = [Found(classes[label - 1], score, tuple(box)) for label, score, box in rows if score >= threshold]
    return sorted(sure, key=lambda found: -found.score)
