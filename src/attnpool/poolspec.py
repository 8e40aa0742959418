"""One pool of an architecture string: a POOL token such as `nlp_headfix2_nowin`, and what it means in a stage."""

import re
from dataclasses import dataclass
from typing import Any

import attnpool.pools  # noqa: F401  (fills the registry)
from attnpool.pools._size import window_inside_patch
from attnpool.registry import POOLS, did_you_mean


class SpecError(ValueError):
    """A string or spec that is not valid: `token` is the offending part or field, `position` where it starts."""

    def __init__(self, rule: str, token: str = "", position: int | None = None) -> None:
        super().__init__(rule if position is None else f"{token!r} at position {position} {rule}")
        self.token, self.position = token, position


def require(holds: bool, name: str, rule: str, value: object) -> None:
    """Raise a `SpecError` that says "`name` has to be `rule`, but got `value`" unless `holds`."""
    if not holds:
        raise SpecError(f"{name} has to be {rule}, but got {value!r}", name)


@dataclass(frozen=True)
class PoolSpec:
    """A POOL token: a registered method and its options.

    Args:
        method: Name in the registry, e.g. "nlp".
        heads: `headfixN`: attention heads in every stage; None: the published number for each stage.
        window_norm: False is `nowin`: the weights of a window are not divided by their sum.
        reduced: `reduced`: larger patches in the early stages.
        patches: The digits of `reducedABCD`: the patch of each stage, 0 where no pool stands; None: as published.
        flags: Names in `FLAGS`, in its order.
    """

    method: str
    heads: int | None = None
    window_norm: bool = True
    reduced: bool = False
    patches: tuple[int, ...] | None = None
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(self.method in POOLS, "method", f"a pooling method{did_you_mean(self.method, POOLS)}", self.method)
        used = {"headfix": self.heads is not None, "nowin": not self.window_norm, "reduced": self.reduced}
        for option, present in used.items():
            takes = POOLS[self.method].takes(OPTIONS[option])
            require(takes or not present, option, f"left out: {self.method!r} has no {OPTIONS[option]}", option)
        require(self.heads is None or 1 <= self.heads <= 9999, "heads", "from 1 to 9999", self.heads)
        digits = self.patches is None or (self.reduced and self.patches and all(0 <= p <= 9 for p in self.patches))
        require(bool(digits), "patches", "digits, with reduced=True", self.patches)
        self._check_flags()

    def _check_flags(self) -> None:
        known = [name for name in option_names(self.method) if name in FLAGS]
        ordered = self.flags == tuple(flag for flag in known if flag in self.flags)
        single = len({FLAGS[flag][0] for flag in self.flags if flag in FLAGS}) == len(self.flags)
        require(
            ordered and single, "flags", f"a tuple of some of {known}, in that order, each setting its own", self.flags
        )
        set_to = {**POOLS[self.method].fixed, **self.options}
        signed = set_to.get("exp", True) is set_to.get("sigmoid", True) is False
        require(
            not (signed and self.window_norm), "flags", "with nowin where neither exp nor sigmoid is left", self.flags
        )

    @property
    def options(self) -> dict[str, Any]:
        """The keywords of a layer that the token sets, patches apart."""
        heads = {} if self.heads is None else {"num_heads": self.heads}
        window = {} if self.window_norm else {"normalize": False}
        return {**heads, **window, **{FLAGS[flag][0]: FLAGS[flag][1] for flag in self.flags}}

    def __str__(self) -> str:
        heads = "" if self.heads is None else f"_headfix{self.heads}"
        reduced = "_reduced" + "".join(map(str, self.patches or ())) if self.reduced else ""
        flags = "".join(f"_{flag}" for flag in self.flags)
        return f"{self.method}{heads}{'' if self.window_norm else '_nowin'}{reduced}{flags}"


OPTIONS = {"headfix": "num_heads", "nowin": "normalize", "reduced": "patch_size"}
"""Option of the grammar to the keyword of a layer: a method has the option if it takes the keyword."""

