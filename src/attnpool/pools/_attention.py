"""Exact multi-head self-attention over the patches of a map, in memory linear in their number."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attnpool.pools._size import positive

CPU_WIDTH = 16
"""Narrowest head in float32 that the CPU's fused kernel is quick with: narrower ones take longer (docs/speed.md)."""


class SelfAttention(nn.Module):
    """softmax(q k^T / sqrt(d / h)) v in each of h heads, then a projection: no residual, no norm, no MLP.

    The scores are never stored: `scaled_dot_product_attention` makes them piece by piece, forward and backward.
    Vaswani et al., 2017, https://arxiv.org/abs/1706.03762

    Args:
        dim: Channels d of a token, a multiple of `num_heads`.
        num_heads: Heads h.
        query_blocks: None, or in how many blocks the h * N queries of all heads are taken, one after the other, in
            explicit products and soft-max, with h * N / query_blocks * N scores at a time: for export and accounting,
            or a device without fused kernels. For the gradient a block's scores are made again.

    Shape:
        (B, N, d), and (B, M, d) to attend to if that is not the same, to (B, N, d).
    """

    def __init__(self, dim: int, num_heads: int, query_blocks: int | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_blocks = None if query_blocks is None else positive("query_blocks", query_blocks)
        self.qkv = nn.Linear(dim, 3 * dim)
        proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.qkv.weight)  # as nn.MultiheadAttention does
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(proj.bias)
        self.proj: nn.Module = proj

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if context is None:
            q, k, v = self._heads(self.qkv(x), 3)  # each (B, h, N, d / h)
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            dim = len(weight) // 3  # d, or less where pruned
            (q,) = self._heads(F.linear(x, weight[:dim], bias[:dim]), 1)
            k, v = self._heads(F.linear(context, weight[dim:], bias[dim:]), 2)  # each (B, h, M, d / h)
        y = fused_attention(q, k, v) if self.query_blocks is None else _in_blocks(q, k, v, self.query_blocks)
        return self.proj(y.transpose(1, 2).flatten(2))  # (B, N, d)

    @torch.no_grad()
    def row(self, query: int, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The attention of one token alone, softmax(q k^T / sqrt(d / h)) of each head, for pictures: (B, h, N or M)."""
        weight, bias = self.qkv.weight, self.qkv.bias
        dim = len(weight) // 3
        (q,) = self._heads(F.linear(x[:, query : query + 1], weight[:dim], bias[:dim]), 1)  # (B, h, 1, d / h)
        of = x if context is None else context
        (k,) = self._heads(F.linear(of, weight[dim : 2 * dim], bias[dim : 2 * dim]), 1)  # (B, h, N or M, d / h)
        return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1).squeeze(2)

    def _heads(self, x: Tensor, count: int) -> tuple[Tensor, ...]:
        """(B, N, count * d) to `count` of (B, h, N, d / h)."""
        return x.unflatten(-1, (count, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, query_blocks={self.query_blocks}"


def fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d / h)) v, no scores stored: (B, h, N, d / h)."""
    width = q.shape[-1]
    narrow = q.device.type == "cpu" and q.dtype == torch.float32 and 1 < width < CPU_WIDTH
    if not narrow or torch.compiler.is_exporting():
        return F.scaled_dot_product_attention(q, k, v)
    q, k, v = (F.pad(t, (0, CPU_WIDTH - width)) for t in (q, k, v))  # zeros change neither scores nor sums
    return F.scaled_dot_product_attention(q, k, v, scale=width**-0.5)[..., :width]


def _in_blocks(q: Tensor, k: Tensor, v: Tensor, blocks: int) -> Tensor:
    """The same in at least so many blocks of queries: some heads after the others, or some queries of each head."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1) @ v

    shows_all = torch.compiler.is_exporting() or torch._C._are_functorch_transforms_active()
    saves = torch.is_grad_enabled() and not shows_all
    heads, rows = max(1, q.shape[1] // blocks), -(-q.shape[2] // -(-blocks // q.shape[1]))  # of a block
    made = []
    for queries, *rest in zip(*(t.split(heads, dim=1) for t in (q, k, v)), strict=True):
        parts = queries.split(rows, dim=2)  # each (B, heads, rows, d / h)
        if saves:
            done = [checkpoint(attend, part, *rest, use_reentrant=False, preserve_rng_state=False) for part in parts]
        else:
            done = [attend(part, *rest) for part in parts]
        made.append(torch.cat(done, dim=2))
    return torch.cat(made, dim=1)
