"""A network as the operations it runs and the memory they read and write, recorded on the meta device: no numbers."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attnpool.accounting.compute import count_macs
from attnpool.pools._traced import as_written

aten = torch.ops.aten
NORMS = ("aten.native_batch_norm", "aten._native_batch_norm_legit_no_training")
CLIPPINGS = ("aten.relu", "aten.hardtanh")
LINEAR = ("aten.convolution", "aten.addmm", "aten.mm")


@dataclass(frozen=True)
class Buffer:
    """A piece of memory that holds an activation.

    Args:
        layer: Path of the module that makes it; "input" for the image.
        shape: Of the tensor as it is made.
        numbers: How many numbers it holds, batch included.
        itemsize: Bytes of a number; None: those of the type that the network runs in.
    """

    layer: str
    shape: tuple[int, ...]
    numbers: int
    itemsize: int | None = None

    def bytes(self, itemsize: int) -> int:
        """Its size where the type that the network runs in takes `itemsize` bytes."""
        return self.numbers * (self.itemsize or itemsize)


@dataclass(frozen=True)
class Step:
    """One operation.

    Args:
        name: E.g. "aten.convolution".
        layer: Path of the module that it belongs to.
        reads: The buffers that it reads.
        writes: The buffers that it makes, or changes in place.
        macs: Its multiply-accumulates; None: it has no formula.
        kind: "expansion" for a 1 x 1 convolution that makes more channels than it reads, "channelwise" for a depthwise
            convolution or a product of maps, else "".
    """

    name: str
    layer: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    macs: int | None
    kind: str = ""


@dataclass
class Graph:
    """Operations in the order they run, and the memory they use.

    Args:
        steps: The operations.
        buffers: The memory; buffer 0 is the image.
        outputs: The buffers that the network returns.
        part_of: Paths of modules that became part of another, such as a folded norm, to the path of that.
    """

    steps: list[Step] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    outputs: tuple[int, ...] = ()
    part_of: dict[str, str] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all operations that have a formula."""
        return sum(step.macs or 0 for step in self.steps)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """The operations that have none."""
        return tuple(sorted({step.name for step in self.steps if step.macs is None}))


def record(model: nn.Module, image: Tensor) -> Graph:
    """The graph of a network in eval mode, it and its image on the meta device (`on_meta`).

    Attention is in explicit products: whole, or in the blocks of queries that it was given. What depends on parameters
    alone (positions) is a constant, not an activation. A batch norm right after a convolution or linear layer, and a
    clipping (ReLU, ReLU6) right after any operation, are part of it, as in runtimes that fold and fuse; what PyTorch
    does in place is in place; views share their memory. What no output depends on is not there.
    """
    recorder = _Recorder(model, image)
    with _paths(model, recorder), _without_numbers(), as_written(), recorder:
        made = model(image)
    return recorder.finish(made)


def record_exported(model: nn.Module, image: Tensor) -> Graph:
    """The same, of the graph that `torch.export` makes of the network.

    Raises:
        ValueError: if it cannot be exported.
    """
    with _without_numbers():
        try:
            with warnings.catch_warnings(action="ignore"):  # of attributes that change, as recurrent layers' do
                exported: Any = torch.export.export(model, (image,), strict=False).module()
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"model has to be one that torch.export takes, but it says: {reason}") from error
        recorder = _Recorder(exported, image)
        with recorder:
            made = _Replay(exported, recorder).run(image)
    return recorder.finish(made)


def on_meta(model: nn.Module) -> nn.Module:
    """A copy without numbers, in eval mode."""
    own = [t for module in model.modules() for t in vars(module).values() if isinstance(t, Tensor)]
    memo: dict[int, Any] = {id(t): t.detach().to("meta") for t in [*own, *model.buffers()]}
    memo.update({id(t): nn.Parameter(t.detach().to("meta"), False) for t in model.parameters()})
    return copy.deepcopy(model, memo).eval()


@contextmanager
def _without_numbers() -> Iterator[None]:
    """New tensors have no numbers, attention of any network is in explicit products, and there are no gradients."""
    with torch.device("meta"), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


class _Recorder(TorchDispatchMode):
    """Notes each operation on activations; tensors that share their memory are one buffer."""

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.graph, self.layer = Graph(), ""
        self._alive: list[Any] = [model]  # so that no two pieces of memory have the same address
        self._buffer: dict[int, int] = {}
        self._add(image, "input")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        made = _quickly(func, given)
        if made is None:
            made = func(*args, **kwargs)
        reads = [self._buffer[key] for key in map(address, given) if key in self._buffer]
        if reads:
            tensors = _tensors(made)
            for tensor in tensors:
                if address(tensor) not in self._buffer:
                    self._add(tensor, self.layer)
            writes = tuple(dict.fromkeys(self._buffer[address(t)] for t in tensors))
            macs = count_macs(func, args, kwargs, made)
            kind = _kind(func._overloadpacket, args)
            step = Step(str(func._overloadpacket), self.layer, tuple(dict.fromkeys(reads)), writes, macs, kind)
            self.graph.steps.append(step)
        return made

    def finish(self, made: Any) -> Graph:
        """The graph of a network that made this."""
        outputs = {self._buffer[key] for key in map(address, _tensors(made)) if key in self._buffer}
        self.graph.outputs = tuple(sorted(outputs))
        return _tidied(self.graph)

    def _add(self, tensor: Tensor, layer: str) -> None:
        self._alive.append(tensor)
        self._buffer[address(tensor)] = len(self.graph.buffers)
        numbers = tensor.untyped_storage().nbytes() // tensor.itemsize
        itemsize = None if tensor.is_floating_point() else tensor.itemsize
        self.graph.buffers.append(Buffer(layer, tuple(tensor.shape), numbers, itemsize))


