"""Numbers in and out of the runtimes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def quantized(x: Array, tensor: dict[str, Any]) -> Array:
    """The numbers in the type that a tensor of a .tflite file has."""
    if tensor["dtype"] == np.float32:
        return np.ascontiguousarray(x, np.float32)
    scale, zero = _scale(tensor)
    return np.clip(np.round(x / scale) + zero, -128, 127).astype(np.int8)


def dequantized(x: Array, tensor: dict[str, Any]) -> Array:
    """The numbers that a tensor of a .tflite file stands for."""
    if tensor["dtype"] == np.float32:
        return x.astype(np.float32)
    scale, zero = _scale(tensor)
    return (x.astype(np.float32) - zero) * scale


def _scale(tensor: dict[str, Any]) -> tuple[float, int]:
    of = tensor["quantization_parameters"]
    return float(of["scales"][0]), int(of["zero_points"][0])
