"""A network of classification as Lightning trains and tests it: loss and metrics."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.aggregation import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix
from torchvision.transforms import v2

from attnpool.data.randomness import randomness
from attnpool.jobs._learner import Learner, Recipe


class Classifier(Learner):
    """Cross-entropy on the logits of `model`, run channels last: about twice as fast on a CPU.

    What a training step draws (dropout, mixing) depends on seed, epoch, batch and process alone, so that a run that
    goes on draws as if it had never stopped. On mixed images the accuracy is that of the label with the larger part.

    Args:
        model: (B, C, H, W) to (B, num_classes).
        num_classes: Classes.
        recipe: Optimiser and schedule; not needed for testing.
        seed: Of what training steps draw.
    """

    train_metrics = ("train_loss", "train_accuracy")

    def __init__(self, model: nn.Module, num_classes: int, recipe: Recipe | None = None, seed: int = 0) -> None:
        super().__init__(model, recipe, seed)
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

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        logits = self.result(x.contiguous(memory_format=torch.channels_last))
        self.val_loss.update(F.cross_entropy(logits, y, reduction="none"))
        self.val_accuracy.update(logits, y)
        self.log("val_loss", self.val_loss, prog_bar=True)
        self.log("val_accuracy", self.val_accuracy, prog_bar=True)

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        logits = self(x)
        self.test_loss.update(F.cross_entropy(logits, y, reduction="none"))
        self.test_metrics.update(logits, y)


def make_mix(recipe: Recipe, num_classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Mixup and cutmix of a batch, either with the same probability if both are asked for; labels become parts."""
    wanted = ((v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix))
    mixes = [kind(alpha=alpha, num_classes=num_classes) for kind, alpha in wanted if alpha > 0]
    return v2.RandomChoice(mixes) if mixes else lambda x, y: (x, y)
