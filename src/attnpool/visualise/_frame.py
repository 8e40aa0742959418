"""Which part of a network's maps shows the image: detectors fill images up, so that all of a batch are of one size."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attnpool.models.features import StageFeatures
from attnpool.visualise._watch import Images, watch


@dataclass(frozen=True)
class Frame:
    """Sizes in pixels of what the layers get, (height, width).

    Args:
        size: All of it: what maps are maps of.
        shown: The part, from the upper left, that shows the image; the rest is filled up.
    """

    size: tuple[int, int]
    shown: tuple[int, int]


def frame_of(model: nn.Module, x: Images) -> Frame:
    """The frame of the first image."""
    if isinstance(x, Tensor):
        size = (x.shape[-2], x.shape[-1])
        return Frame(size, size)
    transform: Any = getattr(model, "transform", None)
    seen = watch(model, x, lambda module: isinstance(module, StageFeatures) or module is transform)
    size = next(tuple(given[0].shape[-2:]) for given, made in seen.values() if isinstance(made, list))
    filled = seen.get("transform")
    return Frame(size, size if filled is None else tuple(filled[1][0].image_sizes[0]))
