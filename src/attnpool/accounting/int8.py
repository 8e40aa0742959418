"""A network as int8 runtimes run it: in other forms of some functions, and in float32 where they have no kernel."""

from collections.abc import Callable
from dataclasses import replace

from attnpool.accounting.graph import Graph, Step
from attnpool.pools._int8_forms import Int8Forms

IN_FLOAT = ("aten.exp", "aten.log", "aten.log1p", "aten.sqrt")
SOFTMAX = ("aten._softmax", "aten._safe_softmax")
POSITIONS = 511
"""Most positions of a soft-max in int8: where more share the attention evenly, the kernel of TensorFlow Lite Micro
aborts (the logarithm of their sum is beyond what it shifts by), so that such ones are exported in float32."""


def in_int8(record: Callable[[], Graph]) -> Graph:
    """The graph that is recorded, of the network as it runs in int8."""
    with Int8Forms():
        return _with_conversions(record())


def _with_conversions(graph: Graph) -> Graph:
    """The graph with the float32 maps that some functions read and make, four bytes a number, for conversions."""
    made = replace(graph, steps=[], buffers=list(graph.buffers))
    for step in graph.steps:
        if not _in_float(step, graph):
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


def _in_float(step: Step, graph: Graph) -> bool:
    """Whether int8 runtimes take it in float32."""
    if len(step.reads) != 1 or len(step.writes) != 1:
        return False
    if step.name in SOFTMAX:
        return graph.buffers[step.writes[0]].shape[-1] > POSITIONS
    return step.name.rstrip("_") in IN_FLOAT
