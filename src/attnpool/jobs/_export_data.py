"""The images of an export: some to calibrate with, others to compare on."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from attnpool.data.loaders import Batches, make_loaders
from attnpool.data.preprocessing import Preprocessing
from attnpool.data.source import Source

BATCH = 64


def spread(source: Source, preprocessing: Preprocessing, count: int, *, test: bool) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and labels (N) of the test or the training split, evenly spread over it, `count` at most."""
    loaders = make_loaders(source, preprocessing, batch_size=BATCH, workers=0)
    images, labels = [], []
    for some, of in _batches(loaders.test if test else loaders.train, count):
        images.append(some)
        labels.append(of)
    return torch.cat(images)[:count], torch.cat(labels)[:count]


def _batches(loader: Batches, count: int) -> Iterator[Any]:
    """Enough batches: of a stream the first ones."""
    data: Any = loader.dataset
    if not hasattr(data, "__len__"):
        for seen, batch in enumerate(loader):
            if seen * BATCH >= count:
                return
            yield batch
        return
    chosen = torch.linspace(0, len(data) - 1, min(count, len(data))).long().tolist()
    yield from DataLoader(Subset(data, chosen), batch_size=BATCH)
