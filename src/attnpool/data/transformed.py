"""Some of the images of a split, each through a transform."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from attnpool.data.source import LabelledImages


class Transformed(Dataset[tuple[Tensor, int]]):
    """`images` at `indices`, transformed.

    Args:
        images: A split of a source.
        indices: Which of its images, in which order.
        transform: From a PIL image to a tensor.
        generator: Where a random transform draws from. A DataLoader worker draws from its own random state instead,
            which the generator of the loader has seeded.
    """

    def __init__(
        self,
        images: LabelledImages,
        indices: Sequence[int],
        transform: Callable[[Image.Image], Tensor],
        generator: torch.Generator | None = None,
    ) -> None:
        self.images = images
        self.indices = indices
        self.transform = transform
        self.generator = generator

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[self.indices[index]]
        if self.generator is None or get_worker_info() is not None:
            return self.transform(image), label
        with drawing_from(self.generator):
            return self.transform(image), label


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Within, the global CPU random numbers come from `generator`; afterwards their state is what it was before."""
    before = torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(torch.get_rng_state())
        torch.set_rng_state(before)
