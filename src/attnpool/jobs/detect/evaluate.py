"""`attnpool detect evaluate`: COCO's figures of a detector on images with boxes."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from attnpool.detection.data.batches import evaluation_batches
from attnpool.detection.data.source import open_boxes
from attnpool.detection.mean_ap import AveragePrecision
from attnpool.jobs._checkpoint import load_detector
from attnpool.jobs._write import make_folder, write_whole
from attnpool.jobs.detect._detector import run_detector_test
from attnpool.jobs.detect._result import figures


@dataclass(frozen=True)
class DetectionEvaluation:
    """What `detect evaluate` measured; also in `evaluation.json` of the output folder.

    Args:
        checkpoint: Its folder.
        data: The source.
        images: How many.
        found: COCO's figures.
    """

    checkpoint: str
    data: str
    images: int
    found: AveragePrecision

    def __rich__(self) -> Table:
        table = Table("", Column(overflow="fold"), title=escape(f"{self.checkpoint} on {self.data}"), show_header=False)
        table.add_row("images", f"{self.images:,}")
        for name, text in figures(self.found).items():
            table.add_row(name, text)
        table.add_section()
        for name, value in self.found.class_ap.items():
            half = self.found.class_ap50[name]
            if value is not None and half is not None:  # there are some on the images
                table.add_row(escape(name), f"{value:.1%} (AP50 {half:.1%})")
        return table


def evaluate(
    checkpoint: str,
    *,
    data: str | None = None,
    output: str | None = None,
    batch_size: int = 8,
    accelerator: str = "auto",
    workers: int | None = None,
    progress: bool = True,
) -> DetectionEvaluation:
    """Measure a detector: average precision at overlaps of 0.5 to 0.95, by size and by class.

    Args:
        checkpoint: Folder of the checkpoint.
        data: Images with boxes, as in training; by default its test data.
        output: Folder for `evaluation.json`; by default `evaluation` in the checkpoint's.
        batch_size: Images at a time.
        accelerator: auto, cpu, gpu, ... as in Lightning.
        workers: Processes that read images; by default up to 4.
        progress: Show a progress bar.

    Raises:
        CheckpointError: for a checkpoint that cannot be read, or that is of no detector.
        DataError: for data that cannot be used.
    """
    model = load_detector(checkpoint)
    about = model.description
    where = data or about.training.get("test_data")
    if where is None:
        raise ValueError(f"data has to be given where the detector was trained without test data, as {checkpoint} was")
    source = open_boxes(where, classes=about.classes, all_there=False)
    batches = evaluation_batches(source, batch_size, workers)
    folder = make_folder(output or Path(checkpoint) / "evaluation")
    found = run_detector_test(model, about.classes, batches, accelerator, progress)
    result = DetectionEvaluation(str(checkpoint), source.name, len(source.images), found)
    values: dict[str, Any] = asdict(result)
    write_whole(folder / "evaluation.json", json.dumps(values, indent=2) + "\n")
    return result
