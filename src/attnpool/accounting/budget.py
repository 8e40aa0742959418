"""A budget of memory and operations, and what of it a network keeps."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from attnpool.accounting.search import Candidate

BYTES = {"": 1, "B": 1, "kB": 10**3, "KiB": 2**10, "MB": 10**6, "MiB": 2**20}
NUMBERS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
STEP = 32
"""Pixels between the sides of a range."""


Runtime = Literal["micro", "any"]


class BudgetError(ValueError):
    """A budget that nothing fits."""


@dataclass(frozen=True)
class Budget:
    """What a network in int8 may take at most.

    Args:
        ram: Bytes: the arena of TensorFlow Lite Micro for `micro`, activations at their peak for `any`.
        flash: Bytes: the file for it for `micro`, weights for `any`.
        macs: Multiply-accumulates; None: any number.
        runtime: micro or any.
    """

    ram: int
    flash: int
    macs: int | None = None
    runtime: Runtime = "micro"

    @classmethod
    def parse(cls, ram: str, flash: str, macs: str | None, runtime: Runtime = "micro") -> "Budget":
        """The budget of e.g. "256kB", "1MB" and "60M".

        Raises:
            ValueError: naming what is no amount.
        """
        if runtime not in get_args(Runtime):
            raise ValueError(f"runtime has to be one of {', '.join(get_args(Runtime))}, but got {runtime!r}")
        operations = None if macs is None else parse_amount("macs", macs, NUMBERS)
        return cls(parse_amount("ram", ram, BYTES), parse_amount("flash", flash, BYTES), operations, runtime)

    def memory(self, candidate: Candidate) -> int:
        """Bytes of it that `ram` has to hold."""
        return candidate.arena if self.runtime == "micro" else candidate.peak

    def storage(self, candidate: Candidate) -> int:
        """Bytes of it that `flash` has to hold."""
        return candidate.file if self.runtime == "micro" else candidate.params

    @property
    def names(self) -> tuple[str, str]:
        """What `memory` and `storage` are called."""
        return ("arena", "file") if self.runtime == "micro" else ("peak", "weights")

    def holds(self, candidate: Candidate) -> bool:
        """Whether it fits."""
        return self.memory(candidate) <= self.ram and self._holds_but_ram(candidate)

    def explain(self, found: Sequence[Candidate]) -> str:
        """The smallest change with which one of the candidates would fit; none of them does."""
        if not found:
            what = self.names[1]
            return f"flash has to hold the {what} of a network, but all in the space take more than {self.flash:,} B"
        within = [c for c in found if self._holds_but_ram(c)]
        if not within:
            least = min(found, key=lambda c: c.macs)
            return f"macs has to be at least {least.macs:,}, those of {least.name}, but got {self.macs:,}"
        least = min(within, key=lambda c: (self.memory(c), c.macs))
        bytes_, name = self.memory(least), self.names[0]
        return f"ram has to be at least {bytes_:,} B, the {name} of {least.name}, but got {self.ram:,} B"

    def _holds_but_ram(self, candidate: Candidate) -> bool:
        return self.storage(candidate) <= self.flash and (self.macs is None or candidate.macs <= self.macs)


def parse_amount(name: str, text: str, units: dict[str, int]) -> int:
    """The number of e.g. "256kB" or "1.5M"."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)", text)
    if match is None or match[2] not in units or int(float(match[1]) * units[match[2]]) == 0:
        known = ", ".join(filter(None, units))
        raise ValueError(f"{name} has to be a positive number with nothing or {known} behind it, but got {text!r}")
    return int(float(match[1]) * units[match[2]])


def parse_sides(text: str) -> tuple[int, ...]:
    """The sides of "96", "96,128" or "96..160"."""
    match = re.fullmatch(r"([1-9][0-9]*)\.\.([1-9][0-9]*)", text)
    if match is not None and int(match[1]) <= int(match[2]):
        return tuple(range(int(match[1]), int(match[2]) + 1, STEP))
    if re.fullmatch("[1-9][0-9]*(,[1-9][0-9]*)*", text) is None:
        raise ValueError(f"input has to be sides in pixels, e.g. 96, 96,128 or 96..160, but got {text!r}")
    return tuple(map(int, text.split(",")))