class _Replay(fx.Interpreter):
    """Runs an exported graph, and tells the recorder which module each operation comes from."""

    def __init__(self, exported: fx.GraphModule, recorder: _Recorder) -> None:
        super().__init__(exported)
        self.recorder = recorder

    def run_node(self, n: fx.Node) -> Any:
        stack = n.meta.get("nn_module_stack")
        self.recorder.layer = list(stack.values())[-1][0].partition("@")[0] if stack else ""
        return super().run_node(n)


@contextmanager
def _paths(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """The recorder knows the path of the module that is running."""
    above: list[str] = []

    def enter(path: str) -> Callable[..., None]:
        def note(*_: Any) -> None:
            above.append(recorder.layer)
            recorder.layer = path

        return note

    def leave(*_: Any) -> None:
        recorder.layer = above.pop()

    handles = []
    for path, module in model.named_modules():
        handles += [module.register_forward_pre_hook(enter(path)), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _quickly(func: Any, given: list[Tensor]) -> Any:
    """What two frequent operations make, without the functions in which torch works that out; None for others."""
    if func is aten.native_batch_norm.default:
        return torch.empty_like(given[0]), given[0].new_empty(0), given[0].new_empty(0)
    changes = func._schema.name.endswith("_") and torch.Tag.pointwise in func.tags
    return given[0] if changes and len(given) == 1 else None


def _tensors(values: Any) -> list[Tensor]:
    return [t for t in tree_leaves(values) if isinstance(t, Tensor)]


def address(tensor: Tensor) -> int:
    """Where its memory is: tensors that share theirs have the same."""
    return tensor.untyped_storage()._cdata


def _kind(packet: Any, args: Any) -> str:
    if packet in (aten.mul, aten.mul_):
        return "channelwise"
    if packet is not aten.convolution:
        return ""
    weight, groups = args[1], args[8]
    if 1 < groups == weight.shape[0]:
        return "channelwise"
    return "expansion" if weight[0, 0].numel() == 1 == groups and weight.shape[0] > weight.shape[1] else ""


def _tidied(graph: Graph) -> Graph:
    """Without what no output depends on; norms and clippings write where what they read stands."""
    graph.steps = _needed(graph)
    last = {b: i for i, step in enumerate(graph.steps) for b in step.reads}
    place = list(range(len(graph.buffers)))
    latest: dict[int, str] = {}  # the operation that wrote to a place last
    for i, step in enumerate(graph.steps):
        source, made = step.reads[0], step.writes[0]
        if made not in step.reads:
            dies = last[source] == i and source not in graph.outputs and _same_size(graph, source, made)
            if dies and place[source] in latest and _fuses(step.name, latest[place[source]]):
                place[made] = place[source]
        elif not step.name.endswith("_"):
            continue  # a view
        latest.update({place[b]: step.name for b in step.writes})
    tidied = Graph([], graph.buffers, tuple(sorted({place[b] for b in graph.outputs})))
    for step in graph.steps:
        reads, writes = (tuple(dict.fromkeys(place[b] for b in some)) for some in (step.reads, step.writes))
        layer = step.layer
        if set(writes) <= set(reads) and writes[0] != 0:  # in place, or a view
            layer = graph.buffers[writes[0]].layer
        tidied.part_of[step.layer] = layer
        tidied.steps.append(replace(step, layer=layer, reads=reads, writes=writes))
    return tidied


def _needed(graph: Graph) -> list[Step]:
    """The steps that the outputs depend on, and of what they make only what is read."""
    needed, steps = set(graph.outputs), []
    for step in reversed(graph.steps):
        writes = tuple(b for b in step.writes if b in needed)
        if writes:
            needed.update(step.reads)
            steps.append(replace(step, writes=writes))
    return steps[::-1]


def _same_size(graph: Graph, a: int, b: int) -> bool:
    """Whether one buffer could stand in the place of the other: not so for a part of it, or what was expanded."""
    one, other = graph.buffers[a], graph.buffers[b]
    return (one.numbers, one.itemsize) == (other.numbers, other.itemsize)


def _fuses(name: str, before: str) -> bool:
    """Whether runtimes make an operation a part of the one before it."""
    return name.rstrip("_") in CLIPPINGS or (name in NORMS and before in LINEAR)
