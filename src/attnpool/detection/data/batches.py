"""From sources with boxes to batches for training, validation and test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from attnpool.data.loaders import ALL, Share, checked_workers, shared
from attnpool.data.order import Order
from attnpool.data.source import DataError
from attnpool.data.split import stratified_split
from attnpool.data.transformed import Transformed
from attnpool.detection.data.source import Boxes, BoxSource
from attnpool.detection.data.transforms import BoxAugmentation, Target, Training, for_evaluation

BoxBatch = tuple[list[Tensor], list[Target]]
BoxBatches = DataLoader[tuple[Tensor, Target]]


@dataclass(frozen=True)
class BoxLoaders:
    """Batches of (images, targets); only `train` is shuffled, by an `Order`, and augmented if asked for."""

    train: BoxBatches
    val: BoxBatches
    test: BoxBatches | None
    stream_workers: ClassVar[None] = None
    """As of `Loaders`: images with boxes are never a stream."""

    @property
    def order(self) -> Order:
        """Of the training images."""
        order: Any = self.train.sampler
        return order


def make_box_loaders(
    train: BoxSource,
    val: BoxSource | None = None,
    test: BoxSource | None = None,
    *,
    batch_size: int = 16,
    val_fraction: float = 0.1,
    augment: BoxAugmentation | bool | None = False,
    seed: int = 0,
    workers: int | None = None,
    share: Share = ALL,
) -> BoxLoaders:
    """Loaders of the splits, with the guarantees of `attnpool.data.loaders.make_loaders`.

    The same arguments give the same batches, whatever the number of workers; the order and the augmentation of an epoch
    do not depend on the epochs before; and the processes of a run together take the batches that one alone would. The
    global random state is neither read nor changed.

    Args:
        train: To train on.
        val: For validation; by default images of `train` that are drawn at random and held out.
        test: For the test; by default there is none.
        batch_size: Images a step, all processes and accumulated batches together. The last, smaller batch of a larger
            training set is dropped.
        val_fraction: Part of the training images held out for validation, above 0 and below 1, where `val` is None.
        augment: How training images are varied at random; True is `BoxAugmentation()`, None and False are not at all.
        seed: Of the hold-out, the order and the augmentation.
        workers: Processes a loader; by default 4 or the number of CPUs if that is less.
        share: What part of it this process takes; by default all.

    Shape:
        Each batch: a list of images (3, H, W), float in 0..1, each of its own size, and a list of as many targets, of
        which `Training` and `for_evaluation` say what they hold.

    Raises:
        ValueError: An argument out of its range.
        DataError: Sources of different classes, or too few images.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction has to be above 0 and below 1, but got {val_fraction}")
    workers = checked_workers(batch_size, workers)
    for source in (val, test):
        if source and source.classes != train.classes:
            raise DataError(
                f"classes of {source.name} have to be those of {train.name}, {', '.join(train.classes)}, but are "
                f"{', '.join(source.classes)}"
            )

    kept: Sequence[int] = range(len(train.images))
    held: Sequence[int] = range(len(val.images)) if val else ()
    if val is None:
        full = [int(has_boxes(train, index)) for index in kept]
        if sum(full) < 2:
            raise DataError(f"data has to have 2 images with boxes to hold one out, but {train.name} has {sum(full)}")
        kept, held = _held_out(full, val_fraction, seed)
    for name, source, part in (("data", train, kept), ("val_data", val or train, held)):
        if not any(has_boxes(source, index) for index in part):
            raise DataError(f"{name} has to have boxes that are no crowds, but {len(part)} of {source.name} have none")
    validation = _evaluated(val or train, held, share)
    varied = BoxAugmentation() if augment is True else augment or None
    training = Transformed(train.images, kept, Training(varied), seed if varied else None)
    order = Order(len(kept), batch_size, seed, share.process, share.processes, share.processes * share.accumulate)

    def batches(images: Transformed[tuple[Image.Image, Boxes], tuple[Tensor, Target]]) -> BoxBatches:
        return DataLoader(
            images,
            order.batch_size,
            sampler=order if images is training else None,
            num_workers=workers,
            collate_fn=_listed,
            generator=torch.Generator().manual_seed(seed),  # of the workers' own numbers, which nothing uses
            persistent_workers=workers > 0,
        )

    testing = batches(_evaluated(test, range(len(test.images)), share)) if test else None
    return BoxLoaders(batches(training), batches(validation), testing)


def has_boxes(source: BoxSource, index: int) -> bool:
    """Whether an image has boxes that are no crowds: only they can be learnt and found."""
    return not bool(source.images.annotations(index).crowd.all())  # which holds for none


def _held_out(full: list[int], val_fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Positions kept and held out: the same part of the images with boxes (1) and of those without, if these are 2."""
    if full.count(0) != 1:
        names = ["without boxes", "with boxes"] if 0 in full else ["with boxes"]
        return stratified_split(full if 0 in full else [0] * len(full), names, val_fraction, seed)
    alone = full.index(0)
    kept, held = ([i + (i >= alone) for i in part] for part in _held_out([1] * (len(full) - 1), val_fraction, seed))
    return [*kept, alone], held


def _evaluated(
    source: BoxSource, indices: Sequence[int], share: Share
) -> Transformed[tuple[Image.Image, Boxes], tuple[Tensor, Target]]:
    return Transformed(source.images, shared(indices, share), for_evaluation)


def _listed(samples: Sequence[tuple[Tensor, Target]]) -> BoxBatch:
    images, targets = zip(*samples, strict=True)
    return [*images], [*targets]


def evaluation_batches(source: BoxSource, batch_size: int = 16, workers: int | None = None) -> BoxBatches:
    """Batches of all images of a source, in their order, to measure a detector with.

    Args:
        source: The images.
        batch_size: Images a batch.
        workers: Processes that read images; by default 4 or the number of CPUs if that is less.

    Raises:
        ValueError: An argument out of its range.
    """
    workers = checked_workers(batch_size, workers)
    images = _evaluated(source, range(len(source.images)), ALL)
    return DataLoader(images, batch_size, num_workers=workers, collate_fn=_listed)
