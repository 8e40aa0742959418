"""Random numbers of integers, augmentation, and the centre crop of evaluation."""

import random

import numpy as np
import pytest
import torch

from attnpool.data.randomness import randomness


def draws() -> list[float]:
    """Two numbers of each of the three global generators; a normal one too, of which NumPy keeps a second for later."""
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), *torch.rand(2).tolist()]  # noqa: NPY002


def test_randomness_depends_on_its_numbers_only() -> None:
    seen = []
    for numbers in [(0, 1, 2), (0, 1, 2), (0, 2, 1), (0, 1, 3), (0,), (2**63, 0)]:
        draws()
        with randomness(*numbers):
            seen.append(draws())
    assert seen[0] == seen[1]
    assert len({tuple(drawn) for drawn in seen}) == 5
    assert len({*seen[0]}) == 6  # the three generators give unrelated numbers


def test_randomness_leaves_all_three_states_even_after_an_error() -> None:
    with randomness(7):
        draws()
        expected = draws()
    with randomness(7):
        draws()
        with pytest.raises(ZeroDivisionError), randomness(0):
            draws()
            raise ZeroDivisionError
        assert draws() == expected


@pytest.mark.parametrize("numbers", [(), (0, -1)])
def test_randomness_wants_integers_of_at_least_0(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="numbers has to be one or more integers of at least 0, but got"):
        randomness(*numbers).__enter__()
