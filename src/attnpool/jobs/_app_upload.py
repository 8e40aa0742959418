"""What the app takes: image files of the usual kinds, of no more pixels than a camera's."""

from typing import Any

from PIL import Image

from attnpool.data.images import BrokenImageError, read_image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""Pillow's names. It can read more, some of them by running other programs, which nobody's file shall do."""
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MOST = 50_000_000
"""Pixels: 150 MB when unpacked."""


def read_upload(file: str) -> Any:
    """The upright RGB image in a file that somebody dropped in.

    Raises:
        BrokenImageError: for what is none of `FORMATS`, is broken, or has more than `MOST` pixels; the file's name is
            left out, since it is that of a temporary one.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise BrokenImageError(f"the file has to be an image of the kinds {', '.join(FORMATS)}, but is none") from error
    if width * height > MOST:
        raise BrokenImageError(f"the image has to have {MOST:,} pixels at most, but has {width:,} x {height:,}")
    return read_image(file, "that was dropped in", upright=True)
