"""Exact multi-head self-attention over the patches of a map, in memory linear in their number."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnpool.pools._size import positive


class PositionTable(nn.Module):
    """P[i, j] = concat(col[j], row[i]): two learned tables, uniform(0, 1) at the start.

    A side of more than `size` positions takes the table interpolated to that length.

    Args:
        dim: Channels d of a position; d // 2 are the column's, the rest the row's.
        size: Rows of each table, in positions.

    Shape:
        forward(h, w) gives (h * w, d), row by row.
    """

    def __init__(self, dim: int, size: int = 256) -> None:
        super().__init__()
        self.col = nn.Parameter(torch.rand(size, dim // 2))
        self.row = nn.Parameter(torch.rand(size, dim - dim // 2))

    def forward(self, height: int, width: int) -> Tensor:
        col = _resized(self.col, width).unsqueeze(0).expand(height, -1, -1)  # (h, w, d / 2)
        row = _resized(self.row, height).unsqueeze(1).expand(-1, width, -1)  # (h, w, d / 2)
        return torch.cat((col, row), dim=-1).flatten(0, 1)  # (h * w, d)


def _resized(table: Tensor, length: int) -> Tensor:
    """The first `length` rows, or all of them stretched to `length`."""
    if length <= table.shape[0]:
        return table[:length]
    return F.interpolate(table.T.unsqueeze(0), size=length, mode="linear", align_corners=True).squeeze(0).T


class SelfAttention(nn.Module):
    """softmax(q k^T / sqrt(d / h)) v in each of h heads, then a projection: no residual, no norm, no MLP.

    The scores are never stored (`scaled_dot_product_attention`). Vaswani et al., 2017, https://arxiv.org/abs/1706.03762

    Args:
        dim: Channels d of a token, a multiple of `num_heads`.
        num_heads: Heads h.

    Shape:
        (B, N, d) to (B, N, d).
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.qkv.weight)  # as nn.MultiheadAttention does
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, h, d / h)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, h, N, d / h)
        y = F.scaled_dot_product_attention(q, k, v)  # (B, h, N, d / h)
        return self.proj(y.transpose(1, 2).flatten(2))  # (B, N, d)


def embed_dim(channels: int, num_heads: int, embed_ratio: float = 1.0) -> int:
    """Channels of a token: d = h * max(1, round(embed_ratio * C / h))."""
    if not embed_ratio > 0:
        raise ValueError(f"embed_ratio has to be positive, but got {embed_ratio!r}")
    return positive("num_heads", num_heads) * max(1, round(embed_ratio * positive("channels", channels) / num_heads))


class PatchAttention(nn.Module):
    """attention(ReLU(BN(conv_p(x))) + position): every patch of the map attends to every other.

    Args:
        embed: Maps (B, C, H, W), and what else `forward` is given, to tokens on the patch grid (B, d, h, w).
        dim: Channels d of a token.
        num_heads: Heads of the attention.
        position: "learned" tables, or "none".
        norm: Whether batch norm follows the embedding.

    Shape:
        (B, C, H, W) to (B, d, h, w).
    """

    def __init__(
        self, embed: nn.Module, dim: int, num_heads: int, position: str = "learned", norm: bool = True
    ) -> None:
        super().__init__()
        if position not in ("learned", "none"):
            raise ValueError(f"position has to be 'learned' or 'none', but got {position!r}")
        self.embed = embed
        self.norm: nn.Module = nn.BatchNorm2d(dim) if norm else nn.Identity()
        self.position = PositionTable(dim) if position == "learned" else None
        self.attention = SelfAttention(dim, num_heads)

    def forward(self, x: Tensor, *where: Tensor) -> Tensor:
        e = self.norm(self.embed(x, *where)).relu()  # (B, d, h, w)
        h, w = e.shape[-2:]
        z = e.flatten(2).transpose(1, 2)  # (B, h * w, d)
        if self.position is not None:
            z = z + self.position(h, w)
        a = self.attention(z).transpose(1, 2).unflatten(2, (h, w))  # (B, d, h, w), channels last in memory
        return a if _is_channels_last(x) else a.contiguous()


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
