"""What int8 runtimes do otherwise: functions without a kernel in that type run in float32, between two conversions."""

from dataclasses import replace

from attnpool.accounting.graph import Graph, Step

IN_FLOAT = ("aten.exp", "aten.log", "aten.log1p")


def with_conversions(graph: Graph) -> Graph:
    """The graph with the float32 maps that such functions read and make, four bytes a number."""
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
