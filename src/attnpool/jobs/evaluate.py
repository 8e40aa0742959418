"""`attnpool evaluate`: accuracy, loss and confusion of a checkpoint on a test split."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Column, Table

from attnpool.data.loaders import make_loaders
from attnpool.data.preprocessing import Preprocessing
from attnpool.jobs._checkpoint import load_classifier
from attnpool.jobs._figures import confusion_figure
from attnpool.jobs._source import OnBadImage, data_of, write_skipped
from attnpool.jobs._trainer import TestReport, run_test
from attnpool.jobs._write import make_folder


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured; also in `evaluation.json` of the output folder.

    Args:
        checkpoint: Its folder.
        data: The source.
        classes: Names of the classes.
        report: The measurements.
        picture: The file with the confusion matrix.
    """

    checkpoint: str
    data: str
    classes: tuple[str, ...]
    report: TestReport
    picture: str

    def __rich__(self) -> Table:
        table = Table("", Column(overflow="fold"), title=escape(f"{self.checkpoint} on {self.data}"), show_header=False)
        table.add_row("images", f"{self.report.images:,}")
        table.add_row("top-1 accuracy", f"{self.report.top1:.2%}")
        if len(self.classes) > 5:
            table.add_row("top-5 accuracy", f"{self.report.top5:.2%}")
        table.add_row("loss", f"{self.report.loss:.4f}", end_section=True)
        for name, accuracy in zip(self.classes, self.report.per_class, strict=True):
            table.add_row(escape(name), f"{accuracy:.2%}")
        table.add_section()
        table.add_row("confusion matrix", escape(self.picture))
        return table


def evaluate(
    checkpoint: str,
    *,
    data: str | None = None,
    data_dir: str | None = None,
    download: bool = True,
    on_bad_image: OnBadImage = "error",
    output: str | None = None,
    batch_size: int = 256,
    accelerator: str = "auto",
    workers: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Measure a checkpoint on the test split of a data source.

    The output folder gets `evaluation.json` (top-1, top-5, loss, accuracy of each class, confusion matrix) and
    `confusion.png`.

    Args:
        checkpoint: Folder of the checkpoint.
        data: Data source, as in training; by default what it was trained on.
        data_dir: Where published data sets lie and are downloaded to; by default as in training.
        download: Download a published data set that is not there.
        on_bad_image: An image that cannot be read: error stops at the first; skip leaves such images out and names them
            in `skipped.txt`.
        output: Folder for the results; by default `evaluation` in the checkpoint's.
        batch_size: Images at a time.
        accelerator: auto, cpu, gpu, ... as in Lightning.
        workers: Processes that read images; by default 0 for arrays in memory, else up to 4.
        progress: Show a progress bar.

    Raises:
        CheckpointError: for a checkpoint that cannot be read.
        DataError: for data that cannot be used, or whose classes are not the checkpoint's.
    """
    model = load_classifier(checkpoint)
    about = model.description
    source, broken = data_of(checkpoint, about, data, data_dir, download, on_bad_image, progress)
    loaders = make_loaders(source, Preprocessing.from_dict(about.preprocessing), batch_size=batch_size, workers=workers)
    folder = make_folder(output or Path(checkpoint) / "evaluation")
    write_skipped(folder, broken)
    report = run_test(model, loaders.test, accelerator, progress)
    picture = folder / "confusion.png"
    confusion_figure(report.confusion, source.classes).savefig(picture)
    result = Evaluation(str(checkpoint), source.name, source.classes, report, str(picture))
    (folder / "evaluation.json").write_text(json.dumps(asdict(result), indent=2) + "\n")
    return result
