"""Attention between the patches of a map: embedding, positions, and the grid that is attended to."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnpool.pools._attention import SelfAttention
from attnpool.pools._position import PositionTable
from attnpool.pools._size import positive


def embed_dim(channels: int, num_heads: int, embed_ratio: float = 1.0) -> int:
    """Channels of a token: d = h * max(1, round(embed_ratio * C / h))."""
    if not embed_ratio > 0:
        raise ValueError(f"embed_ratio has to be positive, but got {embed_ratio!r}")
    return positive("num_heads", num_heads) * max(1, round(embed_ratio * positive("channels", channels) / num_heads))


class CoarserGrid(nn.Module):
    """LayerNorm(conv_{s x s, stride s}(z)): fewer tokens to attend to, as in PVT's spatial-reduction attention.

    Wang et al., ICCV 2021, https://arxiv.org/abs/2102.12122

    Args:
        dim: Channels d of a token.
        stride: Rows and columns s of tokens that become one; zeros fill the last ones.

    Shape:
        (B, h * w, d) to (B, ceil(h / s) * ceil(w / s), d).
    """

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.stride = positive("kv_stride", stride)
        self.conv = nn.Conv2d(dim, dim, stride, stride)
        self.norm = nn.LayerNorm(dim)

    def forward(self, z: Tensor, h: int, w: int) -> Tensor:
        grid = z.transpose(1, 2).unflatten(2, (h, w))  # (B, d, h, w)
        missing = [(side + self.stride - 1) // self.stride * self.stride - side for side in (w, h)]
        grid = F.pad(grid, (0, missing[0], 0, missing[1]))
        return self.norm(self.conv(grid).flatten(2).transpose(1, 2))


class PatchAttention(nn.Module):
    """attention(ReLU(BN(conv_p(x))) + position): every patch of the map attends to every other.

    Args:
        embed: Maps (B, C, H, W), and what else `forward` is given, to tokens on the patch grid (B, d, h, w).
        dim: Channels d of a token.
        num_heads: Heads of the attention.
        position: "learned" tables, or "none".
        norm: Whether batch norm follows the embedding.
        kv_stride: Rows and columns of patches that are attended to as one: see `CoarserGrid`.
        query_blocks: See `SelfAttention`.

    Shape:
        (B, C, H, W) to (B, d, h, w).
    """

    def __init__(
        self,
        embed: nn.Module,
        dim: int,
        num_heads: int,
        position: str = "learned",
        norm: bool = True,
        kv_stride: int = 1,
        query_blocks: int | None = None,
    ) -> None:
        super().__init__()
        if position not in ("learned", "none"):
            raise ValueError(f"position has to be 'learned' or 'none', but got {position!r}")
        self.embed = embed
        self.norm: nn.Module = nn.BatchNorm2d(dim) if norm else nn.Identity()
        self.position = PositionTable(dim) if position == "learned" else None
        self.context = CoarserGrid(dim, kv_stride) if positive("kv_stride", kv_stride) > 1 else None
        self.attention = SelfAttention(dim, num_heads, query_blocks)

    def forward(self, x: Tensor, *where: Tensor) -> Tensor:
        e = self.norm(self.embed(x, *where)).relu()  # (B, d, h, w)
        h, w = e.shape[-2:]
        z = e.flatten(2).transpose(1, 2).contiguous()  # (B, h * w, d)
        if self.position is not None:
            z = z + self.position(h, w)
        context = None if self.context is None else self.context(z, h, w)
        a = self.attention(z, context).transpose(1, 2).unflatten(2, (h, w))  # (B, d, h, w), channels last in memory
        return a if _is_channels_last(x) else a.contiguous()


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
