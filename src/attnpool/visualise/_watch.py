"""Running a network to see what goes through some of its modules; nothing of it is left behind."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attnpool.pools._eval_mode import eval_mode

Images = Tensor | Sequence[Tensor]
"""What a network takes: a batch (B, C, H, W), or for a detector a list of images (3, H, W) in 0..1."""
Seen = dict[str, tuple[tuple[Any, ...], Any]]
"""Path of a module to the arguments and the result of its first call, in the order in which the calls ended."""


@contextmanager
def hooked(
    modules: Iterable[tuple[str, nn.Module]], record: Callable[[str, tuple[Any, ...], Any], None]
) -> Iterator[None]:
    """Inside, every call of the modules is told to `record`: path, arguments, result."""

    def hook(path: str) -> Callable[..., None]:
        return lambda _, given, made: record(path, given, made)

    handles = [module.register_forward_hook(hook(path)) for path, module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def watch(model: nn.Module, x: Images, wanted: Callable[[nn.Module], bool]) -> Seen:
    """Run the network in eval mode, without gradients, and keep what goes through the modules that are wanted."""
    seen: Seen = {}
    modules = [(path, module) for path, module in model.named_modules() if wanted(module)]
    with eval_mode(model), torch.no_grad(), hooked(modules, lambda path, *call: seen.setdefault(path, call) and None):
        model(x)
    return seen


@contextmanager
def without_gradients_of_its_own(model: nn.Module) -> Iterator[None]:
    """Inside, no parameter asks for a gradient or has one, whatever is derived; after it each is as it was."""
    before = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    for p, _, _ in before:
        p.requires_grad_(False)
        p.grad = None
    try:
        yield
    finally:
        for p, wants, grad in before:
            p.requires_grad_(wants)
            p.grad = grad
