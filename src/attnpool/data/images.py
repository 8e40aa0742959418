"""Reading one image file, for training and prediction alike."""

from pathlib import Path
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError

from attnpool.data.source import DataError

_REASONS: dict[type[Exception], str] = {
    FileNotFoundError: "there is no such file",
    IsADirectoryError: "it is a folder, not a file",
    UnidentifiedImageError: "it is of no kind Pillow knows",
}


class BrokenImageError(DataError):
    """An image that cannot be read.

    Args:
        message: One line with both of the following.
        file: Which image.
        reason: Why not.
    """

    def __init__(self, message: str, file: str = "", reason: str = "") -> None:  # a worker's copy has the message only
        super().__init__(message)
        self.file = file
        self.reason = reason


def read_image(file: str | Path | IO[bytes], name: str = "", *, upright: bool = False) -> Image.Image:
    """The image in `file` as RGB.

    Args:
        file: Path, or a file that is open.
        name: What errors call it; by default the path.
        upright: Turn and flip a photograph as its EXIF orientation says; else its pixels are as they are stored, which
            is what boxes are drawn on and published data sets are read as (but of a TIFF, which Pillow always turns).

    Raises:
        BrokenImageError: naming the file, if it is missing, broken, or has more than 8 bits a channel (Pillow would
            clip).
    """
    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"more than 8 bits a channel (mode {image.mode})")
            if upright:
                ImageOps.exif_transpose(image, in_place=True)
            return image.convert("RGB")
    except Exception as error:  # Pillow's decoders raise errors of many types
        reason = _REASONS.get(type(error)) or " ".join(f"{type(error).__name__}: {error}".split())
        raise BrokenImageError(f"cannot read the image {name or file}: {reason}", name or str(file), reason) from error
