"""Whether a graph is being made of the computation, so that it has to stand there as it is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_WANTED: ContextVar[bool] = ContextVar("as_written", default=False)


@contextmanager
def as_written() -> Iterator[None]:
    """What runs inside stands there as it is written, as if a graph were being made."""
    token = _WANTED.set(True)
    try:
        yield
    finally:
        _WANTED.reset(token)


def is_traced() -> bool:
    """Under a compiler, an exporter, a tracer, `as_written`, or a transform of `torch.func` (no public check)."""
    making_a_graph = torch.compiler.is_compiling() or torch.jit.is_tracing() or _WANTED.get()
    return making_a_graph or torch._C._are_functorch_transforms_active()
