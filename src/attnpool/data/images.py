"""Reading one image file, for training and prediction alike."""

from pathlib import Path
from typing import IO

from PIL import Image

from attnpool.data.source import DataError


def read_image(file: str | Path | IO[bytes], name: str = "") -> Image.Image:
    """The image in `file` as RGB.

    Args:
        file: Path, or a file that is open.
        name: What errors call it; by default the path.

    Raises:
        DataError: naming the file, if it is missing, broken, or has more than 8 bits a channel (Pillow would clip).
    """
    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"more than 8 bits a channel (mode {image.mode})")
            return image.convert("RGB")
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise DataError(f"cannot read the image {name or file}: {type(error).__name__}: {error}") from error
