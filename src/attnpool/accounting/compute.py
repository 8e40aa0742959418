"""Multiply-accumulates of an operation: torch's own formulas, a few more, and which operations have no products."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torchvision  # noqa: F401  (registers its operations)
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten

SAMPLE = 4
"""Multiply-accumulates of a value that is sampled between four others."""


class UncountedError(ValueError):
    """Operations that have no formula; `operations` are their names."""

    def __init__(self, operations: Sequence[str]) -> None:
        super().__init__(
            f"model has to be of operations with a known number of products, but has {', '.join(operations)}; "
            "allow_uncounted=True (--allow-uncounted) counts them as none"
        )
        self.operations = tuple(operations)


def _sampled(made: Any, *_: Any, **__: Any) -> int:
    return SAMPLE * int(made.numel())


def _deformable_convolution(made: Any, x: Any, weight: Any, *_: Any, **__: Any) -> int:
    """The products of a plain convolution, and the samples that it reads."""
    kernel = weight.shape[2] * weight.shape[3]
    sampled = x.shape[0] * x.shape[1] * kernel * made.shape[2] * made.shape[3]
    return int(made.numel()) * weight.shape[1] * kernel + SAMPLE * sampled


FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.torchvision.deform_conv2d: _deformable_convolution,
    aten.grid_sampler_2d: _sampled,
    aten.upsample_bilinear2d: _sampled,
}
"""Operations that torch has no formula for: called with what they made, then their arguments."""

WITHOUT_PRODUCTS = {
    *(aten.avg_pool2d, aten.max_pool2d_with_indices, aten._adaptive_avg_pool2d, aten.adaptive_max_pool2d),
    *(aten.native_batch_norm, aten._native_batch_norm_legit_no_training, aten.native_layer_norm),
    *(aten.native_group_norm, aten._softmax, aten._log_softmax, aten._safe_softmax, aten.cumsum),
    *(aten.cat, aten.stack, aten.constant_pad_nd, aten.reflection_pad2d, aten.replication_pad2d, aten.flip),
    *(aten.roll, aten.repeat, aten.pixel_shuffle, aten.pixel_unshuffle, aten.upsample_nearest2d, aten._to_copy),
    *(aten.index, aten.index_select, aten.gather, aten.embedding, aten.im2col, aten.hardswish, aten._unsafe_view),
    *(aten.zeros_like, aten.ones_like, aten.empty_like, aten.full_like, aten.new_zeros, aten.new_ones),
    *(aten.unsafe_split, aten.unsafe_split_with_sizes, aten.unsafe_chunk, aten.scatter, aten.index_put),
    *(aten.new_empty, aten.as_strided, aten.copy, aten.masked_fill, aten._assert_tensor_metadata, aten.native_dropout),
}
"""Operations beside elementwise ones, views and reductions that count as none, as in published figures."""


def count_macs(operation: Any, args: Any, kwargs: Any, made: Any) -> int | None:
    """Multiply-accumulates of one call, by torch's formula where it has one; None if no formula is known.

    Products that are summed count: convolutions, linear layers, matrix products, values sampled between others. Norms,
    activations, soft-max, sums and means, and copies do not, as in published figures.
    """
    packet = operation._overloadpacket
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=made)) // 2
    if packet in FORMULAS:
        return FORMULAS[packet](made, *args, **kwargs)
    return 0 if _has_no_products(operation) else None


def _has_no_products(operation: Any) -> bool:
    """Whether it works element by element, is a view or a reduction, or one of those listed, in place or not."""
    name = operation._schema.name.split("::")[1].rstrip("_")
    packet = getattr(aten, name, None) if operation.namespace == "aten" else operation._overloadpacket
    overloads = [] if packet is None else [getattr(packet, overload) for overload in packet.overloads()]
    kinds = {torch.Tag.pointwise, getattr(torch.Tag, "reduction", torch.Tag.pointwise)}
    return packet in WITHOUT_PRODUCTS or any(kinds & set(op.tags) or _is_view(op) for op in (operation, *overloads))


def _is_view(operation: Any) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in operation._schema.returns)
