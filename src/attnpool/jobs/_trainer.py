"""Lightning's trainer as every verb sets it up, and the test that training and evaluation share."""

import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import RichProgressBar

from attnpool.data.loaders import Batches
from attnpool.jobs._classifier import Classifier
from attnpool.models.checkpoint import DESCRIPTION, WEIGHTS
from attnpool.models.sites import trace_shapes


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
    """Lightning's bar with the validation metrics of the last epoch in a few words, so that a line is enough."""

    def get_metrics(self, *args: Any) -> dict[str, Any]:
        values: dict[str, Any] = super().get_metrics(*args)
        if "val_accuracy" not in values:
            return {}
        return {"val": f"{float(values['val_accuracy']):.1%}"}


def make_folder(output: str | Path) -> Path:
    """The folder for what a job writes, made if need be; `ValueError` names `output` if it cannot be."""
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"output has to be a folder, but {folder} cannot be made: {error.strerror}") from error
    return folder


def check_size(model: Any, size: tuple[int, int]) -> None:
    """Refuse images that would be shrunk to nothing, before anything is written."""
    try:
        trace_shapes(model, size)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(f"image_size has to suit {model.spec}, but got {size}: {error}") from error


def refuse_overwriting(folder: Path, overwrite: bool) -> None:
    """Raise `FileExistsError` if the folder holds a checkpoint that may not be replaced."""
    if (folder / DESCRIPTION).exists() and not overwrite:
        raise FileExistsError(f"output has to be a new folder, but {folder} holds a checkpoint; or say --overwrite")


def clear_run(folder: Path, overwrite: bool) -> None:
    """Remove what an earlier run wrote into the folder, if it may be replaced; `FileExistsError` if it may not.

    Nothing is removed from a folder that holds no checkpoint of ours.
    """
    refuse_overwriting(folder, overwrite)
    if not (folder / DESCRIPTION).exists():
        return
    for name in ("last", "logs/csv", "logs/tensorboard", "evaluation"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (DESCRIPTION, WEIGHTS, "results.json", "config.yaml"):
        (folder / name).unlink(missing_ok=True)


def claim(folder: Path, arguments: dict[str, Any]) -> None:
    """Make the output folder and write the arguments into it; an earlier run's files go if they may be replaced."""
    clear_run(folder, arguments["overwrite"])
    make_folder(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(arguments, sort_keys=False))


@contextmanager
def stopping_cleanly(trainer: pl.Trainer, kept: Callable[[], str]) -> Iterator[None]:
    """Turn Lightning's exit after Ctrl-C into a `KeyboardInterrupt` that says what was `kept`."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and not trainer.interrupted:
            raise
        raise KeyboardInterrupt(f"stopped; {kept()}") from None
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves Ctrl-C ignored


def make_trainer(
    accelerator: str, progress: bool, callbacks: list[pl.Callback] | None = None, **options: Any
) -> pl.Trainer:
    """A Lightning trainer that writes no checkpoints of its own; `options` are the trainer's."""
    return pl.Trainer(
        accelerator=accelerator,
        callbacks=[*(callbacks or []), *([EpochProgress(console_kwargs={"stderr": True})] if progress else [])],
        enable_progress_bar=progress,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,  # metrics are logged every epoch, however few steps it has
        deterministic="warn",
        **options,
    )


def run_test(model: Any, batches: Batches, accelerator: str = "auto", progress: bool = False) -> TestReport:
    """Every metric of `TestReport`, of a network on the batches of a test split."""
    classifier = Classifier(model, model.spec.num_classes)
    with seeded(0):
        trainer = make_trainer(accelerator, progress, logger=False)
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
    """Random numbers of torch from `seed` inside the block; the global state is as before after it."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(), warnings.catch_warnings():
        for expected in (".*does not have many workers.*", ".*LeafSpec.*is deprecated.*"):
            warnings.filterwarnings("ignore", expected)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
