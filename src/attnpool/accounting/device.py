"""What a network takes on a micro-controller: the arena of TensorFlow Lite Micro, and the file."""

from dataclasses import dataclass

from attnpool.accounting.graph import Graph
from attnpool.accounting.memory import arena

PRODUCT, OTHER, CHANNEL = 260, 190, 8
"""Bytes that the runtime keeps, on a machine of 64 bits, for a convolution or linear layer, for another operation, and
for each channel of the former."""
ENTRY, QUANTISATION = 145, 28
"""Bytes of the file for an operation, and for such a channel beside its weights."""
CONVOLUTION, LINEAR = "aten.convolution", ("aten.mm", "aten.addmm")
COPIES = ("aten.slice", "aten.split", "aten.split_with_sizes", "aten.unbind", "aten.add_", "aten.mul_")
"""Views and changes in place that are operations of the runtime."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of a network in int8, counted without making its file. Beside what was measured: docs/device.md.

    Args:
        activations: At the places that the runtime gives them: the peak, and what no map fits into.
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
    products, others, channels = 0, 0, 0
    for step in graph.steps:
        shape = graph.buffers[step.writes[0]].shape
        if step.name in (CONVOLUTION, *LINEAR):
            products += 1
            channels += shape[1 if step.name == CONVOLUTION else -1]
        elif step.name in COPIES or not set(step.writes) <= set(step.reads):  # not a view, nor part of another
            others += 1
    kept = PRODUCT * products + OTHER * others + CHANNEL * channels
    return Footprint(arena(graph, 1), kept, params + ENTRY * (products + others) + QUANTISATION * channels)
