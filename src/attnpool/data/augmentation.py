"""How training images are varied at random: what may be drawn, and the transforms that draw it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from timm.data import create_transform
from timm.data.random_erasing import RandomErasing
from torchvision.transforms import v2

Crop = Literal["pad", "resized"]
TrainInterpolation = Literal["bilinear", "bicubic", "random"]
Transforms = list[Callable[[Any], Any]]


@dataclass(frozen=True)
class Augmentation:
    """Random crop, flip, change of geometry and colours, and erasing, in this order; the names are those of timm.

    Its transforms draw from `random`, `numpy.random` and torch's global generators: `randomness(...)` seeds all three.

    Args:
        crop: "pad" moves the image by up to 1/8 of its sides and mirrors what comes in at its borders; "resized" cuts
            out a part and resizes it (Szegedy et al., CVPR 2015).
        scale: Smallest and largest part of the area that "resized" cuts out.
        ratio: Smallest and largest width / height of what "resized" cuts out.
        hflip: Probability of flipping left to right.
        auto_augment: RandAugment (rand-m9-mstd0.5, rand-m7-n3-inc1), AutoAugment (original, v0, v0r-mstd0.5), AugMix
            (augmix-m3-w3) as timm writes them, or trivial: TrivialAugment (Müller and Hutter, ICCV 2021); "" is none.
        color_jitter: Largest relative change of brightness, contrast and saturation.
        reprob: Probability of erasing a rectangle of 2 to 33 % of the area, by normal noise (Zhong et al., AAAI 2020).
        interpolation: Of "resized", and of the changes of geometry: bilinear, bicubic or, for each image, random.

    Raises:
        ValueError: An argument that breaks its rule.
    """

    crop: Crop = "pad"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    auto_augment: str = ""
    color_jitter: float = 0.0
    reprob: float = 0.0
    interpolation: TrainInterpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.crop not in get_args(Crop):
            raise ValueError(f"crop has to be pad or resized, but got {self.crop!r}")
        if self.interpolation not in get_args(TrainInterpolation):
            raise ValueError(f"interpolation has to be bilinear, bicubic or random, but got {self.interpolation!r}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale has to be two numbers above 0, at most 1, the smaller first, but got {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio has to be two numbers above 0, the smaller first, but got {self.ratio}")
        for name, value in (("hflip", self.hflip), ("reprob", self.reprob)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} has to be from 0 to 1, but got {value}")
        if self.color_jitter < 0:
            raise ValueError(f"color_jitter has to be at least 0, but got {self.color_jitter}")
        if self.auto_augment and self.color_jitter and self.auto_augment.partition("-")[0] != "3a":
            raise ValueError(
                f"color_jitter has to be 0 beside auto_augment {self.auto_augment}, which changes the colours itself, "
                f"but got {self.color_jitter}"
            )
        self._check_auto_augment()

    def _check_auto_augment(self) -> None:
        try:
            if not re.fullmatch(r"(\w+(-([a-z]+\d[\d.]*|t[a-z]\w*))*)?", self.auto_augment):
                raise ValueError("timm leaves out what it does not understand")
            self.varied((32, 32), (0.5, 0.5, 0.5))
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "auto_augment has to be trivial or a text of timm such as rand-m9-mstd0.5, original or augmix-m3-w3, "
                f"but got {self.auto_augment!r}"
            ) from error

    def cropped(self, image_size: tuple[int, int], resize: v2.Transform) -> Transforms:
        """The first part, from a PIL image of any size to one of `image_size`.

        Args:
            image_size: (height, width) in pixels.
            resize: What brings an image to `image_size` where none is cut out.
        """
        height, width = image_size
        if self.crop == "resized":
            return [self._timm(image_size)[0]]
        shift = v2.RandomCrop(image_size, padding=(width // 8, height // 8), padding_mode="reflect")
        return [resize, shift, *([v2.RandomHorizontalFlip(self.hflip)] if self.hflip else ())]

    def varied(self, image_size: tuple[int, int], mean: tuple[float, ...]) -> Transforms:
        """The second part, from an RGB image to one of the same size.

        Args:
            image_size: (height, width) in pixels, of which shifts take a part.
            mean: Of the pixels of each channel, from 0 to 1: what fills the corners of a rotated image.
        """
        if self.auto_augment == "trivial":
            return [v2.TrivialAugmentWide(fill=[255 * value for value in mean])]
        return [self._timm(image_size, mean)[1]] if self.auto_augment or self.color_jitter else []

    def erased(self) -> Transforms:
        """The last part, on a normalised tensor of shape (channels, height, width)."""
        return [RandomErasing(self.reprob, mode="pixel", device="cpu")] if self.reprob else []

    def _timm(self, image_size: tuple[int, int], mean: tuple[float, ...] = (0.5, 0.5, 0.5)) -> tuple[Any, Any, Any]:
        parts: tuple[Any, Any, Any] = create_transform(
            image_size,
            is_training=True,
            scale=self.scale,
            ratio=self.ratio,
            hflip=self.hflip,
            color_jitter=self.color_jitter,
            auto_augment=self.auto_augment or None,
            interpolation=self.interpolation,
            mean=mean,
            separate=True,
        )
        return parts
