"""Self-attentive pooling: weights from self-attention over the whole map, a weighted mean in each window."""

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from attnpool.pools._deformable import NO_SAMPLING, DeformableConv2d, map_back, zero_conv
from attnpool.pools._fold import folded, merge_
from attnpool.pools._half import widened
from attnpool.pools._patches import PatchAttention, embed_dim
from attnpool.pools._size import Size, positive, refuse_average_pooling
from attnpool.pools._weighted import WeightedPool2d
from attnpool.registry import POOLS

LIMIT = 40.0
"""Largest logit of the ablations whose weights are not within (1, e)."""

VARIANTS: dict[str, dict[str, Any]] = {
    "dfmnlp": {"deformable": True},
    "mixp": {"local": True},
    "dfmixp": {"deformable": True, "local": True},
    "nlpnoexp": {"exp": False},
    "nlpnosigmoid": {"sigmoid": False},
    "nlpnope": {"position": "none"},
    "nlpnobn1": {"embed_norm": False},
    "nlpnobn2": {"restore_norm": False},
}
LIMITS = dict.fromkeys(("dfmnlp", "dfmixp"), NO_SAMPLING)


@POOLS.register("nlp", paper="Chen et al., WACV 2023, arXiv 2209.07659", variants=VARIANTS, limits=LIMITS)
class SelfAttentivePool2d(WeightedPool2d):
    """Self-attentive pooling: y = avg(x * w) / avg(w), w = exp(sigmoid(restore(attention(embed(x) + position)))).

    Chen, Datta, Kundu, Beerel, WACV 2023, https://arxiv.org/abs/2209.07659. A drop-in for `nn.MaxPool2d` and
    `nn.AvgPool2d`. Restore, sigmoid and exp are pointwise, so they run on the patch grid and only w is upsampled:
    exact in eval mode, and in training where the patch divides the map. Attention never stores its scores.

    Args:
        channels: Channels C of the input.
        kernel_size: Window height and width, in pixels.
        stride: Step of the window, in pixels; default: `kernel_size`.
        padding: Border of weight 0 on each side, in pixels.
        ceil_mode: Whether a last, incomplete window counts.
        patch_size: Side p of the patches that become tokens, in pixels; a map of H x W gives (H // p) * (W // p).
        num_heads: Attention heads h.
        embed_ratio: Width of a token relative to the input: d = h * max(1, round(embed_ratio * C / h)).
        kv_stride: Rows and columns of patches that are attended to as one, as in PVT (`CoarserGrid`); 1: the paper.
        query_blocks: Blocks in which the queries of all heads attend in turn; None: a fused kernel, no scores stored.
        normalize: Whether the weights of a window are divided by their sum (false: the published `nowin`).
        position: "learned" tables, or "none" (ablation `nlpnope`).
        sigmoid: Whether a sigmoid bounds the weight (false: `nlpnosigmoid`).
        exp: Whether the weight is the exponential of the gate (false: `nlpnoexp`).
        embed_norm: Batch norm after the patch embedding (false: `nlpnobn1`).
        restore_norm: Batch norm after the restoring convolution (false: `nlpnobn2`).
        deformable: The patch embedding samples where it learns to, and w is mapped back accordingly (`dfmnlp`).
        local: w is multiplied by a local weight exp(sigmoid(BN(conv_p(x)))) (`mixp`; with deformation `dfmixp`;
            in the published code `mixp` deforms too, by mistake).

    Shape:
        (B, C, H, W) to (B, C, H', W'), or unbatched, sizes as `nn.AvgPool2d`. H and W at least `patch_size`.

    Raises:
        ValueError: if an argument breaks its rule, or if every window lies within one patch: the weight is then
            constant in the window and cancels, and the layer would be average pooling at the price of attention.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        *,
        patch_size: int = 1,
        num_heads: int = 2,
        embed_ratio: float = 1.0,
        kv_stride: int = 1,
        query_blocks: int | None = None,
        normalize: bool = True,
        position: Literal["learned", "none"] = "learned",
        sigmoid: bool = True,
        exp: bool = True,
        embed_norm: bool = True,
        restore_norm: bool = True,
        deformable: bool = False,
        local: bool = False,
    ) -> None:
        super().__init__(channels, kernel_size, stride, padding, ceil_mode, normalize=normalize)
        self.patch_size = positive("patch_size", patch_size)
        self.weight_patch = 1 if deformable or local else patch_size
        if normalize and not (sigmoid or exp):
            raise ValueError("normalize has to be False without sigmoid and exp: weights of either sign may cancel")
        if normalize and not (deformable or local):
            refuse_average_pooling(self.kernel_size, self.stride, self.padding, patch_size)
        dim = embed_dim(channels, num_heads, embed_ratio)
        conv = DeformableConv2d if deformable else nn.Conv2d
        embed = conv(channels, dim, patch_size, patch_size)
        self.attend = PatchAttention(embed, dim, num_heads, position, embed_norm, kv_stride, query_blocks)
        self.restore = nn.Conv2d(dim, channels, 1)
        self.restore_norm: nn.Module = nn.BatchNorm2d(channels) if restore_norm else nn.Identity()
        self.sigmoid, self.exp = sigmoid, exp
        self.offset = zero_conv(channels, 2 * patch_size**2, patch_size) if deformable else None
        self.local = _local_logit(channels, patch_size) if local else None

    def weight(self, x: Tensor) -> Tensor:
        """The weights on the patch grid, (B, C, H, W) -> (B, C, H // p, W // p); with local ones, on the pixels."""
        if min(x.shape[-2:]) < self.patch_size:
            raise ValueError(f"input has to be at least patch_size={self.patch_size} a side, but got {tuple(x.shape)}")
        size = (x.shape[-2], x.shape[-1])
        offset = () if self.offset is None else (self.offset(x),)
        g = self.restore_norm(self.restore(self.attend(x, *offset)))  # (B, C, h, w)
        w = self._positive(g)
        if offset:
            w = map_back(w, *offset, size)  # (B, C, H, W)
        if self.local is None:
            return w
        return F.interpolate(w, size=size, mode="nearest") * self.local(x).sigmoid().exp()  # (B, C, H, W)

    def fuse_(self) -> None:
        """Fold what is linear one after the other, in place, for inference: norms, and the restoring convolution."""
        if self.training:
            raise ValueError("the layer has to be in eval mode: batch norms of training depend on the batch")
        embed = getattr(self.attend.embed, "conv", self.attend.embed)  # a deformable one holds its convolution
        self.attend.norm = folded(embed, self.attend.norm)
        self.restore_norm = folded(self.restore, self.restore_norm)
        self.attend.attention.proj = merge_(self.attend.attention.proj, self.restore)
        if self.local is not None:
            self.local[2] = folded(self.local[1], self.local[2])

    def _positive(self, g: Tensor) -> Tensor:
        """exp(sigmoid(g)), or its ablations, g within LIMIT for a window of them to be neither 0 / 0 nor infinite."""
        if not (self.sigmoid and self.exp):
            g = widened(g).clamp(-LIMIT, LIMIT)
        g = g.sigmoid() if self.sigmoid else g
        return g.exp() if self.exp else g

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, patch_size={self.patch_size}"


def _local_logit(channels: int, patch_size: int) -> nn.Sequential:
    """BN(conv_p(x)) at the size of x."""
    before, after = (patch_size - 1) // 2, patch_size // 2
    conv = nn.Conv2d(channels, channels, patch_size)
    return nn.Sequential(nn.ZeroPad2d((before, after) * 2), conv, nn.BatchNorm2d(channels))
