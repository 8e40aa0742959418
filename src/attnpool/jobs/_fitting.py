"""The one training loop: what training, and training on after a change, share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from attnpool.data.loaders import Loaders
from attnpool.detection.data.batches import BoxLoaders
from attnpool.jobs._annealing import Annealing
from attnpool.jobs._cluster import ALONE, Processes
from attnpool.jobs._finetuning import Freezing
from attnpool.jobs._folder import STATE, at_work
from attnpool.jobs._keeper import Keeper
from attnpool.jobs._learner import Learner, Recipe
from attnpool.jobs._state import StateIO
from attnpool.jobs._survival import Stopped, StopTraining, Survival
from attnpool.jobs._sync import SyncBatchNorm
from attnpool.jobs._trainer import make_trainer, stopping_cleanly
from attnpool.pools._attention import SelfAttention

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@contextmanager
def trained(
    learner: Learner,
    loaders: Loaders | BoxLoaders,
    keeper: Keeper,
    arguments: dict[str, Any],
    me: Processes,
    prepare: Callable[[bool], None],
) -> Iterator[dict[str, Any] | None]:
    """A block that follows on the training of a run: the run has its folder for itself until the block ends.

    Gives the results if another process finished the run while this one got ready; then nothing was trained.

    Args:
        learner, loaders, keeper: What is trained, on what, and what keeps its checkpoints.
        arguments: Of the job, by their names.
        me: Which of the processes that train together.
        prepare: Called before the training, with whether the run goes on.

    Raises:
        ValueError: as `at_work` and `fit_`.
        FileExistsError: as `at_work`.
        Stopped: as `fit_`.
    """
    survival = Survival(keeper.output, loaders.order, arguments["checkpoint_every"], loaders.stream_workers)
    trainer = make_fitter(
        keeper,
        learner.recipe,
        arguments["epochs"],
        arguments["accelerator"],
        arguments["progress"],
        me=me,
        callbacks=[Annealing(), survival],
        **{name: arguments[name] for name in ("precision", "accumulate", "sync_batchnorm")},
    )
    with at_work(keeper.output, arguments, me) as (goes_on, done):
        if not done:
            prepare(goes_on)
            fit_(learner, trainer, keeper, loaders, arguments["resume"])
            trainer.strategy.barrier()
        yield done


def make_fitter(
    keeper: Keeper,
    recipe: Recipe,
    epochs: int,
    accelerator: str,
    progress: bool,
    *,
    me: Processes = ALONE,
    callbacks: Sequence[pl.Callback] = (),
    precision: Precision = "32-true",
    accumulate: int = 1,
    sync_batchnorm: bool = False,
) -> pl.Trainer:
    """A trainer whose checkpoints `keeper` keeps, with logs beside them; nothing is written yet."""
    folder, freezes = keeper.output, recipe.freeze_backbone > 0
    return make_trainer(
        accelerator,
        progress,
        me=me,
        find_unused=freezes,
        max_epochs=epochs,
        precision=precision,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=recipe.clip_norm,
        callbacks=[keeper, *callbacks, *([Freezing(recipe.freeze_backbone)] if freezes else [])],
        plugins=[StateIO(), *([SyncBatchNorm()] if sync_batchnorm and me.count > 1 else [])],
        logger=[CSVLogger(folder, "logs", "csv"), TensorBoardLogger(folder, "logs", "tensorboard")],
    )


def fit_(
    learner: Learner, trainer: pl.Trainer, keeper: Keeper, loaders: Loaders | BoxLoaders, resume: bool = False
) -> None:
    """Train the network, in place; with `resume`, from the state in the output folder if there is one.

    Attention takes its fused kernel, also where the spec has blocks of queries: they give the same, more slowly.

    Raises:
        Stopped: at SIGTERM or Ctrl-C where the state is kept; the message says how to go on.
        KeyboardInterrupt: on Ctrl-C elsewhere; the message says where the last finished epoch is.
        ValueError: if the loss is not finite; the message says the step and where the last finished epoch is.
    """
    for module in learner.modules():
        if isinstance(module, SelfAttention):
            module.query_blocks = None
    state = keeper.output / STATE
    try:
        with stopping_cleanly(trainer, keeper.kept):
            trainer.fit(
                learner.train(), loaders.train, loaders.val, ckpt_path=state if resume and state.exists() else None
            )
    except StopTraining as stop:
        raise Stopped(f"stopped; {keeper.kept()}, and --resume goes on from the last step", stop.signum) from None
