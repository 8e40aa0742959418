"""Some of the images of a split, each through a transform."""

from collections.abc import Callable, Sequence

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from attnpool.data.order import Draw
from attnpool.data.randomness import randomness
from attnpool.data.source import LabelledImages


class Transformed(Dataset[tuple[Tensor, int]]):
    """`images` at `indices`, transformed.

    Asked for a position, it applies the transform as it is. Asked for (position, epoch), it lets a random transform
    draw from (seed, epoch, image) alone: what comes out depends neither on what was drawn before nor on the process.

    Args:
        images: A split of a source.
        indices: Which of its images, in which order.
        transform: From a PIL image to a tensor.
        seed: Of a random transform.
    """

    def __init__(
        self,
        images: LabelledImages,
        indices: Sequence[int],
        transform: Callable[[Image.Image], Tensor],
        seed: int = 0,
    ) -> None:
        self.images = images
        self.indices = indices
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: int | Draw) -> tuple[Tensor, int]:
        if isinstance(draw, int):
            image, label = self.images[self.indices[draw]]
            return self.transform(image), label
        position, epoch = draw
        index = self.indices[position]
        image, label = self.images[index]
        with randomness(self.seed, epoch, index):
            return self.transform(image), label
