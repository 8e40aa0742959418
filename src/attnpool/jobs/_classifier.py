"""A network as Lightning trains and tests it: loss, metrics, optimiser, schedule."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler
from torchmetrics import MetricCollection
from torchmetrics.aggregation import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix
from torchvision.transforms import v2

from attnpool.data.randomness import randomness
from attnpool.jobs._finetuning import groups_with_pool_lr

OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["steps", "cosine"]
LEARNING_RATES = {"sgd": 0.02, "adam": 1e-3, "adamw": 1e-3}
TRAIN_METRICS = ("train_loss", "train_accuracy")


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


class Classifier(pl.LightningModule):
    """Cross-entropy on the logits of `model`, run channels last: about twice as fast on a CPU.

    What a training step draws (dropout, mixing) depends on seed, epoch, batch and process alone, so that a run that
    goes on draws as if it had never stopped. On mixed images the accuracy is that of the label with the larger part.

    Args:
        model: (B, C, H, W) to (B, num_classes).
        num_classes: Classes.
        recipe: Optimiser and schedule; not needed for testing.
        seed: Of what training steps draw.
    """

    def __init__(self, model: nn.Module, num_classes: int, recipe: Recipe | None = None, seed: int = 0) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
        self.recipe, self.seed = recipe or Recipe(), seed
        decay = self.recipe.ema_decay
        self.averaged = None if decay is None else ModelEmaV3(model, decay, use_warmup=True).train()
        self.mix = make_mix(self.recipe, num_classes)
        accuracy: Callable[..., MulticlassAccuracy] = MulticlassAccuracy
        self.train_loss, self.val_loss, self.test_loss = (MeanMetric(nan_strategy="disable") for _ in range(3))
        self.train_accuracy = accuracy(num_classes, average="micro")
        self.val_accuracy = accuracy(num_classes, average="micro")
        self.test_metrics = MetricCollection(
            {
                "top1": accuracy(num_classes, average="micro"),
                "top5": accuracy(num_classes, average="micro", top_k=min(5, num_classes)),
                "per_class": accuracy(num_classes, average=None),
                "confusion": MulticlassConfusionMatrix(num_classes),
            },
            compute_groups=False,
        )

    @property
    def result(self) -> nn.Module:
        """The network that is validated and kept: the average over the steps, if there is one."""
        return self.model if self.averaged is None else self.averaged.module

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.contiguous(memory_format=torch.channels_last))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        with randomness(self.seed, self.current_epoch, batch_idx, self.global_rank):
            x, y = self.mix(*batch)
            logits = self(x)
        loss = F.cross_entropy(logits, y, label_smoothing=self.recipe.label_smoothing)
        self.train_loss.update(loss.detach(), len(y))
        self.train_accuracy.update(logits, y if y.ndim == 1 else y.argmax(1))
        self.log("train_loss", self.train_loss, on_step=False, on_epoch=True)
        self.log("train_accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.averaged is not None:  # before any callback sees the end of the step
            self.averaged.update(self.model, step=self.global_step)

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        logits = self.result(x.contiguous(memory_format=torch.channels_last))
        self.val_loss.update(F.cross_entropy(logits, y, reduction="none"))
        self.val_accuracy.update(logits, y)
        self.log("val_loss", self.val_loss, prog_bar=True)
        self.log("val_accuracy", self.val_accuracy, prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also the training metrics of an epoch that is not finished, of all processes together."""
        finished = self.trainer.fit_loop.epoch_loop._num_ready_batches_reached()
        for name in () if finished else TRAIN_METRICS:
            metric = getattr(self, name)
            with metric.sync_context():
                checkpoint[name] = metric.metric_state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name in TRAIN_METRICS if self.global_rank == 0 else ():
            for state, value in checkpoint.get(name, {}).items():
                setattr(getattr(self, name), state, value.to(self.device))

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        logits = self(x)
        self.test_loss.update(F.cross_entropy(logits, y, reduction="none"))
        self.test_metrics.update(logits, y)

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


def make_mix(recipe: Recipe, num_classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Mixup and cutmix of a batch, either with the same probability if both are asked for; labels become parts."""
    wanted = ((v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix))
    mixes = [kind(alpha=alpha, num_classes=num_classes) for kind, alpha in wanted if alpha > 0]
    return v2.RandomChoice(mixes) if mixes else lambda x, y: (x, y)


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
