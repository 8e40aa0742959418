"""Which images make which step: a function of seed and epoch, for any number of processes and from any step on."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

Draw = tuple[int, int]  # position of an image, epoch


class Order(Sampler[Draw]):
    """One process's share of a new random order in every epoch: `order[process::processes]`, with the epoch.

    Whatever the number of processes, step k of an epoch takes the images k * batch_size to (k + 1) * batch_size - 1 of
    the same order. An incomplete last step is left out unless it is the only one.

    Args:
        length: Images.
        batch_size: Images of one optimiser step, all processes together; a multiple of `parts`.
        seed: Of the order.
        process: Rank of this process.
        processes: How many share the images.
        parts: Into how many equal parts a step is cut: `processes` times the batches that are accumulated.

    Raises:
        ValueError: `batch_size` is no multiple of `parts`, or there are fewer images than parts.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int, process: int = 0, processes: int = 1, parts: int = 1
    ) -> None:
        if batch_size % parts:
            raise ValueError(
                f"batch_size has to be a multiple of {parts} (processes x accumulate), but got {batch_size}"
            )
        if length < parts:
            raise ValueError(f"data has to have {parts} images (processes x accumulate) to train on, but has {length}")
        self.images, self.seed, self.process, self.processes = length, seed, process, processes
        self.used = length // batch_size * batch_size if length > batch_size else length // parts * parts
        self.batch_size = min(batch_size, self.used) // parts  # images of one process's forward pass
        self.parts = parts
        self.epoch = self.skipped = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of `epoch` from now on; from its start, unless it is the one that `skip` named."""
        if epoch != self.epoch:
            self.epoch, self.skipped = epoch, 0

    def skip(self, epoch: int, images: int) -> None:
        """Start `epoch` after the first `images` of this process's share: a run that goes on has taken them."""
        self.epoch, self.skipped = epoch, images

    def __len__(self) -> int:
        """Images of this process in a whole epoch."""
        return self.used // self.processes

    def __iter__(self) -> Iterator[Draw]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.images)[: self.used]
        yield from ((image, self.epoch) for image in order[self.process :: self.processes][self.skipped :].tolist())
