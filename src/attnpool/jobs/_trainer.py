"""Lightning's trainer as every verb sets it up, and the test that training and evaluation share."""

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar

from attnpool.data.loaders import Batches
from attnpool.jobs._classifier import Classifier
from attnpool.jobs._cluster import ALONE, Processes

EXPECTED = (
    ".*does not have many workers.*",
    ".*LeafSpec.*is deprecated.*",
    "Experiment logs directory .* exists and is not empty.*",  # a run that goes on writes its log anew
    "You're resuming from a checkpoint that ended before the epoch ended.*",  # `Order.skip` sees to it
)
"""Warnings of Lightning that are no news to a user."""


@dataclass(frozen=True)
class TestReport:
    """Measured on a test split.

    Args:
        images: How many.
        top1: Part whose label is the likeliest class.
        top5: Part whose label is among the five likeliest.
        loss: Mean cross-entropy.
        per_class: The part of each class that was recognised, in the order of the classes.
        confusion: Images of class (row) taken for class (column).
    """

    images: int
    top1: float
    top5: float
    loss: float
    per_class: list[float]
    confusion: list[list[int]]


class EpochProgress(RichProgressBar):
    """Lightning's bar with epochs counted from 1, and the last validation metrics in a few words: a line is enough."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}".ljust(len(self.validation_description))

    def get_metrics(self, *args: Any) -> dict[str, Any]:
        values: dict[str, Any] = super().get_metrics(*args)
        shown = [float(values[name]) for name in ("val_accuracy", "val_ap") if name in values]
        return {"val": f"{shown[0]:.1%}"} if shown else {}


@contextmanager
def stopping_cleanly(trainer: pl.Trainer, kept: Callable[[], str]) -> Iterator[None]:
    """Turn Lightning's exit after Ctrl-C into a `KeyboardInterrupt` that says what was `kept`."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and not trainer.interrupted:
            raise
        raise KeyboardInterrupt(f"stopped; {kept()}") from None
    finally:
        if in_main:
            signal.signal(signal.SIGINT, handler)  # Lightning leaves Ctrl-C ignored


def make_trainer(
    accelerator: str,
    progress: bool,
    *,
    me: Processes = ALONE,
    callbacks: Sequence[pl.Callback] = (),
    plugins: Sequence[Any] = (),
    find_unused: bool = False,
    **options: Any,
) -> pl.Trainer:
    """A Lightning trainer that writes no checkpoints of its own, and shows its progress in one process at most.

    Args:
        accelerator: As in Lightning.
        progress: Whether to show a progress bar.
        me: The processes that work together; by default this one alone.
        callbacks, plugins, options: Of the trainer.
        find_unused: Whether some parameters may get no gradient in a step.
    """
    progress = progress and me.writes
    return pl.Trainer(
        accelerator=accelerator,
        callbacks=[*callbacks, *([EpochProgress(console_kwargs={"stderr": True})] if progress else [])],
        plugins=[*plugins, *me.plugins()],
        enable_progress_bar=progress,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,  # metrics are logged every epoch, however few steps it has
        deterministic="warn",
        **me.trainer_options(find_unused),
        **options,
    )


def run_test(
    model: Any, batches: Batches, accelerator: str = "auto", progress: bool = False, me: Processes = ALONE
) -> TestReport:
    """Every metric of `TestReport`, of a network on the batches of a test split; each process has its share of them."""
    classifier = Classifier(model, model.spec.num_classes)
    with seeded(0):
        trainer = make_trainer(accelerator, progress, me=me, logger=False)
        with stopping_cleanly(trainer, lambda: "the test was not finished, the checkpoint is as it was"):
            trainer.test(classifier, batches, verbose=False)
    values = classifier.test_metrics.compute()
    confusion = values["confusion"].tolist()
    return TestReport(
        images=sum(map(sum, confusion)),
        top1=float(values["top1"]),
        top5=float(values["top5"]),
        loss=float(classifier.test_loss.compute()),
        per_class=values["per_class"].tolist(),
        confusion=confusion,
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch from `seed` and no notices of Lightning's; the global state is as before after it."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(), warnings.catch_warnings(), _warnings_only("pytorch_lightning", "lightning_fabric"):
        for expected in EXPECTED:
            warnings.filterwarnings("ignore", expected)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


@contextmanager
def _warnings_only(*names: str) -> Iterator[None]:
    """The logs of libraries without what is less than a warning, inside the block."""
    logs = {log: log.level for log in map(logging.getLogger, names)}
    try:
        for log in logs:
            log.setLevel(logging.WARNING)
        yield
    finally:
        for log, level in logs.items():
            log.setLevel(level)
