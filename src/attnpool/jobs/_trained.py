"""What came of a training run."""

from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from attnpool.jobs._folder import SKIPPED


@dataclass(frozen=True)
class TrainResult:
    """What `train` measured; also in `results.json` of the output folder.

    Args:
        architecture: The string.
        output: Folder of the checkpoint.
        params: Parameters of the network.
        best_epoch: Epoch with the best validation accuracy, from 1: the one that was kept.
        val_accuracy: Its accuracy on the validation split, 0 to 1.
        test_accuracy: Its accuracy on the test split, 0 to 1.
        test_loss: Its cross-entropy on the test split.
        classes: Names of the classes.
        per_class: The part of each class of the test split that was recognised.
        skipped: Images that were left out because they cannot be read; `skipped.txt` names them.
        seconds: Of training and validation.
        history: The metrics of every epoch.
    """

    architecture: str
    output: str
    params: int
    best_epoch: int
    val_accuracy: float
    test_accuracy: float
    test_loss: float
    classes: tuple[str, ...]
    per_class: list[float]
    skipped: int
    seconds: float
    history: list[dict[str, float]]

    def __rich__(self) -> Table:
        table = Table("", Column(overflow="fold"), title=self.architecture, show_header=False)
        table.add_row("test accuracy", f"{self.test_accuracy:.2%}")
        table.add_row("test loss", f"{self.test_loss:.4f}")
        table.add_row("validation accuracy", f"{self.val_accuracy:.2%} (best, epoch {self.best_epoch})")
        table.add_row("parameters", f"{self.params:,}")
        table.add_row("training", f"{self.seconds:.1f} s")
        if self.skipped:
            table.add_row("images left out", f"{self.skipped:,} ({SKIPPED})")
        table.add_row("checkpoint", escape(self.output))
        return table

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TrainResult":
        """That of a `results.json`; earlier versions wrote neither classes nor what was left out."""
        known = {"classes": (), "per_class": [], "skipped": 0, **values}
        return cls(**{**known, "classes": tuple(known["classes"])})
