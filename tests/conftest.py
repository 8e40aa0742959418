"""What all tests share: one thread each, and fresh seeds."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run side by side, and so do the processes they start

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
