"""The memory of a training step, measured, and the part of it that is held for the gradient."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves

from attnpool.accounting.graph import address


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of a training step, in the type and at the batch that it ran with.

    Args:
        peak: The most that forward and backward pass held at a time, beside the network and its image: activations,
            the kernels' own buffers, gradients. What an optimizer keeps is not in it.
        saved: Held for the gradient when the forward pass was done; parameters are not counted.
        batch: Images.
    """

    peak: int
    saved: int
    batch: int


def measure_training(model: nn.Module, image: Tensor) -> TrainingMemory:
    """Run two steps of a copy of the network in training mode, and measure the memory of each.

    What is frozen stays so, unless all is. On the processor, torch's profiler keeps the record of memory; it writes a
    line to stderr as it starts and stops, unless the environment has KINETO_LOG_LEVEL=99, as the command line sets.

    Raises:
        ValueError: if the network cannot be trained on that image, as batch norms over a single number cannot.
    """
    trained = copy.deepcopy(model).train()
    if not any(p.requires_grad for p in trained.parameters()):
        trained.requires_grad_()
    try:
        with torch.random.fork_rng([image.device] if image.is_cuda else []):  # dropout draws
            saved = _saved_bytes(trained, image)
            trained.zero_grad()
            peak = _peak_bytes(lambda: _loss(trained(image)).backward(), image.device)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"batch has to be one that the network can be trained on, e.g. 2, but got {len(image)}: {reason}"
        ) from error
    return TrainingMemory(peak, saved, len(image))


def allocations(run: Callable[[], Any]) -> tuple[int, int]:
    """How many blocks of the processor's memory were taken, those of kernels included, and the most bytes at a time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        run()
    events = [event for event in prof.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return sum(size > 0 for size in sizes), max(itertools.accumulate(sizes), default=0)


def _peak_bytes(run: Callable[[], Any], device: torch.device) -> int:
    if device.type != "cuda":
        return allocations(run)[1]
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return torch.cuda.max_memory_allocated(device) - before


def _saved_bytes(model: nn.Module, image: Tensor) -> int:
    own = {address(t) for t in [*model.parameters(), *model.buffers()]}
    held: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if address(tensor) not in own:
            held[address(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss = _loss(model(image))
    saved = sum(held.values())
    loss.backward()
    return saved


def _loss(made: Any) -> Tensor:
    return torch.stack([t.float().mean() for t in tree_leaves(made) if isinstance(t, Tensor)]).sum()
