"""A network from what a user calls it by: an architecture string, a spec, or a checkpoint."""

from pathlib import Path
from typing import Any

from torch import nn

from attnpool.models.build import create_model
from attnpool.models.checkpoint import DESCRIPTION, load, makers
from attnpool.spec import GRAMMAR, ModelSpec, SpecError


def open_network(source: str | ModelSpec | nn.Module, **settings: Any) -> nn.Module:
    """The network that is meant; of a detector its layers, from an image tensor to what its heads say.

    Args:
        source: An architecture string (DETECTOR:ARCHITECTURE for a detector) or spec, the folder of a checkpoint, or a
            network, which is returned as it is.
        settings: Fields of `ModelSpec` that an architecture string cannot say; a checkpoint has its own.

    Raises:
        SpecError: if it is neither a checkpoint nor a valid string, or if a checkpoint is given settings.
        CheckpointError: if the checkpoint cannot be read.
    """
    if isinstance(source, nn.Module):
        return source
    if isinstance(source, str) and is_checkpoint(source):
        if settings:
            raise SpecError(f"{sorted(settings)[0]} has to be left out for a checkpoint, which has its own")
        return _layers(load(source))
    if isinstance(source, str) and ":" in source:
        parse_detector, build_detector = makers(source)
        return _layers(build_detector(parse_detector(source, **settings)))
    try:
        return create_model(source, **settings)
    except SpecError as error:
        if isinstance(source, str) and ("/" in source or source.count("-") < 2):
            raise SpecError(f"network has to be the folder of a checkpoint or {GRAMMAR}, but got {source!r}") from error
        raise


def _layers(network: Any) -> nn.Module:
    layers: nn.Module = network.raw() if hasattr(network, "raw") else network
    return layers


def is_checkpoint(source: str) -> bool:
    """Whether it names a folder rather than an architecture."""
    return (Path(source) / DESCRIPTION).is_file() or Path(source).is_dir()
