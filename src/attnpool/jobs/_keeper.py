"""Checkpoints of a training run: the last epoch's and the best one's, each written whole or not at all."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger

from attnpool.models.checkpoint import CheckpointError, Description, read_description, save


class Keeper(pl.Callback):
    """After every epoch saves `output/last`, and `output` itself when the metric `best` is the best so far.

    It stops a run whose loss or weights are no longer finite, before anything of them is saved.

    Args:
        output: Folder of the run.
        description: What the checkpoints say about the network; metrics and epoch are filled in.
        best: The logged metric of which the largest value is the best.

    Attributes:
        history: The logged metrics of every finished epoch, with `epoch` (from 1), `step` and `seconds`.
    """

    def __init__(self, output: Path, description: Description, best: str = "val_accuracy") -> None:
        self.output, self.description, self.best = output, description, best
        self.history: list[dict[str, float]] = []
        self._started = self._spent = 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if isinstance(logger, CSVLogger):  # it begins an empty file
                for row in self.history:
                    metrics = {name: value for name, value in row.items() if name not in ("step", "seconds")}
                    logger.log_metrics({**metrics, "epoch": row["epoch"] - 1}, int(row["step"]))
                logger.save()

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._started = time.perf_counter() - self._spent

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._started, self._spent = time.perf_counter(), 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._refuse("the loss", outputs["loss"].isfinite().item(), trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._refuse_weights(trainer, pl_module)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._refuse("the validation loss", math.isfinite(metrics.get("val_loss", 0.0)), trainer)
        epoch = trainer.current_epoch + 1
        row = {"epoch": epoch, "step": trainer.global_step - 1, "seconds": self._elapsed(), **metrics}
        self.history.append(row)
        if trainer.is_global_zero:
            training = {**self.description.training, "epoch": epoch}
            description = replace(self.description, metrics=metrics, training=training)
            save(pl_module.result, description, self.output / "last")
            if self.best_epoch == epoch:
                save(pl_module.result, description, self.output)
        self._started = time.perf_counter()

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._refuse_weights(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "spent": self._elapsed()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history, self._spent = state["history"], state["spent"]

    @property
    def best_epoch(self) -> int:
        """Epoch of the best value, from 1: the first of equals; if all are 0, the last, which has learned longest."""
        values = [row[self.best] for row in self.history]
        return 1 + values.index(max(values)) if any(values) else len(values)

    @property
    def seconds(self) -> float:
        """Of training and validation, all epochs together."""
        return sum(row["seconds"] for row in self.history)

    def kept(self) -> str:
        """Where the last finished epoch is, in words; read back, since a save may have been cut off."""
        last = self.output / "last"
        try:
            epoch = read_description(last).training["epoch"]
        except CheckpointError:
            return "no epoch was finished"
        return f"the checkpoint of epoch {epoch} is in {last}"

    def _elapsed(self) -> float:
        return time.perf_counter() - self._started

    def _refuse_weights(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._refuse("a weight", all(bool(p.isfinite().all()) for p in pl_module.parameters()), trainer)

    def _refuse(self, what: str, finite: bool, trainer: pl.Trainer) -> None:
        if not finite:
            where = f"step {trainer.global_step} (epoch {trainer.current_epoch + 1})"
            raise ValueError(f"{what} is not finite at {where}, a lower lr or a clip_norm may help; {self.kept()}")
