"""From a source to batches for training, validation and test."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from attnpool.data.arrays import ArrayImages
from attnpool.data.preprocessing import Preprocessing
from attnpool.data.source import Source
from attnpool.data.split import stratified_split
from attnpool.data.transformed import Transformed

Batches = DataLoader[tuple[Tensor, int]]


@dataclass(frozen=True)
class Loaders:
    """Batches of (images, labels); only `train` is shuffled and, if asked for, augmented."""

    train: Batches
    val: Batches
    test: Batches


def make_loaders(
    source: Source,
    preprocessing: Preprocessing,
    *,
    batch_size: int = 128,
    val_fraction: float = 0.1,
    augment: bool = False,
    seed: int = 0,
    workers: int | None = None,
) -> Loaders:
    """Loaders of the three splits; validation is a stratified hold-out of the training data unless the source has one.

    The same arguments give the same batches; the global random state is neither read nor changed.

    Args:
        source: Where the images come from.
        preprocessing: What happens to each image.
        batch_size: Images a batch. The last, smaller batch of a larger training set is dropped.
        val_fraction: Part of each class of the training data held out for validation, above 0 and below 1.
        augment: Whether training images are randomly cropped and flipped.
        seed: Of the hold-out, the order and the augmentation.
        workers: Processes a loader; by default 0 for arrays in memory, else 4 or the number of CPUs if that is less.

    Shape:
        Each batch: (batch_size, channels, *image_size) and (batch_size,).

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
        val = Transformed(source.train, held, plain)
    else:
        kept = list(range(len(source.train)))
        val = Transformed(source.val, range(len(source.val)), plain)
    test = Transformed(source.test, range(len(source.test)), plain)
    draws = torch.Generator().manual_seed(seed) if augment else None
    train = Transformed(source.train, kept, preprocessing.transform(augment), draws)

    def batches(images: Transformed, shuffle: bool = False) -> Batches:
        return DataLoader(
            images,
            batch_size,
            shuffle=shuffle,
            num_workers=workers,
            drop_last=shuffle and len(images) > batch_size,
            generator=torch.Generator().manual_seed(seed),
            persistent_workers=workers > 0,
        )

    return Loaders(batches(train, shuffle=True), batches(val), batches(test))
