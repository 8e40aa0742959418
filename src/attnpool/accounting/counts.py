"""What `profile` counts, without measuring anything and without `torch.export`: a fraction of a second."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from attnpool.accounting.compute import UncountedError
from attnpool.accounting.device import Footprint, footprint
from attnpool.accounting.graph import on_meta, record
from attnpool.accounting.int8 import in_int8
from attnpool.accounting.memory import ITEMSIZE, Memory, layers_of, measure
from attnpool.models.sites import device_and_dtype


@dataclass(frozen=True)
class Counts:
    """Operations and memory of a network on one image.

    Args:
        input_size: (channels, height, width) of the image, in pixels.
        params: Parameters.
        macs: Multiply-accumulates in float32, the products of attention included.
        memory: Of activations by four conventions, for float32 and int8.
        device: What it takes on a micro-controller.
    """

    input_size: tuple[int, int, int]
    params: int
    macs: int
    memory: dict[str, Memory]
    device: Footprint


def count(model: nn.Module, input_size: Sequence[int]) -> Counts:
    """Operations as they run, in eval mode, recorded without numbers; what `profile` finds by another way.

    Args:
        model: A network on one image tensor; it stays as it is.
        input_size: (channels, height, width) of the image, in pixels.

    Raises:
        UncountedError: for operations without a formula.
        RuntimeError: if the network cannot run on such images.
    """
    channels, height, width = input_size
    light = on_meta(model)
    image = torch.empty(1, channels, height, width, device="meta", dtype=device_and_dtype(model)["dtype"])
    recorded = partial(record, light, image)
    graphs = {"float32": recorded(), "int8": in_int8(recorded)}
    if uncounted := graphs["float32"].uncounted:
        raise UncountedError(uncounted)
    layers = layers_of(light)
    memory = {dtype: measure(graph, layers, ITEMSIZE[dtype]) for dtype, graph in graphs.items()}
    params = sum(p.numel() for p in model.parameters())
    takes = footprint(graphs["int8"], params)
    return Counts((channels, height, width), params, graphs["float32"].macs, memory, takes)
