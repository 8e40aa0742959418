"""Networks under a budget: every candidate of a space, its exact costs, and those that make the most of memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from itertools import accumulate, product
from math import prod
from operator import mul
from typing import Any

import torch

from attnpool.accounting.compute import UncountedError
from attnpool.accounting.device import footprint
from attnpool.accounting.graph import record
from attnpool.accounting.int8 import in_int8
from attnpool.accounting.memory import live_bytes
from attnpool.models.build import build
from attnpool.models.sites import trace_shapes
from attnpool.models.stages import find_backbone
from attnpool.pools._attention import SelfAttention
from attnpool.poolspec import parse_pool
from attnpool.registry import POOLS
from attnpool.spec import ModelSpec, parse

STRIDES = (1, 2, 4)


@dataclass(frozen=True)
class Space:
    """What to search: all combinations.

    Args:
        backbones: Tokens of the grammar.
        widths: Factors on channel numbers; only 1 for backbones of one width.
        strides: Stride strings, for the backbones with as many stages; none: those of `early_strides`.
        methods: POOL tokens.
        patches: Largest patch of methods with patches, in pixels: that of the first pool; later ones cover as much of
            the image, down to one position. Above 1 the window is not normalised, where it would cancel.
        placements: Where pools stand in a stage.
        query_blocks: Blocks of queries of methods that have them.
        sides: Height and width of the image, in pixels.
        in_channels: Of the image.
        num_classes: Outputs.
    """

    backbones: tuple[str, ...]
    widths: tuple[float, ...]
    strides: tuple[str, ...]
    methods: tuple[str, ...]
    patches: tuple[int, ...]
    placements: tuple[str, ...]
    query_blocks: tuple[int, ...]
    sides: tuple[int, ...]
    in_channels: int = 3
    num_classes: int = 10

    def __post_init__(self) -> None:
        for name in ("widths", "patches", "query_blocks", "sides"):
            if not all(number > 0 for number in getattr(self, name)):
                raise ValueError(f"{name} has to be positive numbers, but got {getattr(self, name)}")
        for backbone in self.backbones:
            try:
                find_backbone(backbone)
            except ValueError as error:
                raise ValueError(f"backbones has to be tokens of the grammar, but {backbone!r} {error}") from None

    def networks(self) -> list[ModelSpec]:
        """Every network, its image size and blocks of queries left open."""
        found: dict[ModelSpec, None] = {}
        if not any(self._strides(backbone) for backbone in self.backbones):
            raise ValueError(f"strides has to fit a backbone of {self.backbones}, but got {self.strides}")
        for backbone, method in product(self.backbones, self.methods):
            for strides, patch in product(self._strides(backbone), self.patches):
                token = _with_patches(method, strides, patch)
                placements = self.placements if parse_pool(token).method != "skip" else ("before",)
                spec = parse(
                    f"{backbone}-{token}-{strides}", num_classes=self.num_classes, in_channels=self.in_channels
                )
                for width, placement in product(self._widths(backbone), placements):
                    found.setdefault(replace(spec, width=width, placement=placement))
        return list(found)

    def settings(self, network: ModelSpec) -> list[ModelSpec]:
        """The image sizes and blocks of queries of a network."""
        blocks = self.query_blocks if POOLS[network.pool.method].takes("query_blocks") else (None,)
        pairs = dict.fromkeys(product(self.sides, blocks))
        return [replace(network, input_size=(side, side), query_blocks=b) for side, b in pairs]

    def _strides(self, backbone: str) -> list[str]:
        count = len(find_backbone(backbone).stages)
        chosen = [text for text in self.strides if len(text) == count]
        return (
            chosen if self.strides else ["".join(map(str, digits)) for digits in early_strides(own_strides(backbone))]
        )

    def _widths(self, backbone: str) -> tuple[float, ...]:
        return self.widths if find_backbone(backbone).scaled else (1.0,)


@dataclass(frozen=True)
class Candidate:
    """A network with an image size, and what it costs in int8.

    Args:
        spec: The network.
        peak: Bytes of activations, of all that are live at once.
        arena: Bytes that TensorFlow Lite Micro needs: activations at their places, and what it keeps.
        file: Bytes of the network's file for it.
        params: Its parameters.
        macs: Its multiply-accumulates.
    """

    spec: ModelSpec
    peak: int
    arena: int
    file: int
    params: int
    macs: int

    @property
    def side(self) -> int:
        """Height of the image, in pixels."""
        return self.spec.input_size[0] if self.spec.input_size else 0

    @property
    def image(self) -> str:
        """Channels, height and width, e.g. 3x96x96."""
        return "x".join(map(str, (self.spec.in_channels, *(self.spec.input_size or ()))))

    @property
    def name(self) -> str:
        """The network in words."""
        return f"{self.spec} at width {self.spec.width:g} on {self.image}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the architecture, what the string cannot say, and the costs."""
        return {**describe(self.spec), **{name: getattr(self, name) for name in COSTS}}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Candidate":
        """What `to_dict` made."""
        costs = [values[name] for name in COSTS]
        if not all(isinstance(cost, int) and cost > 0 for cost in costs):
            raise ValueError(f"{', '.join(COSTS)} have to be positive, but are {costs}")
        return cls(parse(values["architecture"], **values["settings"]), *costs)


