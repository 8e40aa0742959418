"""Some of the images of a split, each through a transform."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from attnpool.data.order import Draw
from attnpool.data.randomness import kept, seed_all
from attnpool.data.source import LabelledImages


class Transformed(Dataset[tuple[Tensor, int]]):
    """`images` at `indices`, transformed.

    Asked for a position, it applies the transform as it is. Asked for (position, epoch), it lets a random transform
    draw from (seed, epoch, image) alone: what comes out depends neither on what was drawn before nor on the process.

    Args:
        images: A split of a source.
        indices: Which of its images, in which order.
        transform: From a PIL image to a tensor.
        seed: Of a random transform; None: it is not random.
    """

    def __init__(
        self,
        images: LabelledImages,
        indices: Sequence[int],
        transform: Callable[[Image.Image], Tensor],
        seed: int | None = None,
    ) -> None:
        self.images = images
        self.indices = indices
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: int | Draw) -> tuple[Tensor, int]:
        return self.__getitems__([draw])[0]

    def __getitems__(self, draws: Sequence[int | Draw]) -> list[tuple[Tensor, int]]:
        """A batch, for which the states of the generators are put back once."""
        with nullcontext() if self.seed is None else kept():
            return [self._draw(*(draw if isinstance(draw, tuple) else (draw, None))) for draw in draws]

    def _draw(self, position: int, epoch: int | None) -> tuple[Tensor, int]:
        index = self.indices[position]
        image, label = self.images[index]
        if self.seed is not None and epoch is not None:
            seed_all(self.seed, epoch, index)
        return self.transform(image), label
