"""`attnpool detect anchors`: box shapes for a detector, fitted to the boxes of a data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.markup import escape
from rich.table import Table

from attnpool.detection.data.source import open_boxes
from attnpool.jobs.detect._data import COUNTS, check_count, classes_of, fitted, write_anchors


@dataclass(frozen=True)
class FittedAnchors:
    """What `detect anchors` found.

    Args:
        output: The file, for `detect train --anchors`.
        anchors: (width, height) in pixels at the size of the images, the smallest first.
        mean_iou: Mean over the boxes of the overlap with the anchor that fits best, 0 to 1.
    """

    output: str
    anchors: tuple[tuple[float, float], ...]
    mean_iou: float

    def __rich__(self) -> Table:
        table = Table("width", "height", title="anchors, in pixels")
        for width, height in self.anchors:
            table.add_row(f"{width:.1f}", f"{height:.1f}")
        table.caption = f"mean overlap with the best one: {self.mean_iou:.3f}; written to {escape(self.output)}"
        return table


def anchors(
    data: str,
    *,
    detector: Literal["yolov3", "ssd", "ssdlite"] = "yolov3",
    image_size: list[int] = [320],  # noqa: B006 - read only; the command line shows it
    classes: list[str] = [],  # noqa: B006
    count: int | None = None,
    seed: int = 0,
    output: str = "anchors.json",
    overwrite: bool = False,
) -> FittedAnchors:
    """Fit anchors to the boxes of training data: k-means on their shapes, with 1 - overlap as the distance.

    Args:
        data: Images with boxes, as in training.
        detector: For which.
        image_size: What images are resized to, in pixels: one side, or height and width.
        classes: Kinds of objects that count, as in training; by default all.
        count: How many; by default 9 for yolov3, 30 for ssd and 36 for ssdlite.
        seed: Of the first guess.
        output: JSON file.
        overwrite: Replace the file.

    Raises:
        DataError: for data that cannot be used, or has too few different boxes.
        ValueError: for an argument that breaks its rule.
        FileExistsError: if the file is there and `overwrite` is false.
    """
    file = Path(output)
    if file.exists() and not overwrite:
        raise FileExistsError(f"output has to be a new file, but {file} exists; or say --overwrite")
    if len(image_size) not in (1, 2) or min(image_size) < 1:
        raise ValueError(f"image_size has to be one positive number or two, but got {image_size}")
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise ValueError(f"output has to be a file in a folder that exists, but got {output!r}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed has to be at least 0 and below 2^63, but got {seed}")
    number = check_count(detector, COUNTS[detector] if count is None else count)
    size = (image_size[0], image_size[-1])
    found = fitted(open_boxes(data, classes=classes_of(classes)), size, number, seed)
    write_anchors(file, found.shapes, size, mean_iou=found.mean_iou, data=data)
    return FittedAnchors(str(file), found.shapes, found.mean_iou)
