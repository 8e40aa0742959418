"""Costs in words, and the numbers of a row of results.jsonl: names, units, and where they stand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONVENTIONS = {
    "peak": "peak: all that is live at once, the inside of attention included",
    "arena": "arena: the same at fixed places, as TensorFlow Lite Micro plans them",
    "in_out": "in+out: the largest input + output of a layer, a pool being one (MCUNet's)",
    "largest": "largest: the largest map, insides of inverted residuals left out (RNNPool's)",
}
"""Conventions of memory to what is said of them."""
DEVICE = {
    "total": "on a micro-controller: the arena, and what TensorFlow Lite Micro keeps besides",
    "file": "and the network's file for it",
}
"""What int8 takes on a micro-controller."""
DTYPES = ("int8", "float32")


@dataclass(frozen=True)
class Quantity:
    """One number of a row.

    Args:
        key: Its name in the page and in summary.csv.
        label: Its name for readers.
        unit: Of what is shown.
        scale: What is shown is the number times this.
        digits: Decimals that are shown.
        path: Where it stands in the row.
        higher_is_better: Whether more of it is better.
        optional: Whether a row may lack it.
    """

    key: str
    label: str
    unit: str
    scale: float
    digits: int
    path: tuple[str, ...]
    higher_is_better: bool = False
    optional: bool = False

    def of(self, row: Mapping[str, Any]) -> float | None:
        """The number in a row; None if it was not measured."""
        value: Any = row
        for part in self.path:
            value = None if value is None else value.get(part)
        return value

    def text(self, value: float) -> str:
        """The number as it is shown, without its unit."""
        return f"{value * self.scale:,.{self.digits}f}"

    @property
    def title(self) -> str:
        """With the unit, for an axis or a column."""
        return f"{self.label}, {self.unit}" if self.unit else self.label


def _memory(dtype: str, convention: str) -> Quantity:
    label = f"memory, {convention.replace('in_out', 'in+out')}, {dtype}"
    return Quantity(f"{dtype}_{convention}", label, "kB", 1e-3, 1, ("memory", dtype, convention))


COUNTED = (
    *(_memory(dtype, convention) for dtype in DTYPES for convention in CONVENTIONS),
    *(Quantity(f"{dtype}_weights", f"weights, {dtype}", "kB", 1e-3, 1, ("weight_bytes", dtype)) for dtype in DTYPES),
    Quantity("macs", "operations", "million MACs", 1e-6, 2, ("macs",)),
    Quantity("params", "parameters", "", 1, 0, ("params",)),
)
"""Costs that are the same for all seeds."""
TIMED = (
    Quantity("latency", "latency", "ms", 1, 2, ("latency", "median_ms"), optional=True),
    Quantity("seconds", "training", "s", 1, 1, ("seconds",)),
)
"""Costs that are measured, and shown as the mean over the seeds."""
COSTS = (*COUNTED, *TIMED)
