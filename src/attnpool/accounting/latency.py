"""How long a network takes, here and now."""

import time
from dataclasses import dataclass
from statistics import quantiles

import torch
from torch import Tensor, nn

from attnpool.pools._eval_mode import eval_mode

WARM_UP, LEAST, MOST, LIMIT = 3, 3, 50, 3.0
"""Most passes that are not counted; fewest and most that are; seconds after which no further one begins."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a pass in eval mode, and how they were found.

    Args:
        median: Of all passes that count; lower, upper: their quartiles.
        runs: How many count.
        warm_up: How many came before them.
        threads: Of the processor's that torch uses.
        device: Where the network is.
        dtype: Of its parameters.
    """

    median: float
    lower: float
    upper: float
    runs: int
    warm_up: int
    threads: int
    device: str
    dtype: str


def measure_latency(model: nn.Module, image: Tensor) -> Latency:
    """Time a network on an image, both on the device where it is to run: 3 passes or more, until 3 seconds are over.

    Up to 3 passes come before, but no further one after a second.
    """
    found: list[float] = []
    warm: list[float] = []
    with eval_mode(model), torch.inference_mode():
        while not warm or (len(warm) < WARM_UP and sum(warm) < LIMIT / 3):
            warm.append(_seconds(model, image))
        while len(found) < LEAST or (sum(found) < LIMIT and len(found) < MOST):
            found.append(_seconds(model, image))
    lower, median, upper = (1000 * value for value in quantiles(found, n=4))
    threads, dtype = torch.get_num_threads(), str(image.dtype).removeprefix("torch.")
    return Latency(median, lower, upper, len(found), len(warm), threads, str(image.device), dtype)


def _seconds(model: nn.Module, image: Tensor) -> float:
    begun = time.perf_counter()
    model(image)
    if image.is_cuda:
        torch.cuda.synchronize(image.device)
    return time.perf_counter() - begun