FLAGS: dict[str, tuple[str, Any]] = {
    "noexp": ("exp", False),
    "nosigmoid": ("sigmoid", False),
    "nope": ("position", "none"),
    "nobn1": ("embed_norm", False),
    "nobn2": ("restore_norm", False),
    "simplified": ("simplified", True),
    "CN": ("stochasticity", "CN"),
    "deterministic": ("stochasticity", None),
    "filter2": ("filter_size", 2),
    "filter3": ("filter_size", 3),
    "filter5": ("filter_size", 5),
    "hidden8": ("hidden", (8, 8)),
    "kv2": ("kv_stride", 2),
    "kv4": ("kv_stride", 4),
    "kv8": ("kv_stride", 8),
}
"""Option of the grammar to a keyword of a layer and the value that it sets."""


@dataclass(frozen=True)
class StagePool:
    """One pool of a network, resolved: `POOLS[method](channels, stride, **options)`."""

    method: str
    stride: int
    options: dict[str, Any]

    @property
    def is_average(self) -> bool:
        """Whether its weights would cancel in every window, so that plain average pooling is the same."""
        options = {**POOLS[self.method].fixed, **self.options}
        if not options.get("normalize") or options.get("deformable") or options.get("local"):
            return False
        sides = (self.stride, self.stride)
        return window_inside_patch(sides, sides, (0, 0), options["patch_size"])


def resolve(pool: PoolSpec, stride: int, **published: Any) -> StagePool | None:
    """The pool of a stage, with the published options where it says nothing; None: convolutions stride."""
    if pool.method == "skip":
        return None
    values = {"normalize": True, **published, **pool.options}
    return StagePool(pool.method, stride, {k: v for k, v in values.items() if POOLS[pool.method].takes(k)})


def parse_pool(token: str, position: int = 0) -> PoolSpec:
    """The spec of a POOL token such as "nlp_headfix2_nowin", which starts at `position` of a longer string.

    Raises:
        SpecError: with the offending part, its position, the rule and the nearest matches.
    """
    names = [name for name in POOLS if token == name or token.startswith(f"{name}_")]
    if not names:
        raise SpecError(f"is not a pooling method{did_you_mean(token.partition('_')[0], POOLS)}", token, position)
    method = max(names, key=len)
    fields: dict[str, Any] = {}
    flags: dict[str, str] = {}  # keyword to the flag that sets it
    for option, start in split(token, "_", position)[method.count("_") + 1 :]:
        new = _parse_option(option, start, method)
        if earlier := [flags[key] for key in new if key in flags and flags[key] != option]:
            raise SpecError(f"contradicts {earlier[0]!r}", option, start)
        if new.keys() & (fields.keys() | flags.keys()):
            raise SpecError("is given twice", option, start)
        (flags if option in FLAGS else fields).update(new)
    try:
        return PoolSpec(method, **fields, flags=tuple(flag for flag in FLAGS if flag in flags.values()))
    except SpecError as error:
        raise SpecError(str(error), token, position) from None


def option_names(method: str) -> list[str]:
    """The options that a method has in strings, N for a number."""
    counted = {"headfix": "headfixN"}
    known = [counted.get(name, name) for name, keyword in OPTIONS.items() if POOLS[method].takes(keyword)]
    return known + [flag for flag, (keyword, _) in FLAGS.items() if POOLS[method].takes(keyword)]


def _parse_option(option: str, position: int, method: str) -> dict[str, Any]:
    """The field of `PoolSpec` that an option sets, or the keyword and name of a flag."""
    known = option_names(method)
    if option in FLAGS and option in known:
        return {FLAGS[option][0]: option}
    match = re.fullmatch("(headfix(?=[1-9])|nowin$|reduced)([0-9]{0,15})", option)
    name, value = match.groups() if match else ("", "")
    if name not in OPTIONS or not POOLS[method].takes(OPTIONS[name]):
        hint = did_you_mean(option, known) if known else " (it has none)"
        raise SpecError(f"is not an option of {method!r}{hint}", option, position)
    if name == "headfix":
        return {"heads": int(value)}
    return {"window_norm": False} if name == "nowin" else {"reduced": True, "patches": tuple(map(int, value)) or None}


def split(text: str, separator: str, start: int) -> list[tuple[str, int]]:
    """The parts of `text` and where each starts, `start` being where the text does."""
    parts = text.split(separator)
    return [(part, start + sum(len(p) + 1 for p in parts[:i])) for i, part in enumerate(parts)]
