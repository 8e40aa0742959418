"""What happens to an image before the network sees it; saved with the weights, so that prediction does the same."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import floor
from typing import Any, Literal, get_args

import torch
from timm.data.transforms import ResizeKeepRatio
from torchvision.transforms import v2

from attnpool.data.augmentation import Augmentation

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Preprocessing:
    """Resize, convert to grey or RGB, normalise.

    Args:
        image_size: (height, width) in pixels.
        channels: 1 (grey) or 3 (RGB).
        mean, std: In units of 0..1, one number a channel.
        crop_pct: Part of the sides that is kept, above 0 and at most 1. Below 1, the shorter side of the image is
            resized to image_size / crop_pct and the centre is cut out, as timm does; at 1, the whole image is resized,
            whatever its shape.
        interpolation: Of resizing: bilinear or bicubic.

    Raises:
        ValueError: An argument that breaks its rule.
    """

    image_size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float = 1.0
    interpolation: Interpolation = "bilinear"

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
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct has to be above 0 and at most 1, but got {self.crop_pct}")
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(f"interpolation has to be bilinear or bicubic, but got {self.interpolation!r}")

    def transform(self, augment: Augmentation | bool | None = None) -> v2.Transform:
        """From a PIL image to a normalised float tensor.

        Args:
            augment: How to vary the image at random; True is `Augmentation()`, None and False are not at all.

        Shape:
            Output: (channels, *image_size).
        """
        random = Augmentation() if augment is True else augment or None
        varied = random.varied(self.image_size, (self.mean * 3)[:3]) if random else []
        if varied and self.channels == 1:
            varied = [v2.RGB(), *varied, v2.Grayscale()]
        return v2.Compose(
            [
                v2.RGB() if self.channels == 3 else v2.Grayscale(),
                *(random.cropped(self.image_size, self._resize()) if random else [self._resize()]),
                *varied,
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(self.mean, self.std),
                v2.ToPureTensor(),
                *(random.erased() if random else ()),
            ]
        )

    def _resize(self) -> v2.Transform:
        if self.crop_pct == 1:
            return v2.Resize(self.image_size, v2.InterpolationMode(self.interpolation))
        height, width = (floor(size / self.crop_pct) for size in self.image_size)
        if height == width:
            shorter = v2.Resize(height, v2.InterpolationMode(self.interpolation))
        else:
            shorter = ResizeKeepRatio((height, width), interpolation=self.interpolation)
        return v2.Compose([shorter, v2.CenterCrop(self.image_size)])

    def to_dict(self) -> dict[str, Any]:
        """Itself as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`; what has a default may be missing.

        Raises:
            TypeError: Another key is missing, or unknown.
        """
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**fields)
