"""A network as int8 runtimes run it: gates without exponentials, and what has no kernel in that type in float32."""

from collections.abc import Callable
from dataclasses import replace

from attnpool.accounting.graph import Graph, Step
from attnpool.pools._gates import Int8Gates

IN_FLOAT = ("aten.exp", "aten.log", "aten.log1p")


def in_int8(record: Callable[[], Graph]) -> Graph:
    """The graph that is recorded, of the network as it runs in int8."""
    with Int8Gates():
        return _with_conversions(record())


def _with_conversions(graph: Graph) -> Graph:
    """The graph with the float32 maps that some functions read and make, four bytes a number, for conversions."""
    made = replace(graph, steps=[], buffers=list(graph.buffers))
    for step in graph.steps:
        if step.name.rstrip("_") not in IN_FLOAT or len(step.reads) != 1 or len(step.writes) != 1:
            made.steps.append(step)
            continue
        source, target = step.reads[0], step.writes[0]
        given, result = len(made.buffers), len(made.buffers) + 1
        made.buffers += [replace(graph.buffers[b], layer=step.layer, itemsize=4) for b in (source, target)]
        made.steps += [
            Step("dequantize", step.layer, (source,), (given,), 0),
            replace(step, reads=(given,), writes=(result,)),
            Step("quantize", step.layer, (result,), (target,), 0),
        ]
    return made
