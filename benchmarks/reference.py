"""Self-attentive pooling as its formula is written, whatever it costs: what ours is measured and checked against.

Scores are stored, weights are restored on every pixel, and two average pools make the mean. Parameters are shared.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from attnpool import SelfAttentivePool2d
from attnpool.pools._deformable import map_back


class Reference(nn.Module):
    """y = avg(x * w) / avg(w), w = exp(sigmoid(BN(conv_1x1(upsample(attention(ReLU(BN(conv_p(x))) + position)))))).

    Args:
        pool: Ours, with any options; its parameters are those of the reference, too.

    Shape:
        As `pool`, the patch dividing the map.
    """

    def __init__(self, pool: SelfAttentivePool2d) -> None:
        super().__init__()
        self.pool = pool
        ours = pool.attend.attention
        self.attention = nn.MultiheadAttention(ours.qkv.in_features, ours.num_heads, batch_first=True)
        self.attention.in_proj_weight, self.attention.in_proj_bias = ours.qkv.weight, ours.qkv.bias
        self.attention.out_proj = ours.proj

    def forward(self, x: Tensor) -> Tensor:
        pool, attend = self.pool, self.pool.attend
        offset = () if pool.offset is None else (pool.offset(x),)
        e = attend.norm(attend.embed(x, *offset)).relu()  # (B, d, h, w)
        z = e.flatten(2).transpose(1, 2)  # (B, h * w, d)
        if attend.position is not None:
            z = z + attend.position(*e.shape[-2:])
        to = z if attend.context is None else attend.context(z, *e.shape[-2:])
        a, _ = self.attention(z, to, to, need_weights=True)  # the scores, (B, h * w, h * w), are made and kept
        a = F.interpolate(a.transpose(1, 2).reshape(e.shape), size=x.shape[-2:])  # (B, d, H, W)
        g = pool.restore_norm(pool.restore(a))  # (B, C, H, W)
        g = g.sigmoid() if pool.sigmoid else g
        w = g.exp() if pool.exp else g
        if offset:
            w = map_back(w, *offset, (x.shape[2], x.shape[3]))
        if pool.local is not None:
            w = w * pool.local(x).sigmoid().exp()
        sizes = (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)
        y = F.avg_pool2d(x * w, *sizes)
        return y / F.avg_pool2d(w, *sizes) if pool.normalize else y
