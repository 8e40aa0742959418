"""From a source to batches for training, validation and test."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from attnpool.data.arrays import ArrayImages
from attnpool.data.order import Order
from attnpool.data.preprocessing import Preprocessing
from attnpool.data.source import LabelledImages, Source
from attnpool.data.split import stratified_split
from attnpool.data.transformed import Transformed

Batches = DataLoader[tuple[Tensor, int]]


@dataclass(frozen=True)
class Share:
    """The part of each step's images that one of several processes takes.

    Args:
        process: Rank of this process, from 0.
        processes: How many train together.
        accumulate: Batches whose gradients a process adds up before a step.
    """

    process: int = 0
    processes: int = 1
    accumulate: int = 1


@dataclass(frozen=True)
class Loaders:
    """Batches of (images, labels); only `train` is shuffled, by an `Order`, and augmented if asked for."""

    train: Batches
    val: Batches
    test: Batches


ALL = Share()


def make_loaders(
    source: Source,
    preprocessing: Preprocessing,
    *,
    batch_size: int = 128,
    val_fraction: float = 0.1,
    augment: bool = False,
    seed: int = 0,
    workers: int | None = None,
    share: Share = ALL,
) -> Loaders:
    """Loaders of the three splits; validation is a stratified hold-out of the training data unless the source has one.

    The same arguments give the same batches, whatever the number of workers; the order and the augmentation of an epoch
    do not depend on the epochs before; and the processes of a run together take the batches that one alone would. The
    global random state is neither read nor changed.

    Args:
        source: Where the images come from.
        preprocessing: What happens to each image.
        batch_size: Images a step, all processes and accumulated batches together. The last, smaller batch of a larger
            training set is dropped.
        val_fraction: Part of each class of the training data held out for validation, above 0 and below 1.
        augment: Whether training images are randomly cropped and flipped.
        seed: Of the hold-out, the order and the augmentation.
        workers: Processes a loader; by default 0 for arrays in memory, else 4 or the number of CPUs if that is less.
        share: What part of it this process takes; by default all.

    Shape:
        Each batch: (B, channels, *image_size) and (B,), where B is batch_size / (processes x accumulate).

    Raises:
        ValueError: An argument out of its range.
        DataError: A class with too few images to hold one out.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction has to be above 0 and below 1, but got {val_fraction}")
    if batch_size < 1:
        raise ValueError(f"batch_size has to be a positive integer, but got {batch_size}")
    if workers is None:
        workers = 0 if isinstance(source.train, ArrayImages) else min(4, os.cpu_count() or 1)
    if workers < 0:
        raise ValueError(f"workers has to be 0 or a positive integer, but got {workers}")

    plain = preprocessing.transform(augment=False)
    if source.val is None:
        kept, held = stratified_split(source.train.targets, source.classes, val_fraction, seed)
        val = _part(source.train, held, plain, share)
    else:
        kept = list(range(len(source.train)))
        val = _part(source.val, range(len(source.val)), plain, share)
    test = _part(source.test, range(len(source.test)), plain, share)
    train = Transformed(source.train, kept, preprocessing.transform(augment), seed)
    order = Order(len(kept), batch_size, seed, share.process, share.processes, share.processes * share.accumulate)

    def batches(images: Transformed) -> Batches:
        return DataLoader(
            images,
            order.batch_size,
            sampler=order if images is train else None,
            num_workers=workers,
            generator=torch.Generator().manual_seed(seed),  # of the workers' own numbers, which nothing uses
            persistent_workers=workers > 0,
        )

    return Loaders(batches(train), batches(val), batches(test))


def _part(
    images: LabelledImages, indices: Sequence[int], transform: Callable[[Image.Image], Tensor], share: Share
) -> Transformed:
    """Every n-th of the images for each of n processes: none twice, none left out."""
    return Transformed(images, indices[share.process :: share.processes], transform)
