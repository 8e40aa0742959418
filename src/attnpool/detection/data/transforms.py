"""How images and their boxes become what a detector takes, and how training images are varied at random."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from attnpool.data.folder import IMAGENET_MEAN
from attnpool.detection.data.source import Boxes

Crop = Literal["none", "iou"]
Target = dict[str, Tensor]


@dataclass(frozen=True)
class BoxAugmentation:
    """Random change of colours, scale, zooming out, crop and flip, in this order.

    Its transforms draw from torch's global generator on the CPU. What they move in from outside an image has the mean
    colour of ImageNet, and a box of which less than a pixel is left is left out.

    Args:
        hflip: Probability of flipping left to right.
        crop: "iou" cuts out a part that some box overlaps by at least a random fraction, and keeps the boxes whose
            centres are in it (Liu et al., SSD, ECCV 2016); "none" does not.
        zoom_out: Probability of putting the image on a canvas with sides up to 4 times as long (SSD).
        jitter: Probability of changing each of brightness, contrast, saturation, hue and the order of channels (SSD).
        scale: Smallest and largest factor by which the image is scaled around its middle. Its size stays, so that a
            detector that resizes images does not undo it.

    Raises:
        ValueError: An argument that breaks its rule.
    """

    hflip: float = 0.5
    crop: Crop = "none"
    zoom_out: float = 0.0
    jitter: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if self.crop not in get_args(Crop):
            raise ValueError(f"crop has to be none or iou, but got {self.crop!r}")
        for name, value in (("hflip", self.hflip), ("zoom_out", self.zoom_out), ("jitter", self.jitter)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} has to be from 0 to 1, but got {value}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale has to be two numbers above 0, the smaller first, but got {self.scale}")

    def transform(self) -> v2.Transform:
        """From (uint8 `tv_tensors.Image`, {"boxes": `tv_tensors.BoundingBoxes`, "labels"}) to the same, varied."""
        fill = [round(255 * mean) for mean in IMAGENET_MEAN]
        bilinear = v2.InterpolationMode.BILINEAR
        scaled = v2.RandomAffine(0, scale=self.scale, interpolation=bilinear, fill=fill)
        parts = {
            v2.RandomPhotometricDistort(p=self.jitter): self.jitter > 0,
            scaled: self.scale != (1.0, 1.0),
            v2.RandomZoomOut(fill=fill, p=self.zoom_out): self.zoom_out > 0,
            _IoUCrop(): self.crop == "iou",
            v2.RandomHorizontalFlip(self.hflip): self.hflip > 0,
        }
        return v2.Compose([*(part for part, used in parts.items() if used), v2.SanitizeBoundingBoxes()])


class _IoUCrop(v2.RandomIoUCrop):
    """Torchvision's, which fails where 0.3 to 1 of a side of 1 to 3 pixels is none; such an image stays as it is."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        try:
            params: dict[str, Any] = super().make_params(flat_inputs)
        except ZeroDivisionError:
            return {}
        return params


class Training:
    """From (RGB image, boxes) to an image and a target to train on: `boxes`, `labels`, `image_id`; crowds are left out.

    Args:
        augmentation: How the image is varied at random; None: not at all.

    Shape:
        Output: (3, H, W) float in 0..1, (N, 4) float, (N,) and () int64.
    """

    def __init__(self, augmentation: BoxAugmentation | None = None) -> None:
        self.varied = augmentation.transform() if augmentation else None

    def __call__(self, sample: tuple[Image.Image, Boxes]) -> tuple[Tensor, Target]:
        image, boxes = v2.functional.to_image(sample[0]), sample[1].where(~sample[1].crowd)
        marked = tv_tensors.BoundingBoxes(boxes.boxes, format="XYXY", canvas_size=image.shape[-2:])
        target = {"boxes": marked, "labels": boxes.labels}
        if self.varied:
            image, target = self.varied(image, target)
        image, target = v2.ToPureTensor()(_floats(image), target)
        return image, {**target, "image_id": torch.tensor(boxes.image_id)}


def for_evaluation(sample: tuple[Image.Image, Boxes]) -> tuple[Tensor, Target]:
    """From (RGB image, boxes) to an image and a target to measure with: all boxes, and what `MeanAP` asks for.

    Shape:
        Output: (3, H, W) float in 0..1; `boxes` (N, 4) float, `labels` (N,) int64, `crowd` (N,) bool, `area` (N,)
        float, `image_id` () int64, `size` (2,) int64, which is H and W.
    """
    image, boxes = sample
    target = {
        "boxes": boxes.boxes,
        "labels": boxes.labels,
        "crowd": boxes.crowd,
        "area": boxes.area,
        "image_id": torch.tensor(boxes.image_id),
        "size": torch.tensor((image.height, image.width)),
    }
    return v2.ToPureTensor()(_floats(v2.functional.to_image(image))), target


def _floats(image: Tensor) -> Tensor:
    floats: Tensor = v2.functional.to_dtype(image, torch.float32, scale=True)
    return floats
