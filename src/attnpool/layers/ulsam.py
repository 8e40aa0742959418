"""ULSAM: in each group of channels, one attention map over all positions."""

from torch import Tensor, nn

from attnpool.pools._size import check_input, positive


class ULSAM(nn.Module):
    """Subspace attention: y = x + x * softmax over positions(ReLU(BN(conv_1x1(maxpool_3(ReLU(BN(conv_dw(x)))))))).

    Saini et al., "ULSAM: Ultra-Lightweight Subspace Attention Module", WACV 2020, https://arxiv.org/abs/2006.15102.
    The channels are split into groups, each with one attention map; grouped convolutions do all groups in one pass.
    The published batch norms forget nine tenths of their statistics at each step (`momentum=0.9`); ours, one tenth.

    Args:
        channels: Channels C of the input, divisible by `groups`.
        groups: Subspaces g.

    Shape:
        (B, C, H, W) to the same, or unbatched.

    Raises:
        ValueError: if an argument breaks its rule.
    """

    def __init__(self, channels: int, groups: int = 4) -> None:
        super().__init__()
        self.channels, self.groups = positive("channels", channels), positive("groups", groups)
        if channels % groups:
            raise ValueError(f"groups has to divide the {channels} channels, but got {groups}")
        self.conv_dws = nn.Conv2d(channels, channels, 1, groups=channels)
        self.bn_dws = nn.BatchNorm2d(channels)
        self.maxpool = nn.MaxPool2d(3, 1, 1)
        self.conv_point = nn.Conv2d(channels, groups, 1, groups=groups)
        self.bn_point = nn.BatchNorm2d(groups)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.channels)
        if x.ndim == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        gain = 1 + self.attention_map(x).unsqueeze(2)  # (B, g, 1, H, W)
        return (x.unflatten(1, (self.groups, -1)) * gain).flatten(1, 2)  # (B, C, H, W)

    def attention_map(self, x: Tensor) -> Tensor:
        """The share of every position, one map a group: (B, C, H, W) -> (B, g, H, W)."""
        z = self.maxpool(self.bn_dws(self.conv_dws(x)).relu())  # (B, C, H, W)
        z = self.bn_point(self.conv_point(z)).relu()  # (B, g, H, W)
        return z.flatten(2).softmax(-1).unflatten(-1, z.shape[-2:])

    def extra_repr(self) -> str:
        return f"{self.channels}, groups={self.groups}"
