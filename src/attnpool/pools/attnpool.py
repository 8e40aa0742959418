"""Self-attention over every position, then a strided convolution."""

from torch import Tensor, nn

from attnpool.pools._patches import PatchAttention, embed_dim
from attnpool.pools._size import Size, check_input, fill_for_ceil, positive, window
from attnpool.registry import POOLS


@POOLS.register("attnpool", paper="baseline of Chen et al., WACV 2023, arXiv 2209.07659")
class AttentionConvPool2d(nn.Module):
    """Attention, then strided convolution: y = ReLU(BN(conv_k(attention(ReLU(BN(conv_1x1(x))) + position)))).

    The baseline of Chen et al., WACV 2023, https://arxiv.org/abs/2209.07659: the attended map itself is shrunk,
    instead of weighing the input. Attention never stores its scores.

    Args:
        channels: Channels C of the input; kernel_size, stride, padding, ceil_mode: see `WeightedPool2d`.
        num_heads: Attention heads h; a token has h * max(1, round(C / h)) channels.

    Shape:
        (B, C, H, W) to (B, C, H', W'), or unbatched, sizes as `nn.AvgPool2d`.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        *,
        num_heads: int = 2,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        dim = embed_dim(channels, num_heads)
        self.attend = PatchAttention(nn.Conv2d(channels, dim, 1), dim, num_heads)
        self.geometry = window(kernel_size, stride, padding)
        self.conv = nn.Conv2d(dim, channels, *self.geometry)
        self.norm = nn.BatchNorm2d(channels)
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.channels)
        if x.ndim == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        a = self.attend(x)  # (B, d, H, W)
        if self.ceil_mode:
            a = fill_for_ceil(a, *self.geometry)
        return self.norm(self.conv(a)).relu()  # (B, C, H', W')
