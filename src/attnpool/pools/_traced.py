"""Whether a graph is being made of the computation, so that it has to stand there as it is written."""

import torch


def is_traced() -> bool:
    """Under a compiler, an exporter, a tracer, or a transform of `torch.func` (for which torch has no public check)."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._are_functorch_transforms_active()
