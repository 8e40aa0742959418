"""The one training loop: what training, and training on after a change, share."""

import time
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from attnpool.data.loaders import Loaders
from attnpool.jobs._classifier import Classifier, Recipe
from attnpool.jobs._keeper import Keeper
from attnpool.jobs._trainer import make_trainer, stopping_cleanly
from attnpool.pools._attention import SelfAttention

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def make_fitter(
    keeper: Keeper,
    recipe: Recipe,
    epochs: int,
    accelerator: str,
    progress: bool,
    *callbacks: pl.Callback,
    precision: Precision = "32-true",
) -> pl.Trainer:
    """A trainer whose checkpoints `keeper` keeps, with logs beside them; nothing is written yet."""
    folder = keeper.output
    return make_trainer(
        accelerator,
        progress,
        max_epochs=epochs,
        precision=precision,
        gradient_clip_val=recipe.clip_norm,
        callbacks=[keeper, *callbacks],
        logger=[CSVLogger(folder, "logs", "csv"), TensorBoardLogger(folder, "logs", "tensorboard")],
    )


def fit_(model: Any, trainer: pl.Trainer, keeper: Keeper, loaders: Loaders, recipe: Recipe) -> float:
    """Train the network of a spec, in place; returns the seconds of training and validation.

    Attention takes its fused kernel, also where the spec has blocks of queries: they give the same, more slowly.

    Raises:
        KeyboardInterrupt: on Ctrl-C; the message says where the last finished epoch is.
    """
    for module in model.modules():
        if isinstance(module, SelfAttention):
            module.query_blocks = None
    started = time.perf_counter()
    with stopping_cleanly(trainer, keeper.kept):
        trainer.fit(Classifier(model.train(), model.spec.num_classes, recipe), loaders.train, loaders.val)
    return time.perf_counter() - started
