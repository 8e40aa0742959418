"""What all tests share: one thread each, and fresh seeds."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run side by side, and so do the processes they start

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
