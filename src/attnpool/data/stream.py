"""Batches of a stream: which process and which of its workers reads which shards, in which order."""

import random
from collections.abc import Callable, Iterator
from itertools import accumulate, chain, islice
from math import ceil

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

from attnpool.data.order import Order
from attnpool.data.randomness import randomness
from attnpool.data.source import DataError, Stream

BUFFER = 2048  # images, not yet decoded, that a worker mixes
Sample = tuple[int, Callable[[], Image.Image], int]  # index in the stream, image, label


class StreamBatches(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches of (images, labels) of the shards of one process, each shard read by one of its workers.

    With an order, for training: the shards are dealt out anew in every epoch, and each worker mixes what it reads. The
    numbers that a random transform draws come from (seed, epoch, index of the image). All processes give equally many
    batches, so that an image may come twice in an epoch and another not at all, as many as the shards of two workers
    differ by, or as a batch holds; not so where one process with at most one worker reads all. A run that goes on
    within an epoch reads, without decoding, what it has taken before: the same batches follow if the numbers of
    processes and workers are the same.

    Without, for evaluation: all images of the process, each once, in their order.

    Args:
        images: The stream.
        transform: From a PIL image to a tensor.
        batch_size: Images a batch.
        order: Seed, epoch and share of this process in training.
        process, processes: Rank of this process and number of all, in evaluation.
        workers: Processes that read for this process; more than shards are not used.

    Raises:
        DataError: Fewer shards than processes.
    """

    def __init__(
        self,
        images: Stream,
        transform: Callable[[Image.Image], Tensor],
        batch_size: int,
        order: Order | None = None,
        *,
        process: int = 0,
        processes: int = 1,
        workers: int = 0,
    ) -> None:
        self.images, self.transform, self.batch_size, self.order = images, transform, batch_size, order
        self.process = process if order is None else order.process
        self.processes = processes if order is None else order.processes
        if order and len(images.lengths) < self.processes:
            raise DataError(f"a stream has to have a file for each process, but has {len(images.lengths)} files")
        self.firsts = [0, *accumulate(images.lengths)]
        self.workers = min(workers, len(self._shards(range(len(images.lengths)))))

    def __len__(self) -> int:
        """Batches of this process in a whole epoch."""
        if self.order:
            return len(self.order) // self.order.batch_size
        shards = self._shards(range(len(self.images.lengths)))
        parts = [shards[worker :: max(1, self.workers)] for worker in range(max(1, self.workers))]
        return sum(ceil(sum(self.images.lengths[shard] for shard in part) / self.batch_size) for part in parts)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        samples = self._drawn(worker, workers) if self.order else self._read(worker, workers)
        while batch := [*islice(samples, self.batch_size)]:
            yield default_collate([(self._transformed(*sample), sample[2]) for sample in batch])

    def _transformed(self, index: int, image: Callable[[], Image.Image], _: int) -> Tensor:
        if self.order is None:
            return self.transform(image())
        with randomness(self.order.seed, self.order.epoch, index):
            return self.transform(image())

    def _shards(self, order: range | list[int]) -> list[int]:
        return [*order[self.process :: self.processes]]

    def _read(self, worker: int, workers: int, order: list[int] | None = None) -> Iterator[Sample]:
        for shard in self._shards(order or range(len(self.images.lengths)))[worker::workers]:
            for position, (image, label) in enumerate(self.images.read(shard)):
                yield self.firsts[shard] + position, image, label

    def _drawn(self, worker: int, workers: int) -> Iterator[Sample]:
        """The share of one worker of n: it gives every n-th batch, the first worker the first that is not skipped."""
        from webdataset.filters import shuffle

        assert self.order
        skipped = self.order.skipped // self.batch_size
        worker = (worker + skipped) % workers
        numbers = (self.order.seed, self.order.epoch)
        order = np.random.default_rng(numbers).permutation(len(self.images.lengths)).tolist()
        mixer = random.Random(repr((*numbers, self.process, worker)))
        mixed = shuffle(BUFFER, initial=BUFFER, rng=mixer)
        passes = (mixed(self._read(worker, workers, order)) for _ in iter(int, 1))
        taken, total = (len(range(worker, batches, workers)) * self.batch_size for batches in (skipped, len(self)))
        yield from islice(chain.from_iterable(passes), taken, total)


class StreamLoader:
    """A `DataLoader` of `StreamBatches`, as long as they are, whose `sampler` sets the epoch.

    Args:
        dataset: What to load.
    """

    def __init__(self, dataset: StreamBatches) -> None:
        self.dataset = dataset
        self.batch_size = dataset.batch_size
        self.num_workers = dataset.workers
        self.sampler = dataset.order
        self._seeds = torch.Generator().manual_seed(0)  # of the workers' own numbers, which nothing uses

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            self.dataset, batch_size=None, num_workers=self.num_workers, generator=self._seeds
        )
        return iter(loader)
