"""Architecture strings: `[prepool-POOL-STRIDE-]BACKBONE-POOL-STRIDES`, parsed once into a frozen `ModelSpec`."""

import re
import warnings
from dataclasses import dataclass, fields, replace
from typing import Any

from attnpool.attentionspec import parse_attention
from attnpool.models.stages import OF_DETECTOR, PLACEMENTS, Backbone, find_backbone
from attnpool.poolspec import PoolSpec, SpecError, StagePool, parse_pool, require, resolve, split

__all__ = ["ModelSpec", "PoolSpec", "SpecError", "parse"]

GRAMMAR = "[prepool-POOL-STRIDE-]BACKBONE-POOL-STRIDES"
REDUCED_PATCHES = {4: (4, 2, 1, 1), 7: (4, 4, 4, 2, 2, 1, 1)}
CANCEL = "window-normalised weights that are equal in a window cancel, which leaves average pooling"
PREPOOL_HEADS, PREPOOL_PATCH, PREPOOL_REDUCED_RATIO = 8, 2, 0.25
PREPOOL_STRIDES = "from 2 to 99, or 1 with skip: the stem's convolution does not stride then"


@dataclass(frozen=True)
class ModelSpec:
    """A network: what its architecture string says, and what the string cannot say.

    `parse(str(spec), **spec.settings) == spec` for every spec, with empty settings for one that came from a string.

    Args:
        backbone: A token of `BACKBONES`, or a timm name.
        pool: The method in every stage whose digit is above 1.
        strides: One digit for each stage; 1: no downsampling there.
        dynamic: `dy` before the backbone: dynamic convolution in place of every convolution.
        prepool: The method after the stem, which then runs at stride 1; None: the stem as the backbone came.
        prepool_stride: Its stride, at least 2.
        num_classes: Outputs of the classifier.
        in_channels: Channels of the image, 1 or 3.
        width: Factor on all channel numbers.
        dropout: Probability of dropping a feature before the classifier, in training.
        placement: Where a pool stands in a stage, one of `PLACEMENTS`; None: as published for this backbone.
        patch_sizes: Patch of each stage, in pixels, 0 where no pool stands; None: what the string says.
        input_size: (height, width) that the network is meant for, in pixels; None: any.
        attention: Where subspace attention (`ULSAM`) stands: after:BLOCK or replace:BLOCK, with :GROUPS if not 4,
            separated by commas; BLOCK is a path in the network, e.g. "after:blocks.4.1,replace:blocks.5.1:8".
        query_blocks: Blocks in which self-attentive pools take the queries of all heads in turn; None: a fused kernel.
        channels: Of a pruned network: (path, *numbers) of each module whose channel numbers are not those that the
            other fields give; see `attnpool.models.channels.numbers_of`.

    Raises:
        SpecError: where a value breaks its rule.
    """

    backbone: str
    pool: PoolSpec
    strides: tuple[int, ...]
    dynamic: bool = False
    prepool: PoolSpec | None = None
    prepool_stride: int | None = None
    num_classes: int = 1000
    in_channels: int = 3
    width: float = 1.0
    dropout: float = 0.0
    placement: str | None = None
    patch_sizes: tuple[int, ...] | None = None
    input_size: tuple[int, int] | None = None
    attention: str = ""
    query_blocks: int | None = None
    channels: tuple[tuple[Any, ...], ...] = ()

    def __post_init__(self) -> None:
        for name in ("patch_sizes", "input_size"):
            if isinstance(getattr(self, name), list):  # as JSON and YAML have them
                object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_strides()
        self._check_settings()
        cancels = self.patch_sizes is not None and any(
            pool is not None and pool.is_average for pool in self.stage_pools()
        )
        require(
            not cancels, "patch_sizes", f"not multiples of the strides, or go with nowin: {CANCEL}", self.patch_sizes
        )

    def _check_strides(self) -> None:
        try:
            count = len(self.family.stages)
        except ValueError as error:
            raise SpecError(f"backbone {self.backbone!r} {error}") from None
        require(isinstance(self.pool, PoolSpec), "pool", "a PoolSpec", self.pool)
        strides = _are_integers(self.strides) and len(self.strides) == count and all(1 <= s <= 9 for s in self.strides)
        require(strides, "strides", f"a tuple of {count} digits from 1 to 9, one for each stage", self.strides)
        require(
            self._prepool_fits(), "prepool_stride", f"{PREPOOL_STRIDES}; None without a prepool", self.prepool_stride
        )
        patches = self._patches()
        fits = len(patches) == count and all(p >= 1 or s == 1 for p, s in zip(patches, self.strides, strict=False))
        require(fits, "patches", f"one for each of the {count} stages, positive where the digit is above 1", patches)
        if self.prepool is not None and self.prepool.patches is not None:
            single = len(self.prepool.patches) == 1 and self.prepool.patches[0] > 0
            require(single, "prepool", "without digits after reduced, or with one above 0", str(self.prepool))

    def _prepool_fits(self) -> bool:
        if self.prepool is None or self.prepool_stride is None:
            return self.prepool is None and self.prepool_stride is None
        return (1 if self.prepool.method == "skip" else 2) <= self.prepool_stride <= 99

    def _check_settings(self) -> None:
        require(
            _are_integers((self.num_classes,)) and self.num_classes >= 1, "num_classes", "positive", self.num_classes
        )
        require(self.in_channels in (1, 3), "in_channels", "1 or 3", self.in_channels)
        rule = "positive" if self.family.scaled else f"1.0, the one width of {self.backbone!r}"
        number = isinstance(self.width, int | float) and (
            self.width == 1 or bool(self.width > 0 and self.family.scaled)
        )
        require(number, "width", rule, self.width)
        require(0 <= self.dropout < 1, "dropout", "at least 0 and below 1", self.dropout)
        require(self.placement in (None, *PLACEMENTS), "placement", f"one of {', '.join(PLACEMENTS)}", self.placement)
        size = self.input_size
        fits = size is None or (_are_integers(size) and len(size) == 2 and min(size) >= 1)
        require(fits, "input_size", "a positive (height, width)", size)
        blocks = self.query_blocks
        require(blocks is None or (type(blocks) is int and blocks >= 1), "query_blocks", "positive", blocks)
        written = ",".join(map(str, parse_attention(self.attention)))
        object.__setattr__(self, "attention", written)  # one way to write it, so that equal specs are equal
        object.__setattr__(self, "channels", _channels(self.channels))

    @property
    def family(self) -> Backbone:
        """The backbone that the token names."""
        return find_backbone(self.backbone)

    @property
    def settings(self) -> dict[str, Any]:
        """The fields that the string cannot say, where they differ from their defaults."""
        said = {"backbone", "pool", "strides", "dynamic", "prepool", "prepool_stride"}
        values = {f.name: (getattr(self, f.name), f.default) for f in fields(self) if f.name not in said}
        return {name: value for name, (value, default) in values.items() if value != default}

    def stage_pools(self) -> tuple[StagePool | None, ...]:
        """The pool of each stage; None where the digit is 1 or the backbone's own convolution strides."""
        count = len(self.strides)
        heads = (4, 8, 16, 32) if count == 4 else tuple(min(2 << i, 128) for i in range(count))
        stages = zip(self.strides, heads, self._patches(), strict=True)
        return tuple(self._resolve(self.pool, stride, h, p) if stride > 1 else None for stride, h, p in stages)

    def stem_pool(self) -> StagePool | None:
        """The prepool; None where there is none or the stem's own convolution strides."""
        if self.prepool is None or self.prepool_stride is None:
            return None
        patch, ratio = PREPOOL_PATCH, 1.0
        if self.prepool.reduced:
            patch = self.prepool.patches[0] if self.prepool.patches else self.prepool_stride
            ratio = PREPOOL_REDUCED_RATIO
        return self._resolve(self.prepool, self.prepool_stride, PREPOOL_HEADS, patch, ratio)

    def _resolve(self, pool: PoolSpec, stride: int, heads: int, patch: int, ratio: float = 1.0) -> StagePool | None:
        blocks = {} if self.query_blocks is None else {"query_blocks": self.query_blocks}
        return resolve(pool, stride, num_heads=heads, patch_size=patch, embed_ratio=ratio, **blocks)

    def _patches(self) -> tuple[int, ...]:
        count = len(self.family.stages)
        if self.patch_sizes is not None:
            return self.patch_sizes
        if not self.pool.reduced:
            return (1,) * count
        known = self.pool.patches or REDUCED_PATCHES.get(count)
        require(known is not None, "reduced", f"followed by {count} digits on {self.backbone!r}", str(self.pool))
        return known or ()

    def __str__(self) -> str:
        prepool = "" if self.prepool is None else f"prepool-{self.prepool}-{self.prepool_stride}-"
        return f"{prepool}{'dy' * self.dynamic}{self.backbone}-{self.pool}-{''.join(map(str, self.strides))}"


