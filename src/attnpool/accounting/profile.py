"""Everything that a network costs, in one object: `attnpool.profile`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from attnpool.accounting.compute import UncountedError
from attnpool.accounting.device import Footprint, footprint
from attnpool.accounting.graph import Graph, on_meta, record_exported
from attnpool.accounting.int8 import in_int8
from attnpool.accounting.latency import Latency, measure_latency
from attnpool.accounting.layers import Layer, rows
from attnpool.accounting.memory import ITEMSIZE, Memory, layers_of, live_at, measure, peak_step
from attnpool.accounting.training import TrainingMemory, measure_training
from attnpool.models.network import is_checkpoint, open_network
from attnpool.models.sites import device_and_dtype
from attnpool.spec import ModelSpec

Dtype = Literal["float32", "float16", "bfloat16", "int8"]


@dataclass(frozen=True)
class LiveBuffer:
    """A piece of memory that is live at the peak: which layer made it, its shape, its bytes."""

    layer: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Profile:
    """What a network costs on one input.

    Args:
        name: Its architecture string, or its class.
        input_size: (channels, height, width) of the image, in pixels.
        batch: Images at a time; all figures but `params` and `weight_bytes` are for all of them.
        dtype: The type that bytes are counted for.
        params: Parameters.
        macs: Multiply-accumulates, the products of attention included; in int8 those of means of windows too, which are
            convolutions there.
        weight_bytes: Parameters times the bytes of the type; a quantised file has scales and wider biases besides.
        memory: Of activations, by four conventions.
        peak_layer: The layer that runs at the peak; peak_operation: its operation.
        live: What is live at the peak, the largest first.
        device: What it takes on a micro-controller; None for types other than int8.
        layers: What each layer costs, in the order they run.
        uncounted: Operations without a formula, counted as none; empty unless that was allowed.
        latency: Measured time; None if it was not asked for.
        training: Measured memory of a training step; None if it was not asked for, or the network cannot be trained on
            that batch: `untrained` says why.
        graph: The operations and buffers that all but the measurements come from.
    """

    name: str
    input_size: tuple[int, int, int]
    batch: int
    dtype: str
    params: int
    macs: int
    weight_bytes: int
    memory: Memory
    peak_layer: str
    peak_operation: str
    live: tuple[LiveBuffer, ...]
    device: Footprint | None
    layers: tuple[Layer, ...] = field(repr=False)
    uncounted: tuple[str, ...]
    latency: Latency | None
    training: TrainingMemory | None
    untrained: str
    graph: Graph = field(repr=False)

    @property
    def latency_ms(self) -> float | None:
        """Median milliseconds of a pass."""
        return None if self.latency is None else self.latency.median

    def to_dict(self) -> dict[str, Any]:
        """All figures, for JSON; the graph is left out."""
        values = {
            name: value for name, value in vars(self).items() if name not in ("graph", "memory", "live", "layers")
        }
        for name in ("device", "latency", "training"):
            part = getattr(self, name)
            values[name] = part and asdict(part)
        parts = {"live": [asdict(b) for b in self.live], "layers": [asdict(layer) for layer in self.layers]}
        return {**values, "latency_ms": self.latency_ms, "memory": asdict(self.memory), **parts}


def profile(
    model: nn.Module | ModelSpec | str,
    input_size: Sequence[int],
    *,
    dtype: Dtype = "float32",
    batch: int = 1,
    latency: bool = True,
    training: bool = True,
    allow_uncounted: bool = False,
) -> Profile:
    """Count and measure what a network costs on images of one size, in eval mode.

    Operations and memory are those of the graph that `torch.export` makes of it, attention in explicit products. Batch
    norms are folded, ReLU and ReLU6 fused, as in runtimes; constants made of parameters are no activations.

    Args:
        model: Any network on one image tensor, an architecture string or spec, or the folder of a checkpoint.
        input_size: (channels, height, width) of the image, in pixels.
        dtype: The type that bytes are counted for: float32, float16, bfloat16 or int8; measurements use the network's.
        batch: Images at a time.
        latency: Whether to measure the time of a pass, which takes up to a few seconds.
        training: Whether to measure the memory of a training step.
        allow_uncounted: Count operations that have no formula as none, and name them in the result.

    Raises:
        UncountedError: for operations without a formula.
        ValueError: if an argument breaks its rule, or the network cannot run on such images or be exported.
    """
    channels, height, width = _check(input_size, dtype, batch)
    if not isinstance(model, nn.Module):
        is_string = isinstance(model, str) and not is_checkpoint(model)
        model = open_network(model, **({"in_channels": channels} if is_string else {}))
    spec = getattr(model, "spec", None)
    spec = spec if hasattr(spec, "settings") else None  # a user's network may have something else of this name
    if isinstance(spec, ModelSpec) and spec.in_channels != channels:
        raise ValueError(f"input has to have the {spec.in_channels} channels of the network, but got {channels}")
    light, place = on_meta(model), device_and_dtype(model)
    image = torch.empty(batch, channels, height, width, device="meta", dtype=place["dtype"])
    record = partial(record_exported, light, image)
    graph = in_int8(record) if dtype == "int8" else record()
    if not graph.steps:
        raise ValueError(f"model has to compute something, but {type(model).__name__} does not")
    if graph.uncounted and not allow_uncounted:
        raise UncountedError(graph.uncounted)
    itemsize, params = ITEMSIZE[dtype], sum(p.numel() for p in model.parameters())
    at = peak_step(graph, itemsize)
    held = [graph.buffers[b] for b in live_at(graph, at)]
    time, held_in_training, untrained = _measured(model, image.shape, latency, training)
    return Profile(
        name=type(model).__name__ if spec is None else str(spec),
        input_size=(channels, height, width),
        batch=batch,
        dtype=dtype,
        params=params,
        macs=graph.macs,
        weight_bytes=params * itemsize,
        memory=measure(graph, layers_of(light), itemsize),
        peak_layer=graph.steps[at].layer,
        peak_operation=graph.steps[at].name,
        live=tuple(sorted((LiveBuffer(b.layer, b.shape, b.bytes(itemsize)) for b in held), key=lambda b: -b.bytes)),
        device=footprint(graph, params) if dtype == "int8" else None,
        layers=tuple(rows(graph, light, itemsize)),
        uncounted=graph.uncounted,
        latency=time,
        training=held_in_training,
        untrained=untrained,
        graph=graph,
    )


def _measured(
    model: nn.Module, shape: Sequence[int], latency: bool, training: bool
) -> tuple[Latency | None, TrainingMemory | None, str]:
    """What was asked for, on the noise of every call; and why the network cannot be trained, if so."""
    if not (latency or training):
        return None, None, ""
    try:
        image = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(**device_and_dtype(model))
        time = measure_latency(model, image) if latency else None
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            "input has to be one that the network can be run on here, to be measured; latency=False and training=False "
            f"(--no-latency --no-training) count without running: {reason}"
        ) from error
    try:
        return time, measure_training(model, image) if training else None, ""
    except ValueError as error:
        return time, None, str(error)


def _check(input_size: Sequence[int], dtype: str, batch: int) -> tuple[int, int, int]:
    whole = isinstance(input_size, Sequence) and len(input_size) == 3
    if not (whole and all(isinstance(side, int) and side > 0 for side in input_size)):
        raise ValueError(f"input_size has to be positive (channels, height, width), but got {input_size!r}")
    if dtype not in ITEMSIZE:
        raise ValueError(f"dtype has to be one of {', '.join(ITEMSIZE)}, but got {dtype!r}")
    if not isinstance(batch, int) or batch < 1:
        raise ValueError(f"batch has to be a positive integer, but got {batch!r}")
    return (input_size[0], input_size[1], input_size[2])