COSTS = [part.name for part in fields(Candidate) if part.name != "spec"]


def describe(spec: ModelSpec) -> dict[str, Any]:
    """A spec for JSON."""
    return {"architecture": str(spec), "settings": spec.settings}


def evaluate(network: ModelSpec, settings: Iterable[ModelSpec], flash: int) -> Iterator[Candidate | str]:
    """The costs of a network at each of its settings, exactly, without weights or arithmetic; or why it cannot run.

    Nothing for a network of more than `flash` parameters.

    Raises:
        UncountedError: for operations without a formula.
    """
    with torch.device("meta"):
        model = build(network).eval().requires_grad_(False)  # which torch asks to choose among products
    params = sum(p.numel() for p in model.parameters())
    attention = [module for module in model.modules() if isinstance(module, SelfAttention)]
    for spec in settings if params <= flash else ():
        for module in attention:
            module.query_blocks = spec.query_blocks
        height, width = spec.input_size or (0, 0)
        try:
            image = torch.empty(1, spec.in_channels, height, width, device="meta")
            graph = in_int8(partial(record, model, image))
        except (RuntimeError, ValueError) as error:  # an image that it shrinks to nothing
            yield str(error).partition("\n")[0]
            continue
        if graph.uncounted:
            raise UncountedError(graph.uncounted)
        takes = footprint(graph, params)
        yield Candidate(spec, max(live_bytes(graph, 1)), takes.total, takes.file, params, graph.macs)


def pareto(candidates: Iterable[Candidate], memory: Callable[[Candidate], int]) -> list[Candidate]:
    """Those in whose `memory` no other one does as many operations, the most operations first.

    In a given memory, networks that compute more have been found to be more accurate (MCUNet, arXiv 2007.10319). Of
    those that cost the same, the one with more parameters and fewer blocks of queries.
    """
    front: list[Candidate] = []
    for c in sorted(candidates, key=lambda c: (memory(c), -c.macs, -c.params, c.spec.query_blocks or 0)):
        if not front or c.macs > front[-1].macs:
            front.append(c)
    return front[::-1]


@cache
def own_strides(backbone: str) -> tuple[int, ...]:
    """By how much each stage of a backbone shrinks its map, as it came."""
    family = find_backbone(backbone)
    with torch.device("meta"):
        shapes = trace_shapes(family.instantiate(), (256, 256))
    return tuple(shapes[path][0][-1] // shapes[path][1][-1] for path in family.stages)


def early_strides(own: Sequence[int]) -> list[tuple[int, ...]]:
    """Strides of 1, 2 and 4 that shrink as much as a backbone's own in all, and after every stage at least as much."""
    least = list(accumulate(own, mul))
    return [
        digits
        for digits in product(STRIDES, repeat=len(own))
        if prod(digits) == least[-1] and all(a >= b for a, b in zip(accumulate(digits, mul), least, strict=True))
    ]


def _with_patches(method: str, strides: str, patch: int) -> str:
    """The POOL token with a patch for each stage."""
    pool = parse_pool(method)
    if patch == 1 or pool.reduced or not POOLS[pool.method].takes("patch_size"):
        return method
    before = [1, *accumulate(map(int, strides), mul)]
    patches = tuple(max(1, patch // r) if s != "1" else 0 for s, r in zip(strides, before, strict=False))
    if max(patches) == 1:
        return method
    return str(replace(pool, window_norm=False, reduced=True, patches=patches))
