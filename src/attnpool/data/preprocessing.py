"""What happens to an image before the network sees it; saved with the weights, so that prediction does the same."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torchvision.transforms import v2


@dataclass(frozen=True)
class Preprocessing:
    """Resize, convert to grey or RGB, normalise.

    Args:
        image_size: (height, width) in pixels.
        channels: 1 (grey) or 3 (RGB).
        mean, std: In units of 0..1, one number a channel.
    """

    image_size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.image_size) != 2 or not all(isinstance(size, int) and size >= 1 for size in self.image_size):
            raise ValueError(f"image_size has to be two positive integers (height, width), but got {self.image_size}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels has to be 1 or 3, but got {self.channels}")
        if not len(self.mean) == len(self.std) == self.channels or min(self.std) <= 0:
            raise ValueError(
                f"mean and std have to hold {self.channels} numbers (channels), std above 0, "
                f"but got {self.mean} and {self.std}"
            )

    def transform(self, augment: bool) -> v2.Transform:
        """From a PIL image to a normalised float tensor.

        Args:
            augment: Also crop at random after reflect padding by 1/8 of the size, and flip left to right at random.

        Shape:
            Output: (channels, *image_size).
        """
        height, width = self.image_size
        shift_and_flip = [
            v2.RandomCrop(self.image_size, padding=(width // 8, height // 8), padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
        ]
        return v2.Compose(
            [
                v2.RGB() if self.channels == 3 else v2.Grayscale(),
                v2.Resize(self.image_size),
                *(shift_and_flip if augment else ()),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(self.mean, self.std),
                v2.ToPureTensor(),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Itself as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`. A key that is missing or unknown is a `TypeError`."""
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**fields)
