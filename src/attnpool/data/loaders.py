"""From a source to batches for training, validation and test."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from attnpool.data.arrays import ArrayImages
from attnpool.data.augmentation import Augmentation
from attnpool.data.order import Order
from attnpool.data.preprocessing import Preprocessing
from attnpool.data.source import DataError, Source, Stream
from attnpool.data.split import stratified_split
from attnpool.data.stream import StreamBatches, StreamLoader
from attnpool.data.transformed import Transformed

Batches = DataLoader[tuple[Tensor, int]] | StreamLoader
Images = Transformed[tuple[Image.Image, int], tuple[Tensor, int]]


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

    @property
    def order(self) -> Order:
        """Of the training images."""
        order: Any = self.train.sampler
        return order

    @property
    def stream_workers(self) -> int | None:
        """Processes that read the training images, if they are a stream: its order depends on them."""
        return self.train.num_workers if isinstance(self.train, StreamLoader) else None


ALL = Share()


def make_loaders(
    source: Source,
    preprocessing: Preprocessing,
    *,
    batch_size: int = 128,
    val_fraction: float = 0.1,
    augment: Augmentation | bool | None = False,
    seed: int = 0,
    workers: int | None = None,
    share: Share = ALL,
) -> Loaders:
    """Loaders of the three splits; validation is a stratified hold-out of the training data unless the source has one.

    The same arguments give the same batches, whatever the number of workers; the order and the augmentation of an epoch
    do not depend on the epochs before; and the processes of a run together take the batches that one alone would. The
    global random state is neither read nor changed. A stream is read by its files, so that there the batches depend on
    the numbers of processes and workers, and it has to come with all three splits.

    Args:
        source: Where the images come from.
        preprocessing: What happens to each image.
        batch_size: Images a step, all processes and accumulated batches together. The last, smaller batch of a larger
            training set is dropped.
        val_fraction: Part of each class of the training data held out for validation, above 0 and below 1.
        augment: How training images are varied at random; True is `Augmentation()`, None and False are not at all.
        seed: Of the hold-out, the order and the augmentation.
        workers: Processes a loader; by default 0 for arrays in memory, else 4 or the number of CPUs if that is less.
        share: What part of it this process takes; by default all.

    Shape:
        Each batch: (B, channels, *image_size) and (B,), where B is batch_size / (processes x accumulate).

    Raises:
        ValueError: An argument out of its range.
        DataError: A class with too few images to hold one out, or a stream that misses a split.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction has to be above 0 and below 1, but got {val_fraction}")
    workers = checked_workers(batch_size, workers, in_memory=isinstance(source.train, ArrayImages))

    plain, random = preprocessing.transform(), preprocessing.transform(augment)
    train, val, test = source.train, source.val, source.test
    if isinstance(train, Stream) or isinstance(val, Stream) or isinstance(test, Stream):
        return _stream_loaders(source, plain, random, batch_size, seed, workers, share)
    if val is None:
        kept, held = stratified_split(train.targets, source.classes, val_fraction, seed)
        validation = Transformed(train, shared(held, share), partial(_labelled, plain))
    else:
        kept = list(range(len(train)))
        validation = Transformed(val, shared(range(len(val)), share), partial(_labelled, plain))
    training = Transformed(train, kept, partial(_labelled, random), seed if augment else None)
    testing = Transformed(test, shared(range(len(test)), share), partial(_labelled, plain))
    order = Order(len(kept), batch_size, seed, share.process, share.processes, share.processes * share.accumulate)

    def batches(images: Images) -> Batches:
        return DataLoader(
            images,
            order.batch_size,
            sampler=order if images is training else None,
            num_workers=workers,
            generator=torch.Generator().manual_seed(seed),  # of the workers' own numbers, which nothing uses
            persistent_workers=workers > 0,
        )

    return Loaders(batches(training), batches(validation), batches(testing))


def checked_workers(batch_size: int, workers: int | None, in_memory: bool = False) -> int:
    """How many processes read images: as asked for, or by default none for images in memory, else up to 4.

    Raises:
        ValueError: for fewer than none, or a batch of none.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size has to be a positive integer, but got {batch_size}")
    if workers is None:
        workers = 0 if in_memory else min(4, os.cpu_count() or 1)
    if workers < 0:
        raise ValueError(f"workers has to be 0 or a positive integer, but got {workers}")
    return workers


def _stream_loaders(
    source: Source, plain: v2.Transform, random: v2.Transform, batch_size: int, seed: int, workers: int, share: Share
) -> Loaders:
    train, val, test = source.train, source.val, source.test
    if not (isinstance(train, Stream) and isinstance(val, Stream) and isinstance(test, Stream)):
        raise DataError(f"a stream cannot be split: {source.name} has to come with train, val and test as streams")
    order = Order(
        sum(train.lengths), batch_size, seed, share.process, share.processes, share.processes * share.accumulate
    )
    read = partial(StreamBatches, batch_size=order.batch_size, workers=workers)
    held = (read(images, plain, process=share.process, processes=share.processes) for images in (val, test))
    batches = (read(train, random, order=order), *held)
    return Loaders(*map(StreamLoader, batches))


def _labelled(transform: Callable[[Image.Image], Tensor], sample: tuple[Image.Image, int]) -> tuple[Tensor, int]:
    image, label = sample
    return transform(image), label


def shared(indices: Sequence[int], share: Share) -> Sequence[int]:
    """Every n-th of `indices` for each of n processes: none twice, none left out.

    Raises:
        DataError: Fewer images than processes.
    """
    if len(indices) < share.processes:
        raise DataError(
            f"each split has to have an image for each of {share.processes} processes, but has {len(indices)}"
        )
    return indices[share.process :: share.processes]
