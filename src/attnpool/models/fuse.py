"""Batch norms folded into the convolutions before them, in any network, for inference."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from attnpool.layers.dynamic_conv import DynamicConv2d
from attnpool.models.sites import CONVOLUTIONS, blank_image
from attnpool.pools._fold import fold_, merge_
from attnpool.pools.nlp import SelfAttentivePool2d


def fuse_(model: nn.Module, *, input_size: tuple[int, int] = (224, 224)) -> list[str]:
    """Fold every batch norm that alone follows a convolution into it, in place: the outputs stay, to rounding.

    In self-attentive pools, the attention's projection and the restoring convolution become one, too.

    The network is run on zeros of `input_size` to see what follows what. It is meant for inference, and for timing and
    deployment: its batch norms are gone, so that it cannot be trained as before, nor saved as a checkpoint of its spec.

    Args:
        model: Any network of 2-d convolutions on one image tensor, in eval mode.
        input_size: (height, width) of the zeros to run the network on, in pixels.

    Returns:
        The paths of the folded norms.

    Raises:
        ValueError: if the network is in training mode, or if there is nothing to fold.
    """
    if model.training:
        raise ValueError("model has to be in eval mode: batch norms of training depend on the batch")
    pairs = _pairs(model, input_size)
    pools = [module for module in model.modules() if isinstance(module, SelfAttentivePool2d)]
    if not (pairs or pools):
        raise ValueError("model has to have a batch norm that alone follows a convolution, but has none")
    for conv, norm in pairs.items():
        replaced: Any = model.get_submodule(norm)
        fold_(model.get_submodule(conv), replaced)
        rest = nn.Sequential(replaced.drop, replaced.act) if isinstance(replaced, BatchNormAct2d) else nn.Identity()
        model.set_submodule(norm, rest.eval())
    for pool in pools:
        pool.attend.attention.proj = merge_(pool.attend.attention.proj, pool.restore)
    return list(pairs.values())


class _Uses(TorchFunctionMode):
    """Counts how many operations read each tensor; keeps them all, so that no two have the same id."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self.alive: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.alive.append((args, kwargs, made))
        if isinstance(made, Tensor | tuple | list):
            self.count.update({id(t) for t in (*args, *(kwargs or {}).values()) if isinstance(t, Tensor)})
        return made


def _pairs(model: nn.Module, input_size: tuple[int, int]) -> dict[str, str]:
    """Path of each convolution whose output is read by one batch norm and nothing else, to the path of that norm."""
    made: dict[int, str] = {}
    read: list[tuple[int, str]] = []
    runs: Counter[str] = Counter()

    def hook(path: str) -> Callable[..., None]:
        def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            runs[path] += 1
            if isinstance(module, CONVOLUTIONS):
                made[id(output)] = path
            else:
                read.append((id(inputs[0]), path))

        return record

    image = blank_image(model, input_size)
    handles = [m.register_forward_hook(hook(path)) for path, m in model.named_modules() if _takes_part(m)]
    try:
        with _Uses() as uses, torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    pairs = {made[given]: norm for given, norm in read if given in made and uses.count[given] == 1}
    return {conv: norm for conv, norm in pairs.items() if runs[conv] == runs[norm] == 1}


def _takes_part(module: nn.Module) -> bool:
    if type(module) in (nn.BatchNorm2d, BatchNormAct2d):
        return getattr(module, "running_mean", None) is not None
    return isinstance(module, DynamicConv2d) or (isinstance(module, nn.Conv2d) and "weight" in module._parameters)
