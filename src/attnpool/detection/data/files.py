"""Image files and the boxes in them: read when they are asked for, with the rules that every format shares."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from attnpool.data.images import read_image
from attnpool.data.source import DataError
from attnpool.detection.data.source import Boxes

TURNED = " (the pixels as stored: if EXIF turns it, store it upright, as it was annotated)"


class ImageFile(NamedTuple):
    """Where an image lies, and what its annotations say of it: its size in pixels, and its number."""

    path: str
    width: int
    height: int
    image_id: int


class Mark(NamedTuple):
    """One object: the position of its image, its box (left, top, right, bottom) in pixels, and its label from 1."""

    image: int
    box: tuple[float, float, float, float]
    label: int
    crowd: bool = False
    area: float | None = None  # in pixels; None: that of the box


class MarkedFiles:
    """Images and the marks on them, as `BoxImages`.

    Boxes are clipped to their images. Those of which nothing is left are left out.

    Args:
        files: The images.
        marks: The objects on them, in any order; those of an image stay in theirs.

    Attributes:
        dropped: How many boxes were left out, by the reason.
    """

    def __init__(self, files: Sequence[ImageFile], marks: Sequence[Mark]) -> None:
        self.files = list(files)
        owners = torch.tensor([mark.image for mark in marks], dtype=torch.int64)
        boxes = torch.tensor([mark.box for mark in marks], dtype=torch.float32).reshape(-1, 4)
        sizes = torch.tensor([(file.width, file.height) for file in files], dtype=torch.float32)
        clipped = boxes.clamp(min=0).minimum(sizes[owners].repeat(1, 2))
        flat = _flat(boxes)
        outside = _flat(clipped) & ~flat
        counts = {"no width or height": int(flat.sum()), "outside the image": int(outside.sum())}
        self.dropped = {reason: count for reason, count in counts.items() if count}
        kept = torch.nonzero(~flat & ~outside).flatten()
        order = kept[owners[kept].argsort(stable=True)]
        self._boxes = clipped[order]
        self._labels = torch.tensor([mark.label for mark in marks], dtype=torch.int64)[order]
        self._crowd = torch.tensor([mark.crowd for mark in marks], dtype=torch.bool)[order]
        areas = torch.tensor([-1 if mark.area is None else mark.area for mark in marks], dtype=torch.float32)[order]
        self._area = torch.where(areas < 0, (self._boxes[:, 2:] - self._boxes[:, :2]).prod(1), areas)
        self._ends = torch.bincount(owners[order], minlength=len(self.files)).cumsum(0)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Image.Image, Boxes]:
        """The image as RGB, its pixels as they are stored, and its boxes.

        Raises:
            BrokenImageError: An image that cannot be read.
            DataError: An image of another size than its annotations say.
        """
        file = self.files[index]
        image = read_image(file.path)
        if image.size != (file.width, file.height):
            turned = image.size == (file.height, file.width)
            raise DataError(
                f"size of {file.path} has to be {file.width} x {file.height}, as its annotations say, but is "
                f"{image.width} x {image.height}{TURNED if turned else ''}"
            )
        return image, self.annotations(index)

    def annotations(self, index: int) -> Boxes:
        """The boxes of an image."""
        part = slice(int(self._ends[index - 1]) if index else 0, int(self._ends[index]))
        return Boxes(
            self._boxes[part], self._labels[part], self._crowd[part], self._area[part], self.files[index].image_id
        )

    def file(self, index: int) -> str:
        """Where an image lies."""
        return self.files[index].path

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image, in pixels, as its annotations say."""
        return self.files[index].height, self.files[index].width


def _flat(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] <= boxes[:, :2]).any(1)
