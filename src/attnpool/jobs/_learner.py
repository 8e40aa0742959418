"""How a network learns, whatever its task: optimiser, schedule, average of the weights, and what a stop has to keep."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from attnpool.jobs._finetuning import groups_with_pool_lr

OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["steps", "cosine"]
LEARNING_RATES = {"sgd": 0.02, "adam": 1e-3, "adamw": 1e-3}


@dataclass(frozen=True)
class Recipe:
    """How the weights are learned: see `attnpool.jobs.train.train` for the arguments."""

    optimizer: OptimizerName = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: ScheduleName = "cosine"
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    ema_decay: float | None = None
    pool_lr: float = 1.0
    freeze_backbone: int = 0

    def __post_init__(self) -> None:
        rules = {
            "lr": (self.lr is None or self.lr > 0, "positive"),
            "momentum": (0 <= self.momentum < 1, "at least 0 and below 1"),
            "weight_decay": (self.weight_decay >= 0, "at least 0"),
            "warmup_epochs": (self.warmup_epochs >= 0, "at least 0"),
            "clip_norm": (self.clip_norm is None or self.clip_norm > 0, "positive"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "at least 0 and below 1"),
            "mixup": (self.mixup >= 0, "at least 0"),
            "cutmix": (self.cutmix >= 0, "at least 0"),
            "ema_decay": (self.ema_decay is None or 0 <= self.ema_decay < 1, "at least 0 and below 1"),
            "pool_lr": (self.pool_lr > 0, "positive"),
            "freeze_backbone": (self.freeze_backbone >= 0, "at least 0"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise ValueError(f"{name} has to be {rule}, but got {getattr(self, name)}")


class Learner(pl.LightningModule):
    """A network in training, run channels last: about twice as fast on a CPU. Subclasses say what a step is.

    Args:
        model: The network.
        recipe: Optimiser and schedule; not needed for testing.
        seed: Of what training steps draw, which has to depend on seed, epoch, batch and process alone.
    """

    train_metrics: tuple[str, ...] = ("train_loss",)
    """Names of the metrics that gather what the steps of an epoch give."""

    def __init__(self, model: nn.Module, recipe: Recipe | None = None, seed: int = 0) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
        self.recipe, self.seed = recipe or Recipe(), seed
        decay = self.recipe.ema_decay
        self.averaged = None if decay is None else ModelEmaV3(model, decay, use_warmup=True).train()

    @property
    def result(self) -> nn.Module:
        """The network that is validated and kept: the average over the steps, if there is one."""
        return self.model if self.averaged is None else self.averaged.module

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.averaged is not None:  # before any callback sees the end of the step
            self.averaged.update(self.model, step=self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also the training metrics of an epoch that is not finished, of all processes together."""
        finished = self.trainer.fit_loop.epoch_loop._num_ready_batches_reached()
        for name in () if finished else self.train_metrics:
            metric = getattr(self, name)
            with metric.sync_context():
                checkpoint[name] = metric.metric_state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name in self.train_metrics if self.global_rank == 0 else ():
            for state, value in checkpoint.get(name, {}).items():
                setattr(getattr(self, name), state, value.to(self.device))

    def configure_optimizers(self) -> Any:
        name = "momentum" if self.recipe.optimizer == "sgd" else self.recipe.optimizer  # timm's "sgd" is Nesterov's
        lr = self.recipe.lr or LEARNING_RATES[self.recipe.optimizer]
        groups = partial(groups_with_pool_lr, weight_decay=self.recipe.weight_decay, lr=lr * self.recipe.pool_lr)
        optimizer = create_optimizer_v2(
            self.model,
            name,
            lr=lr,
            weight_decay=self.recipe.weight_decay,
            momentum=self.recipe.momentum,
            param_group_fn=None if self.recipe.pool_lr == 1 else groups,
        )
        steps = int(self.trainer.estimated_stepping_batches)
        warmup = round(steps * self.recipe.warmup_epochs / (self.trainer.max_epochs or 1))
        return [optimizer], [
            {"scheduler": make_schedule(optimizer, self.recipe.schedule, steps, warmup), "interval": "step"}
        ]


def make_schedule(optimizer: Optimizer, name: ScheduleName, steps: int, warmup: int) -> lr_scheduler.LRScheduler:
    """The learning rate over `steps` optimiser steps.

    Args:
        optimizer: Its learning rate is the peak.
        name: "steps" divides it by 5 at 60, 80 and 90 % (Chen et al., WACV 2023); "cosine" falls from the peak to
            zero after a linear rise.
        steps: Optimiser steps in all.
        warmup: Steps of the linear rise of "cosine", from 1 % of the peak.
    """
    if name == "steps":
        return lr_scheduler.MultiStepLR(optimizer, [round(steps * part) for part in (0.6, 0.8, 0.9)], gamma=0.2)
    warmup = min(warmup, steps - 1)
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - warmup))
    if warmup < 1:
        return cosine
    rise = lr_scheduler.LinearLR(optimizer, 0.01, total_iters=warmup)
    return lr_scheduler.SequentialLR(optimizer, [rise, cosine], [warmup])