def _are_integers(values: object) -> bool:
    """Whether it is a tuple of whole numbers: anything else would not come back from a string as it was."""
    return isinstance(values, tuple) and all(type(value) is int for value in values)


def _channels(entries: Any) -> tuple[tuple[Any, ...], ...]:
    """The entries as tuples, in the order of their paths: one way to write them; JSON gives them back as lists."""
    whole = isinstance(entries, tuple | list) and all(isinstance(e, tuple | list) and len(e) > 1 for e in entries)
    for path, *numbers in entries if whole else ():
        whole = whole and isinstance(path, str) and _are_integers(tuple(numbers)) and min(numbers) >= 1
    require(whole, "channels", "(path, number, ...) for each module, with positive numbers", entries)
    paths = [entry[0] for entry in entries]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    require(not twice, "channels", "one entry for each module", twice)
    return tuple(sorted(map(tuple, entries)))


def parse(text: str, **settings: Any) -> ModelSpec:
    """The spec of an architecture string; `settings` are the fields of `ModelSpec` that the string cannot say.

    Raises:
        SpecError: with the offending token, its position, the rule and the nearest matches.
    """
    if not isinstance(text, str):
        raise SpecError(f"an architecture has to be a string {GRAMMAR}, but got {text!r}")
    if ":" in text:
        raise SpecError(OF_DETECTOR, text, 0)
    tokens = split(text, "-", 0)
    prepool = tokens[0][0] == "prepool"
    if len(tokens) != (6 if prepool else 3):
        raise SpecError(f"has {len(tokens)} parts; it has to be {GRAMMAR}, e.g. mobilenet_v2-nlp-1222121", text, 0)
    backbone, pool, strides = tokens[-3:]
    dynamic, name, count = _parse_backbone(*backbone)
    values: dict[str, Any] = {"pool": parse_pool(*pool), "strides": _parse_strides(*strides, count)}
    if prepool:
        values["prepool"] = parse_pool(*tokens[1])
        values["prepool_stride"] = _parse_prepool_stride(*tokens[2], values["prepool"].method)
    try:
        spec = ModelSpec(name, dynamic=dynamic, **values)
    except SpecError as error:  # what is left to fail is how patches go with the stages, or with the prepool
        raise SpecError(str(error), *(tokens[1] if error.token == "prepool" else pool)) from None
    if any(p is not None and p.is_average for p in (*spec.stage_pools(), spec.stem_pool())):
        warnings.warn(f"{text}: plain average pooling where the stride divides the patch: {CANCEL}", stacklevel=2)
    return replace(spec, **settings) if settings else spec


def _parse_backbone(token: str, position: int) -> tuple[bool, str, int]:
    """Whether the convolutions are dynamic, the backbone's name, and its number of stages."""
    dynamic = token.startswith("dy")
    name, position = (token[2:], position + 2) if dynamic else (token, position)
    try:
        return dynamic, name, len(find_backbone(name).stages)
    except ValueError as error:
        raise SpecError(str(error), name, position) from None


def _parse_strides(token: str, position: int, count: int) -> tuple[int, ...]:
    if re.fullmatch(f"[1-9]{{{count}}}", token):
        return tuple(map(int, token))
    rule = f"has to be {count} digits from 1 to 9, one for each stage, but has {len(token)} characters"
    raise SpecError(rule, token, position)


def _parse_prepool_stride(token: str, position: int, method: str) -> int:
    if re.fullmatch("[1-9][0-9]?", token) and (token != "1" or method == "skip"):
        return int(token)
    raise SpecError(f"has to be the stride of the prepool, {PREPOOL_STRIDES}", token, position)
