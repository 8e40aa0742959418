"""What a network takes on a micro-controller: the arena of TensorFlow Lite Micro, and the file."""

from dataclasses import dataclass

from attnpool.accounting.graph import Graph
from attnpool.accounting.memory import live_bytes

OPERATION, CHANNEL = 242, 8
"""Bytes that the runtime keeps for an operation, on a machine of 64 bits, and for a channel that is multiplied for."""
ENTRY, QUANTISATION = 145, 28
"""Bytes of the file for an operation, and for such a channel beside its weights."""
CONVOLUTION, LINEAR = "aten.convolution", ("aten.mm", "aten.addmm")


@dataclass(frozen=True)
class Footprint:
    """Bytes of a network in int8, counted without making its file. Beside what was measured: docs/device.md.

    Args:
        activations: Those at the peak.
        structures: What the runtime keeps for as long as it runs: for each operation and each channel.
        file: The network's, its weights and all.
    """

    activations: int
    structures: int
    file: int

    @property
    def total(self) -> int:
        """The memory that the runtime needs."""
        return self.activations + self.structures


def footprint(graph: Graph, params: int) -> Footprint:
    """Of the graph of a network in int8 (`in_int8`) with so many parameters."""
    operations = [step for step in graph.steps if not set(step.writes) <= set(step.reads)]  # no views
    channels = 0
    for step in operations:
        shape = graph.buffers[step.writes[0]].shape
        if step.name == CONVOLUTION:
            channels += shape[1]
        elif step.name in LINEAR:
            channels += shape[-1]
    kept = OPERATION * len(operations) + CHANNEL * channels
    return Footprint(max(live_bytes(graph, 1)), kept, params + ENTRY * len(operations) + QUANTISATION * channels)
