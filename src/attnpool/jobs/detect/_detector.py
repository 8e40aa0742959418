"""A detector as Lightning trains and tests it: the sum of its losses, and average precision."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.aggregation import MeanMetric

from attnpool.data.randomness import randomness
from attnpool.data.source import DataError
from attnpool.detection.data.batches import BoxBatches
from attnpool.detection.mean_ap import AveragePrecision, MeanAP
from attnpool.jobs._cluster import ALONE, Processes
from attnpool.jobs._learner import Learner, Recipe
from attnpool.jobs._trainer import make_trainer, seeded, stopping_cleanly

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


class Detector(Learner):
    """A detector of `attnpool.detection` in training.

    What a step draws (sizes, proposals) depends on seed, epoch, batch and process alone.

    Args:
        model: With torchvision's conventions.
        classes: Names of the kinds of objects, that of label 1 first.
        recipe: Optimiser and schedule; not needed for testing.
        seed: Of what training steps draw.
    """

    def __init__(self, model: nn.Module, classes: tuple[str, ...], recipe: Recipe | None = None, seed: int = 0) -> None:
        super().__init__(model, recipe, seed)
        self.train_loss = MeanMetric(nan_strategy="disable")
        self.measured = MeanAP(classes)
        self.test_result: AveragePrecision | None = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch
        with randomness(self.seed, self.current_epoch, batch_idx, self.global_rank):
            losses = self.model(images, targets)
        loss: Tensor = torch.stack(list(losses.values())).sum()
        self.train_loss.update(loss.detach(), len(images))
        self.log("train_loss", self.train_loss, on_step=False, on_epoch=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: Batch) -> None:
        images, targets = batch
        self.measured.update(self.result(images), targets)

    def on_validation_epoch_end(self) -> None:
        found = self._conclude()
        if found.ap is None or found.ap50 is None:
            raise DataError("validation images have to have boxes, but have none that count")
        self.log("val_ap", found.ap, prog_bar=True)
        self.log("val_ap50", found.ap50)

    def test_step(self, batch: Batch) -> None:
        images, targets = batch
        self.measured.update(self.model(images), targets)

    def on_test_epoch_end(self) -> None:
        self.test_result = self._conclude()

    def _conclude(self) -> AveragePrecision:
        found: Any = self.measured.compute()
        self.measured.reset()
        return found


@torch.no_grad()
def check_batch(model: nn.Module, images: int) -> None:
    """Refuse one image a batch where batch norms would have one value to take the statistics of.

    Raises:
        ValueError: if the detector cannot be trained on so small a batch.
    """
    if images > 1:
        return
    spec: Any = model.spec
    target = {"boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0]]), "labels": torch.tensor([1])}
    try:
        with torch.random.fork_rng(devices=()):
            copy.deepcopy(model).train()([torch.zeros(3, *spec.image_size)], [target])
    except ValueError as error:
        raise ValueError(
            f"batch_size has to be at least 2 for each process and accumulated batch: the coarsest map of {spec} has "
            f"one position, and batch norms no statistics ({error})"
        ) from error


def run_detector_test(
    model: nn.Module,
    classes: tuple[str, ...],
    batches: BoxBatches,
    accelerator: str = "auto",
    progress: bool = False,
    me: Processes = ALONE,
) -> AveragePrecision:
    """COCO's figures of a detector on the batches of a split; each process has its share of them."""
    detector = Detector(model.eval(), classes)
    with seeded(0):
        trainer = make_trainer(accelerator, progress, me=me, logger=False)
        with stopping_cleanly(trainer, lambda: "the test was not finished, the checkpoint is as it was"):
            trainer.test(detector, batches, verbose=False)
    found: Any = detector.test_result
    return found
