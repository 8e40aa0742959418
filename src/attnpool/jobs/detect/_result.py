"""What came of training or measuring a detector."""

from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from attnpool.detection.mean_ap import AveragePrecision


@dataclass(frozen=True)
class DetectionResult:
    """What `detect train` measured; also in `results.json` of the output folder.

    Args:
        architecture: DETECTOR:ARCHITECTURE.
        output: Folder of the checkpoint.
        params: Parameters of the detector.
        best_epoch: Epoch with the best average precision on the validation images, from 1: the one that was kept.
        val_ap: That precision, COCO's mean over overlaps, 0 to 1.
        test: Its figures on the test images; None without such.
        classes: Names of the kinds of objects.
        dropped: Boxes of the training data that were left out, by the reason.
        seconds: Of training and validation.
        history: The metrics of every epoch.
    """

    architecture: str
    output: str
    params: int
    best_epoch: int
    val_ap: float
    test: AveragePrecision | None
    classes: tuple[str, ...]
    dropped: dict[str, int]
    seconds: float
    history: list[dict[str, float]]

    def __rich__(self) -> Table:
        table = Table("", Column(overflow="fold"), title=self.architecture, show_header=False)
        for name, value in figures(self.test).items() if self.test else ():
            table.add_row(f"test {name}", value)
        table.add_row("validation AP", f"{self.val_ap:.1%} (best, epoch {self.best_epoch})")
        table.add_row("parameters", f"{self.params:,}")
        for reason, count in self.dropped.items():
            table.add_row(f"boxes left out: {escape(reason)}", f"{count:,}")
        table.add_row("training", f"{self.seconds:.1f} s")
        table.add_row("checkpoint", escape(self.output))
        return table

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "DetectionResult":
        """That of a `results.json`."""
        test = values["test"] and AveragePrecision(**values["test"])
        return cls(**{**values, "classes": tuple(values["classes"]), "test": test})


def figures(found: AveragePrecision) -> dict[str, str]:
    """COCO's figures with their names, in per cent; a dash where there was nothing to find."""
    named = {
        "AP (0.5 to 0.95)": found.ap,
        "AP50": found.ap50,
        "AP75": found.ap75,
        "AP small": found.small,
        "AP medium": found.medium,
        "AP large": found.large,
        "recall, 100 boxes": found.recall,
    }
    return {name: "-" if value is None else f"{value:.1%}" for name, value in named.items()}
