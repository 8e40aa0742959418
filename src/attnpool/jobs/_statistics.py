"""What few seeds, or images, say: intervals of 95 %, a paired difference, and the front of two quantities."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import sqrt
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Args:
        mean: Of the values.
        half: Half the width of its 95 % interval; None for a single value, which has none.
        n: How many values.
    """

    mean: float
    half: float | None
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval does not hold 0; false if there is none."""
        return self.half is not None and abs(self.mean) > self.half


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, and half = t(0.975, n - 1) * s / sqrt(n), Student's interval; s with n - 1.

    Args:
        values: One for each seed.

    Raises:
        ValueError: if there is none.
    """
    n = len(values)
    if n == 0:
        raise ValueError("values has to hold at least one number, but got none")
    half = None if n == 1 else _quantile(n - 1) * float(np.std(values, ddof=1)) / sqrt(n)
    return Estimate(float(np.mean(values)), half, n)


def paired(these: Mapping[Hashable, float], those: Mapping[Hashable, float]) -> Estimate | None:
    """The mean of these - those over the seeds that both have; None if they share no seed.

    Args:
        these: Value of each seed.
        those: The same of the baseline.
    """
    common = [seed for seed in these if seed in those]
    return estimate([these[seed] - those[seed] for seed in common]) if common else None


def wilson(part: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a part: (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), z = 1.96.

    It is for n independent draws, such as test images; it says nothing of other seeds. Unlike the interval of scipy,
    which is the same, it needs no extra.

    Args:
        part: The part p that was found, 0 to 1.
        n: Of how many.

    Raises:
        ValueError: if either breaks its rule.
    """
    if not (n >= 1 and 0 <= part <= 1):
        raise ValueError(f"part has to be from 0 to 1 and n positive, but got {part} and {n}")
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle, half = part + z * z / (2 * n), z * sqrt(part * (1 - part) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def front(costs: Sequence[float | None], values: Sequence[float], *, higher_is_better: bool = True) -> list[int]:
    """Places of the points that no other one beats: no dearer and no worse, and one of the two better; cheapest first.

    Args:
        costs: Less is better; a point whose cost is None is left out.
        values: Of the same points.
        higher_is_better: Whether a larger value is better.
    """
    sign = 1 if higher_is_better else -1
    points = sorted(
        (cost, -sign * value, i) for i, (cost, value) in enumerate(zip(costs, values, strict=True)) if cost is not None
    )
    found: list[tuple[float, float, int]] = []
    for cost, worth, i in points:
        if not found or worth < found[-1][1] or (cost, worth) == found[-1][:2]:
            found.append((cost, worth, i))
    return [i for _, _, i in found]


@cache
def _quantile(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))
