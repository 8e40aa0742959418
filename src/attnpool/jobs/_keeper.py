"""Checkpoints of a training run: the last epoch's and the best one's, each written whole or not at all."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from attnpool.models.checkpoint import CheckpointError, Description, read_description, save


class Keeper(pl.Callback):
    """After every epoch saves `output/last`, and `output` itself when the validation accuracy is the best so far.

    Args:
        output: Folder of the run.
        description: What the checkpoints say about the network; metrics and epoch are filled in.

    Attributes:
        history: The logged metrics of every finished epoch, with `epoch` (from 1) and `seconds`.
    """

    def __init__(self, output: Path, description: Description) -> None:
        self.output, self.description = output, description
        self.history: list[dict[str, float]] = []
        self._started = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        epoch = trainer.current_epoch + 1
        if not math.isfinite(metrics["train_loss"]):
            raise ValueError(
                f"the loss is not finite after epoch {epoch}, a lower lr or a clip_norm may help; {self.kept()}"
            )
        row = {"epoch": epoch, "seconds": time.perf_counter() - self._started, **metrics}
        if trainer.is_global_zero:
            training = {**self.description.training, "epoch": epoch}
            description = replace(self.description, metrics=metrics, training=training)
            save(pl_module.model, description, self.output / "last")
            if all(metrics["val_accuracy"] > earlier["val_accuracy"] for earlier in self.history):
                save(pl_module.model, description, self.output)
        self.history.append(row)

    @property
    def best_epoch(self) -> int:
        """Epoch of the best validation accuracy, from 1: the first of equals."""
        accuracies = [row["val_accuracy"] for row in self.history]
        return 1 + accuracies.index(max(accuracies))

    def kept(self) -> str:
        """Where the last finished epoch is, in words; read back, since a save may have been cut off."""
        last = self.output / "last"
        try:
            epoch = read_description(last).training["epoch"]
        except CheckpointError:
            return "no epoch was finished"
        return f"the checkpoint of epoch {epoch} is in {last}"
