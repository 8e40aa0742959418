"""The exponential of a sigmoid, for runtimes whose exponential is in float alone."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Int8Gates(TorchFunctionMode):
    """Within, exp(s) of a sigmoid s is sigmoid(s) / sigmoid(-s): the same, of functions that int8 kernels have.

    TensorFlow Lite Micro would leave int8 for an exponential: eight bytes for each number that takes one. For an s that
    is no sigmoid the two would be out of the range of int8.
    """

    def __init__(self) -> None:
        super().__init__()
        self._gates: dict[int, Tensor] = {}  # kept, so that no other tensor takes an id

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.exp, Tensor.exp) and id(args[0]) in self._gates:
            return args[0].sigmoid() / (-args[0]).sigmoid()
        made = func(*args, **(kwargs or {}))
        if func in (torch.sigmoid, Tensor.sigmoid):
            self._gates[id(made)] = made
        return made
