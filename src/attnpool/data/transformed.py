"""Some of the samples of a split, each through a transform."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Generic, Protocol, TypeVar

from torch.utils.data import Dataset

from attnpool.data.order import Draw
from attnpool.data.randomness import kept, seed_all

Sample = TypeVar("Sample")
Read = TypeVar("Read", covariant=True)
Made = TypeVar("Made")


class Samples(Protocol[Read]):
    """What is read by its position: an image with its label, or with its boxes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Read: ...


class Transformed(Dataset[Made], Generic[Sample, Made]):
    """`images` at `indices`, transformed.

    Asked for a position, it applies the transform as it is. Asked for (position, epoch), it lets a random transform
    draw from (seed, epoch, image) alone: what comes out depends neither on what was drawn before nor on the process.

    Args:
        images: A split of a source: (image, label), or (image, boxes).
        indices: Which of its images, in which order.
        transform: From such a pair to what a batch is made of.
        seed: Of a random transform; None: it is not random.
    """

    def __init__(
        self,
        images: Samples[Sample],
        indices: Sequence[int],
        transform: Callable[[Sample], Made],
        seed: int | None = None,
    ) -> None:
        self.images = images
        self.indices = indices
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: int | Draw) -> Made:
        return self.__getitems__([draw])[0]

    def __getitems__(self, draws: Sequence[int | Draw]) -> list[Made]:
        """A batch, for which the states of the generators are put back once."""
        with nullcontext() if self.seed is None else kept():
            return [self._draw(*(draw if isinstance(draw, tuple) else (draw, None))) for draw in draws]

    def _draw(self, position: int, epoch: int | None) -> Made:
        index = self.indices[position]
        sample = self.images[index]
        if self.seed is not None and epoch is not None:
            seed_all(self.seed, epoch, index)
        return self.transform(sample)
