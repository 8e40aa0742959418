"""Images that lie in memory as one uint8 array."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset


class ArrayImages(Dataset[tuple[Image.Image, int]]):
    """Labelled images of a uint8 array.

    Args:
        images: (N, H, W), (N, H, W, 1) or (N, H, W, 3).
        targets: N labels.
    """

    def __init__(self, images: NDArray[np.uint8], targets: Iterable[int]) -> None:
        self.images = images[..., 0] if images.shape[3:] == (1,) else images
        self.targets = [int(target) for target in targets]

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return 1 if self.images.ndim == 3 else 3

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), self.targets[index]


def pixel_statistics(images: NDArray[np.uint8], sample: int = 10_000) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in units of 0..1, over at most `sample` evenly spaced images."""
    images = images[:: -(-len(images) // sample)]
    pixels = images.reshape(-1, images.shape[3] if images.ndim == 4 else 1)  # (N * H * W, C)
    mean = pixels.mean(axis=0, dtype=np.float64)
    variance = np.square(pixels, dtype=np.uint16).mean(axis=0, dtype=np.float64) - mean**2
    std = np.maximum(np.sqrt(np.maximum(variance, 0)), 1)  # at least one grey level: constant images stay finite
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())
