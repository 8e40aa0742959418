"""Images that are too small for a network are refused."""

from bisect import bisect_left
from typing import Any

from attnpool.models.sites import trace_shapes


def check_size(model: Any, size: tuple[int, int]) -> None:
    """Refuse images that would be shrunk to nothing, before anything is written."""
    if not (reason := _refusal(model, size)):
        return
    larger = range(max(size) + 1, 513)
    index = bisect_left(larger, True, key=lambda side: not _refusal(model, (side, side)))
    enough = f"; {larger[index]} pixels a side would do" if index < len(larger) else ""
    raise ValueError(f"image_size has to suit {model.spec}, but got {size}: {reason}{enough}")


def _refusal(model: Any, size: tuple[int, int]) -> str:
    """Why the network cannot take images of a size, or nothing."""
    try:
        trace_shapes(model, size)
    except (RuntimeError, AssertionError, ValueError) as error:
        return str(error)
    return ""
