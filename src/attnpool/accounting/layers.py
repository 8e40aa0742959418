"""What each layer of a network costs: the rows of the table."""

from collections.abc import Container
from dataclasses import dataclass

from torch import nn

from attnpool.accounting.graph import Graph
from attnpool.accounting.memory import live_bytes


@dataclass(frozen=True)
class Layer:
    """One module's own operations, those of the modules inside it left out.

    Args:
        name: Its path in the network; "" for the network's own.
        kind: Its class.
        shape: Of what it makes.
        params: Its parameters, with those of norms folded into it.
        macs: Its multiply-accumulates.
        output_bytes: Of all that it makes.
        live_bytes: The most that is live in the network while it runs.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    params: int
    macs: int
    output_bytes: int
    live_bytes: int


def rows(graph: Graph, model: nn.Module, itemsize: int) -> list[Layer]:
    """A row for each module with operations of its own, in the order they first run; params and macs add up."""
    live = live_bytes(graph, itemsize)
    steps: dict[str, list[int]] = {}
    for i, step in enumerate(graph.steps):
        steps.setdefault(step.layer, []).append(i)
    params = dict.fromkeys(steps, 0)
    before, counted = next(iter(steps)), set[int]()
    for path, module in model.named_modules():
        before = path if path in steps else before
        home = graph.part_of.get(path) or _enclosing(path, steps) or before
        own_params = [p for p in module.parameters(recurse=False) if id(p) not in counted]  # tied ones count once
        params[home] += sum(p.numel() for p in own_params)
        counted.update(map(id, own_params))
    kinds = {path: type(module).__name__ for path, module in model.named_modules()}
    found = []
    for layer, own in steps.items():
        made = {b: None for i in own for b in graph.steps[i].writes if graph.buffers[b].layer == layer}
        shape = graph.buffers[list(made)[-1]].shape if made else ()
        size = sum(graph.buffers[b].bytes(itemsize) for b in made)
        macs = sum(graph.steps[i].macs or 0 for i in own)
        found.append(Layer(layer, kinds.get(layer, ""), shape, params[layer], macs, size, max(live[i] for i in own)))
    return found


def _enclosing(path: str, rows: Container[str]) -> str:
    """The nearest module around it that has a row; "" if there is none."""
    while path and path not in rows:
        path = path.rpartition(".")[0]
    return path
