"""Self-attention over the patches of a map of one size, as runtimes without a fused kernel do best."""

import torch
from torch import Tensor, nn

from attnpool.pools._patches import PatchAttention

JOINED = 10
"""Most tensors that TensorFlow Lite Micro joins at once."""


class BlockedAttention(nn.Module):
    """`PatchAttention` for one size of map: a head at a time, its queries in blocks, positions constant.

    The scale is part of the queries' weights. Keys are rows of tokens and values rows of channels, so that both
    products of a block multiply by a matrix as it lies in memory: TensorFlow Lite Micro would keep a transposed copy
    for every block, and for good.

    Args:
        attend: In eval mode.
        grid: Height and width of the map of tokens, in patches.
        blocks: In how many blocks, at least, the queries of all heads are taken, one after the other.

    Shape:
        (1, C, H, W) to (1, d, h, w), (h, w) = `grid`.
    """

    place: Tensor | None

    def __init__(self, attend: PatchAttention, grid: tuple[int, int], blocks: int) -> None:
        super().__init__()
        self.embed, self.norm, self.context = attend.embed, attend.norm, attend.context
        attention = attend.attention
        self.grid, self.rows = grid, -(-grid[0] * grid[1] // -(-blocks // attention.num_heads))  # of a block
        place = None if attend.position is None else attend.position(*grid).detach().T.unflatten(1, grid)
        self.register_buffer(
            "place", None if place is None else place.clone(memory_format=torch.contiguous_format)[None]
        )  # (1, d, h, w)
        per_head = (3, attention.num_heads, -1)
        weight, bias = (t.detach().unflatten(0, per_head) for t in (attention.qkv.weight, attention.qkv.bias))
        scale = weight.shape[2] ** -0.5
        heads = range(attention.num_heads)
        self.queries = nn.ModuleList(_linear(weight[0, i] * scale, bias[0, i] * scale) for i in heads)
        self.keys = nn.ModuleList(_linear(weight[1, i], bias[1, i]) for i in heads)
        self.values = nn.ModuleList(_pointwise(weight[2, i], bias[2, i]) for i in heads)
        self.proj = attention.proj

    def forward(self, x: Tensor, *where: Tensor) -> Tensor:
        z = self.norm(self.embed(x, *where)).relu()  # (1, d, h, w)
        z = z if self.place is None else z + self.place
        seen = tokens = z.flatten(2).mT  # (1, N, d)
        if self.context is not None:
            seen = self.context(tokens, *self.grid)  # (1, M, d)
            z = seen.mT.unsqueeze(2)  # (1, d, 1, M)
        heads = []
        for query, key, value in zip(self.queries, self.keys, self.values, strict=True):
            k, v = key(seen), value(z).flatten(2)  # (1, M, d / h) and (1, d / h, M)
            q = query(tokens)  # (1, N, d / h)
            parts = [q[:, i : i + self.rows] for i in range(0, q.shape[1], self.rows)]
            heads.append(_joined([(part @ k.mT).softmax(-1) @ v.mT for part in parts]))
        return self.proj(torch.cat(heads, 2)).mT.unflatten(2, self.grid)


def _joined(parts: list[Tensor]) -> Tensor:
    """(1, rows, d) after one another; groups of JOINED are laid flat, since converters make one of nested ones."""
    if len(parts) <= JOINED:
        return torch.cat(parts, 1)
    groups = [torch.cat(parts[i : i + JOINED], 1).flatten(1) for i in range(0, len(parts), JOINED)]
    return torch.cat(groups, 1).unflatten(1, (-1, parts[0].shape[-1]))


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return linear


def _pointwise(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    conv.weight, conv.bias = nn.Parameter(weight[..., None, None].clone()), nn.Parameter(bias.clone())
    return conv
