"""Which layers are looked at for class activation."""

from torch import Tensor, nn

from attnpool.detection.levels import Levels
from attnpool.registry import POOLS
from attnpool.visualise._watch import Images, watch

LEAST = 4
"""Rows and columns that a map needs to show where something is."""


def last_maps(model: nn.Module, x: Images) -> tuple[str, ...]:
    """Paths of the stages that a detector's head looks at; of a classifier the last layer with a map of some size.

    Of a network of `create_model` the layers that count are the ends of its stages.

    Raises:
        ValueError: if no layer makes a map.
    """
    for path, module in model.named_modules():
        if isinstance(module, Levels):
            looked_at = [
                module.features.net.stage_outputs[i].path for i in module.stages[module.skipped :] if i is not None
            ]
            return tuple(f"{path}.features.net.{stage}" for stage in looked_at)
    pools = tuple(f"{path}." for path, module in model.named_modules() if path and isinstance(module, POOLS.classes))
    seen = watch(model, x, lambda _: True)
    maps = {path: made for path, (_, made) in seen.items() if path and isinstance(made, Tensor) and made.ndim == 4}
    maps = {path: made for path, made in maps.items() if not path.startswith(pools)}  # which are weights
    ends = [stage.path for stage in getattr(model, "stage_outputs", ())] or [*maps]
    large = [path for path in ends if min(maps[path].shape[-2:]) >= LEAST]
    if not maps:
        raise ValueError("model has to have a layer that makes a map, but has none")
    return (large[-1] if large else max(ends, key=lambda path: maps[path].shape[-1]),)
