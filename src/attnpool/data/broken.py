"""Leave out the images that cannot be read, all of them found before training starts."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count

from PIL import Image
from torch.utils.data import Dataset

from attnpool.data.arrays import ArrayImages
from attnpool.data.images import BrokenImageError
from attnpool.data.source import DataError, LabelledImages, Source, Stream

Broken = tuple[str, str]  # file, reason


class ChosenImages(Dataset[tuple[Image.Image, int]]):
    """`images` at `indices` only, as a split of a source."""

    def __init__(self, images: LabelledImages, indices: Sequence[int]) -> None:
        self.images = images
        self.indices = indices
        targets = images.targets
        self.targets = [targets[index] for index in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.images[self.indices[index]]


def without_broken(
    source: Source, *, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> tuple[Source, list[Broken]]:
    """The source without the images that cannot be read, and which these are: each image file is decoded once.

    Args:
        source: With its images at hand.
        workers: Threads that decode; by default the number of CPUs, at most 8.
        progress: Called after each image with how many are done, and of how many.

    Raises:
        DataError: A class that would lose all its images of a split, or a stream.
    """
    splits = {"train": source.train, "val": source.val, "test": source.test}
    files: dict[str, LabelledImages] = {}
    for name, images in splits.items():
        if isinstance(images, Stream):
            raise DataError(f"on_bad_image has to be error for a stream, which is not read beforehand: {source.name}")
        if images is not None and not isinstance(images, ArrayImages):
            files[name] = images
    total = sum(map(len, files.values()))
    broken: list[Broken] = []
    kept: dict[str, ChosenImages] = {}
    done = count(1)
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        for name, images in files.items():
            whole = []
            for index, found in enumerate(pool.map(partial(_broken, images), range(len(images)))):
                whole += [] if found else [index]
                broken += [found] if found else []
                if progress:
                    progress(next(done), total)
            kept[name] = ChosenImages(images, whole)
            _check(source, name, images, kept[name])
    return (replace(source, **kept) if broken else source), broken  # type: ignore[arg-type]


def _broken(images: LabelledImages, index: int) -> Broken | None:
    try:
        images[index]
    except BrokenImageError as error:
        return error.file, error.reason
    return None


def _check(source: Source, split: str, before: LabelledImages, after: ChosenImages) -> None:
    for label in sorted({*before.targets} - {*after.targets}):
        raise DataError(
            f"each class has to have an image that can be read, but {source.classes[label]!r} has none in {split} of "
            f"{source.name}"
        )
