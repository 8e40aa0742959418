"""Weights and inputs behind the golden vectors: a tensor is a function of its published name and shape."""

import zlib

import numpy as np


def _rng(text: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(text.encode()))


def weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Value (float64; int64 for counters) of the published parameter or buffer `key`."""
    rng, leaf = _rng(key), key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_var":
        return rng.uniform(0.5, 1.5, shape)
    if leaf in ("running_mean", "bias", "in_proj_bias"):
        return 0.1 * rng.standard_normal(shape)
    if len(shape) == 1:  # scale of a normalisation
        return rng.uniform(0.5, 1.5, shape)
    if "embed" in key:  # position tables
        return rng.uniform(0, 1, shape)
    fan_in = int(np.prod(shape[1:])) if len(shape) < 5 else int(np.prod(shape[2:]))  # 5-D: dynamic convolution
    return rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)


def model_input(case: str, shape: tuple[int, ...]) -> np.ndarray:
    return _rng(f"input:{case}").standard_normal(shape)


def cotangent(case: str, shape: tuple[int, ...]) -> np.ndarray:
    """The fixed output gradient with which `CASE/dx` was taken."""
    return _rng(f"input:{case}:cotangent").standard_normal(shape)
