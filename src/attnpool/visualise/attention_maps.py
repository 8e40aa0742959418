"""What one place of a map attends to: a row of the attention for each head."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attnpool.pools._attention import SelfAttention
from attnpool.pools._patches import PatchAttention
from attnpool.visualise._frame import frame_of
from attnpool.visualise._watch import Images, watch


@dataclass(frozen=True)
class AttentionMap:
    """What one patch attends to.

    Args:
        rows: Of each image and head the part of the attention that each patch gets, (B, heads, h, w); they sum to 1.
            With coarser keys (`kv_stride`) h and w are those of the coarser grid.
        query: (row, column) of the patch that asks.
        grid: (rows, columns) of the patches that ask.
    """

    rows: Tensor
    query: tuple[int, int]
    grid: tuple[int, int]


def attention_maps(model: nn.Module, x: Images, query: tuple[float, float] = (0.5, 0.5)) -> dict[str, AttentionMap]:
    """softmax(q k^T / sqrt(d / h)) of one query: path of the pool to its `AttentionMap`.

    Computed for that query alone; the other rows are never made. The network stays as it is. Layers without attention
    over positions are left out.

    Args:
        model: Any network with pools of this library, or a detector on one.
        x: What it takes: (B, C, H, W), normalised; for a detector a list of images (3, H, W) in 0..1.
        query: Place of the patch that asks, (x, y), in parts of the width and height of the image, 0 to 1; of the first
            one where a list has images of several sizes.

    Raises:
        ValueError: if `query` is not within 0 and 1.
    """
    check_query(query)
    frame = frame_of(model, x)
    x_part, y_part = (
        part * of / whole for part, of, whole in zip(query, frame.shown[::-1], frame.size[::-1], strict=True)
    )
    seen = watch(model, x, lambda module: isinstance(module, PatchAttention | SelfAttention))
    found = {}
    for path, (_, made) in seen.items():
        layer: Any = model.get_submodule(path)
        if isinstance(layer, PatchAttention):
            given, _ = seen[f"{path}.attention"]
            found[path.removesuffix(".attend")] = _ask(layer, given, made.shape[-2:], (x_part, y_part))
    return found


def check_query(query: tuple[float, float]) -> None:
    """Raise `ValueError` unless `query` is a place, (x, y) from 0 to 1."""
    if len(query) != 2 or not all(0 <= part <= 1 for part in query):
        raise ValueError(f"query has to be x,y as parts of the image from 0 to 1, but got {query}")


def _ask(layer: Any, given: tuple[Any, ...], grid: tuple[int, int], query: tuple[float, float]) -> AttentionMap:
    height, width = grid
    row, column = min(int(query[1] * height), height - 1), min(int(query[0] * width), width - 1)
    stride = 1 if layer.context is None else layer.context.stride
    shape = (-(-height // stride), -(-width // stride))
    rows = layer.attention.row(row * width + column, *given)  # (B, heads, h * w)
    return AttentionMap(rows.unflatten(-1, shape), (row, column), (height, width))
