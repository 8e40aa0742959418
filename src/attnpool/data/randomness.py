"""Random numbers that depend on integers only, for code that draws from the global generators."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def kept() -> Iterator[None]:
    """After the block, `random`, `numpy.random` and torch on the CPU draw as if it had not been; costs about 0.1 ms."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


def seed_all(*numbers: int) -> None:
    """Let `random`, `numpy.random` and torch on the CPU draw from seeds made of `numbers`; for use within `kept`.

    The three seeds are drawn from `numpy.random.SeedSequence(numbers)`, so that neighbouring numbers give unrelated
    streams. Generators of accelerators and generators that a caller made are neither read nor changed.

    Args:
        numbers: At least one integer of at least 0, e.g. seed, epoch, index; the order counts.

    Raises:
        ValueError: No number, or a negative one.
    """
    if not numbers or min(numbers) < 0:
        raise ValueError(f"numbers has to be one or more integers of at least 0, but got {numbers}")
    for_random, for_numpy, for_torch = np.random.SeedSequence(numbers).generate_state(3, np.uint64).tolist()
    random.seed(for_random)
    np.random.seed(for_numpy >> 32)  # noqa: NPY002
    torch.default_generator.manual_seed(for_torch)


@contextmanager
def randomness(*numbers: int) -> Iterator[None]:
    """`seed_all(*numbers)` for the block alone."""
    with kept():
        seed_all(*numbers)
        yield
