"""Which channels of a network belong together: what one layer writes, others normalise, add to theirs, or read."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import lcm
from typing import Any

import torch
from torch import nn

from attnpool.layers.dynamic_conv import DynamicConv2d
from attnpool.layers.ulsam import ULSAM
from attnpool.models._standins import MARKER, traceable
from attnpool.models.channels import numbers_of, width_of
from attnpool.models.sites import blank_image
from attnpool.pools._attention import SelfAttention
from attnpool.pools._deformable import DeformableConv2d
from attnpool.pools._position import PositionTable
from attnpool.pools.nlp import SelfAttentivePool2d
from attnpool.pools.rnnpool import RNNPool2d

Modules = dict[str, nn.Module]


@dataclass(frozen=True)
class Member:
    """Channels of one module in a coupling.

    Args:
        path: The module.
        side: "in" for what it reads, "out" for what it writes, "both" where they are the same (norms, depthwise).
        indices: Its channels, by its own count.
        roots: The same channels, one by one, by the count of the coupling.
    """

    path: str
    side: str
    indices: tuple[int, ...]
    roots: tuple[int, ...]


@dataclass(frozen=True)
class Coupling:
    """Channels that can only go together.

    Args:
        size: How many there are.
        members: Whose channels they are.
        blocks: Equal blocks of them, each of which has to lose as many: heads, subspaces, groups of convolutions.
        fixed: Why they have to stay; empty if they may go.
        given: Whether they are outputs of the network.
    """

    size: int
    members: tuple[Member, ...]
    blocks: int = 1
    fixed: str = ""
    given: bool = False

    @property
    def writers(self) -> list[str]:
        """The paths of the modules that write them; none for classes and hidden states, which are not meant to go."""
        return [] if self.given else sorted({member.path for member in self.members if member.side == "out"})

    def claims(self) -> Iterator[tuple[str, str, int]]:
        """(path, side, channel) of all its channels."""
        for member in self.members:
            for side in ("in", "out") if member.side == "both" else (member.side,):
                yield from ((member.path, side, i) for i in member.indices)


def find_couplings(model: nn.Module, input_size: tuple[int, int]) -> list[Coupling]:
    """The couplings of a network, found by torch-pruning in the graph of one pass over zeros of `input_size`.

    Raises:
        ImportError: naming the extra, if torch-pruning is not installed.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise ImportError("pruning needs torch-pruning: pip install attnpool[prune]") from error
    net = traceable(model)
    graph: Any = torch_pruning.DependencyGraph()
    with torch.enable_grad():
        image = blank_image(net, input_size)
        # what follows the classifier marks its outputs
        graph.build_dependency(net, image, forward_fn=lambda network, x: network(x) * 1.0, verbose=False)
    modules = dict(model.named_modules())
    paths = {module: path.removesuffix(f".{MARKER}") for path, module in net.named_modules()}
    groups = graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear])
    couplings = [_coupling(modules, graph, group, paths) for group in groups]
    claims = Counter(claim for coupling in couplings for claim in coupling.claims())
    overlap = "other channels are mixed with them"
    return [replace(c, fixed=overlap) if any(claims[k] > 1 for k in c.claims()) else c for c in couplings]


def _coupling(modules: Modules, graph: Any, group: Any, paths: dict[Any, str]) -> Coupling:
    size = len(group[0].idxs)
    members: list[Member] = []
    blocks, obstacles, given = 1, [], False
    for item in group:
        target, handler = item.dep.target.module, item.dep.handler
        if type(target).__module__.startswith("torch_pruning"):  # adds, activations, ...
            given = given or isinstance(target, graph.ops._OutputOp)
            continue
        reads, writes = graph.is_in_channel_pruning_fn(handler), graph.is_out_channel_pruning_fn(handler)
        side = "both" if reads and writes else "in" if reads else "out"
        path = paths.get(target, "a parameter")
        found = list(_members(modules, path, side, tuple(item.idxs), tuple(item.root_idxs)))
        obstacles += [
            f"{m.path} has other channels" for m in found if max(m.indices) >= width_of(modules[m.path], m.side)
        ]
        if not found and (side != "in" or path in modules):  # or else only the stand-in reads them
            obstacles.append(f"{path} has to keep its channels")
        here = _blocks(modules, path)
        if here > 1 and (item.idxs != item.root_idxs or size % lcm(blocks, here)):
            obstacles.append(f"groups of {path} are mixed with others")
        members += found
        blocks = lcm(blocks, here)
    return Coupling(size, tuple(members), blocks, obstacles[0] if obstacles else "", given)


def _members(
    modules: Modules, path: str, side: str, indices: tuple[int, ...], roots: tuple[int, ...]
) -> Iterator[Member]:
    """The parts of the layer at `path` that these channels are of; none if it is of an unknown kind."""
    if path not in modules:  # only the stand-in has it
        return
    attention = _attention(modules, path)
    if attention is not None and side == "out":
        third = attention.qkv.out_features // 3  # queries, keys and values, one after the other
        indices, roots = tuple(i + n * third for n in range(3) for i in indices), roots * 3
    if numbers_of(modules[path]):
        yield Member(path, side, indices, roots)
    for inner, at in _parts(modules[path], side):
        yield Member(f"{path}.{inner}", at, indices, roots)


def _parts(module: nn.Module, side: str) -> Iterator[tuple[str, str]]:
    """The parts of our layers that see the same channels: path inside the layer, and side."""
    if isinstance(module, DeformableConv2d):
        yield "conv", side
        if side == "in":
            yield "mask", "in"
    elif isinstance(module, DynamicConv2d) and side != "out":
        yield "attention.fc1", "in"
    elif isinstance(module, ULSAM):
        yield from (("conv_dws", "both"), ("bn_dws", "both"), ("conv_point", "in"))
    elif isinstance(module, RNNPool2d):
        yield "rnn1.input", "in"
    elif isinstance(module, SelfAttentivePool2d) and module.offset is not None:
        yield "offset", "in"


def _blocks(modules: Modules, path: str) -> int:
    """Equal blocks of channels that have to stay equal: heads, subspaces, tables, groups of a convolution."""
    module: Any = modules.get(path)
    attention = _attention(modules, path)
    if attention is not None:
        return attention.num_heads
    if isinstance(module, ULSAM):
        return module.groups
    if isinstance(module, PositionTable):
        return 2 if len(set(numbers_of(module))) == 1 else 1
    grouped = isinstance(module, nn.Conv2d | DynamicConv2d) and module.groups < module.out_channels  # not depthwise
    return module.groups if grouped else 1


def _attention(modules: Modules, path: str) -> SelfAttention | None:
    """The attention whose queries, keys and values the layer at `path` makes."""
    parent = modules.get(path.rpartition(".")[0])
    return parent if isinstance(parent, SelfAttention) and modules.get(path) is parent.qkv else None
