"""What a layer or network would take at the machine's measured rates, part by part, beside what it takes."""

import math
from typing import Any, NamedTuple

import torch
from cases import Case, made
from measure import parts
from torch import Tensor, nn

from attnpool import SelfAttentivePool2d
from attnpool.accounting.graph import on_meta, record
from attnpool.pools._attention import SelfAttention


class Work(NamedTuple):
    """What a part has to do: floating-point operations, scores through soft-max, numbers read and written once."""

    operations: int
    scores: int
    numbers: int
    ms: float | None = None
    """What it takes; None: see the times of the whole."""


def floor(case: Case, best: dict[str, float]) -> list[dict[str, Any]]:
    """Each part of a layer in inference, or a network as a whole; then the training step."""
    work = _of_layer(case) if case.options else _of_network(case)
    rows = [_row(name, part, best) for name, part in work.items()]
    steps = [_row(name, _with_backward(name, part), best) for name, part in work.items()]
    keys = ("gflop", "gscores", "mbytes", "floor_ms")
    return [*rows, {"part": "training step", **{key: sum(row[key] for row in steps) for key in keys}, "ms": None}]


def _with_backward(name: str, work: Work) -> Work:
    """Backward is twice forward, but for attention: that makes its scores again, and so has five products to two."""
    operations = 7 * work.operations // 2 if name == "attention" else 3 * work.operations
    return Work(operations, 2 * work.scores, 3 * work.numbers)


def _row(name: str, work: Work, best: dict[str, float]) -> dict[str, Any]:
    """The floor is the time of computing at the best rates, or of moving everything once if that is longer."""
    computing = work.operations / best["gflops"] + work.scores / best["gscores"]
    return {
        "part": name,
        "gflop": work.operations / 1e9,
        "gscores": work.scores / 1e9,
        "mbytes": 4 * work.numbers / 1e6,
        "floor_ms": max(computing, 4 * work.numbers / best["gbytes"]) / 1e6,
        "ms": work.ms,
    }


def _of_layer(case: Case) -> dict[str, Work]:
    pool = SelfAttentivePool2d(case.shape[1], **case.options).eval()
    batch, channels, height, width = case.shape
    patch, kernel, heads = pool.patch_size, pool.kernel_size[0], pool.attend.attention.num_heads
    dim, tokens = pool.restore.in_channels, (height // patch) * (width // patch)
    names = ("", "attend", "attend.embed", "attend.attention", "attend.attention.qkv", "attend.attention.proj")
    with torch.no_grad():
        took = parts(pool, torch.randn(case.shape), (*names, "restore", "restore_norm"))
    kernel_ms = took["attend.attention"] - took["attend.attention.qkv"] - took["attend.attention.proj"]
    rest_ms = took["attend"] - took["attend.embed"] - took["attend.attention"]
    pool_ms = took[""] - took["attend"] - took["restore"] - took["restore_norm"]
    rows = batch * tokens
    image, grid, weights = math.prod(case.shape), rows * dim, rows * channels
    return {
        "embedding": Work(2 * grid * channels * patch**2, 0, image + grid, took["attend.embed"]),
        "norm, ReLU, position, layout": Work(0, 0, 2 * grid, rest_ms),
        "queries, keys, values": Work(6 * grid * dim, 0, 4 * grid, took["attend.attention.qkv"]),
        "attention": Work(4 * grid * tokens, rows * heads * tokens, 4 * grid, kernel_ms),
        "projection": Work(2 * grid * dim, 0, 2 * grid, took["attend.attention.proj"]),
        "restoring, norm": Work(2 * grid * channels, 0, grid + weights, took["restore"] + took["restore_norm"]),
        "sigmoid, exp, weighted mean": Work(0, 0, weights + image + image // kernel**2, pool_ms),
    }


def _of_network(case: Case) -> dict[str, Work]:
    """Operations as `attnpool.profile` counts them; numbers in and out of every layer."""
    model = made(case, "ours").eval()
    operations = 2 * record(on_meta(model), torch.empty(case.shape, device="meta")).macs
    scores = products = numbers = 0

    def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal scores, products, numbers
        if isinstance(module, SelfAttention):
            batch, tokens, dim = inputs[0].shape
            scores += batch * module.num_heads * tokens**2
            products += 4 * batch * tokens**2 * dim
        elif not list(module.children()):
            numbers += output.numel() + sum(given.numel() for given in inputs if isinstance(given, Tensor))

    for module in model.modules():
        module.register_forward_hook(see)
    with torch.no_grad():
        model(torch.randn(case.shape))
    return {
        "all but attention": Work(operations - products, 0, numbers),
        "attention": Work(products, scores, 0),
    }
