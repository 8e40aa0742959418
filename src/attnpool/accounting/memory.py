"""The memory of a network's activations, by each convention in use; the image counts in all of them."""

from bisect import insort
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from torch import nn

from attnpool.accounting.graph import Graph
from attnpool.layers.dynamic_conv import DynamicConv2d
from attnpool.layers.ulsam import ULSAM
from attnpool.registry import POOLS

ITEMSIZE = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
"""Bytes of a number of each type that a network may run in."""
ALIGNMENT = 16
"""Bytes; where a buffer may begin in an arena, as in TensorFlow Lite Micro."""

Boundaries = list[tuple[set[int], set[int]]]
"""Of each layer: the buffers that it reads from outside, and those that it makes for others."""


@dataclass(frozen=True)
class Memory:
    """Bytes of activations by four conventions.

    Args:
        peak: Liveness: the most that is live at any operation, with the insides of attention, of branches and of
            expansions; the least that a runtime without fused attention can do with in this order.
        in_out: The most that a layer reads and makes (MCUNet's): a pool is one layer, its inside unseen.
        largest: The largest map between layers, the insides of inverted residuals left out (RNNPool's).
        arena: What `peak` counts, at fixed places as TensorFlow Lite Micro plans them: largest first, in the first gap.
    """

    peak: int
    in_out: int
    largest: int
    arena: int


def measure(graph: Graph, layers: Collection[str], itemsize: int) -> Memory:
    """All four; `layers` are the paths of the modules that count as one layer (`layers_of`)."""
    between = boundaries(graph, group(graph, layers))
    return Memory(
        peak=max(live_bytes(graph, itemsize)),
        in_out=in_out(graph, between, itemsize),
        largest=largest(graph, between, itemsize),
        arena=arena(graph, itemsize),
    )


def layers_of(model: nn.Module) -> list[str]:
    """Paths of the modules that count as one layer: those without children, and the layers of this library."""
    ours = (*POOLS.classes, ULSAM, DynamicConv2d)
    found: list[str] = []
    for path, module in model.named_modules():
        whole = isinstance(module, ours) or not list(module.children())
        if whole and not (found and path.startswith(f"{found[-1]}.")):
            found.append(path)
    return found


def lifetimes(graph: Graph) -> dict[int, tuple[int, int]]:
    """First and last step at which each buffer is live: the image from the start, what is returned to the end."""
    lives: dict[int, tuple[int, int]] = {0: (0, 0)}
    for i, step in enumerate(graph.steps):
        for b in (*step.reads, *step.writes):
            lives[b] = (lives.get(b, (i, i))[0], i)
    lives.update({b: (lives[b][0], len(graph.steps) - 1) for b in graph.outputs})
    return lives


def live_bytes(graph: Graph, itemsize: int) -> list[int]:
    """The bytes that are live at each step."""
    change = [0] * (len(graph.steps) + 1)
    for b, (first, last) in lifetimes(graph).items():
        change[first] += graph.buffers[b].bytes(itemsize)
        change[last + 1] -= graph.buffers[b].bytes(itemsize)
    total, live = 0, []
    for difference in change[:-1]:
        total += difference
        live.append(total)
    return live


def peak_step(graph: Graph, itemsize: int) -> int:
    """The first step at which the most is live."""
    live = live_bytes(graph, itemsize)
    return live.index(max(live))


def live_at(graph: Graph, step: int) -> list[int]:
    """The buffers that are live at a step."""
    return [b for b, (first, last) in lifetimes(graph).items() if first <= step <= last]


def group(graph: Graph, layers: Collection[str]) -> list[range]:
    """The steps of each layer, in the order they run; a step outside of all is a layer of its own."""
    known, found, before = set(layers), list[range](), ""
    enclosing: dict[str, str] = {}
    for i, step in enumerate(graph.steps):
        if step.layer not in enclosing:
            parts = step.layer.split(".")
            above = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
            enclosing[step.layer] = next((path for path in above if path in known), "")
        layer = enclosing[step.layer]
        if layer and layer == before:
            found[-1] = range(found[-1].start, i + 1)
        else:
            found.append(range(i, i + 1))
        before = layer
    return found


def boundaries(graph: Graph, groups: Iterable[range]) -> Boundaries:
    """The buffers that each layer reads from outside, and those that it makes for others."""
    lives, found = lifetimes(graph), []
    for steps in groups:
        reads = {b for i in steps for b in graph.steps[i].reads if b == 0 or lives[b][0] < steps.start}
        writes = {b for i in steps for b in graph.steps[i].writes if b in graph.outputs or lives[b][1] >= steps.stop}
        found.append((reads, writes))
    return found


def in_out(graph: Graph, between: Boundaries, itemsize: int) -> int:
    """The most that a layer reads and makes; `between` are the boundaries of the layers."""
    return max(_bytes(graph, reads | writes, itemsize) for reads, writes in between)


def largest(graph: Graph, between: Boundaries, itemsize: int) -> int:
    """The largest map between layers that is not inside an inverted residual.

    What a 1 x 1 convolution makes with more channels than it reads is inside, and what is made of it by channels.
    """
    inside: set[int] = set()
    for step in graph.steps:
        if step.kind == "expansion" or (step.kind == "channelwise" and inside & set(step.reads)):
            inside.update(set(step.writes) - set(graph.outputs))
    maps = set().union(*(reads | writes for reads, writes in between))
    return max(graph.buffers[b].bytes(itemsize) for b in maps - inside)


def arena(graph: Graph, itemsize: int) -> int:
    """Bytes that all buffers take at fixed places: the largest first, in the first gap that is free while it lives."""
    lives = lifetimes(graph)
    placed: list[tuple[int, int, tuple[int, int]]] = []  # begin, end, life
    for b in sorted(lives, key=lambda b: (-graph.buffers[b].bytes(itemsize), lives[b])):
        size = -(-graph.buffers[b].bytes(itemsize) // ALIGNMENT) * ALIGNMENT
        begin, life = 0, lives[b]
        for low, high, (first, last) in placed:
            if first <= life[1] and life[0] <= last:
                if low - begin >= size:
                    break
                begin = max(begin, high)
        insort(placed, (begin, begin + size, life))
    return max(high for _, high, _ in placed)


def _bytes(graph: Graph, buffers: Iterable[int], itemsize: int) -> int:
    return sum(graph.buffers[b].bytes(itemsize) for b in buffers)
