"""Local importance pooling as first published: weights from a small network beside the map."""

import torch
from torch import Tensor, nn

from attnpool.pools._half import widened
from attnpool.pools._size import Size, positive
from attnpool.pools._weighted import WeightedPool2d
from attnpool.registry import POOLS

GAIN = 12.0
TOO_WIDE = "its weights span a factor of exp(12), which int8 does not hold"


@POOLS.register("lipfull", paper="Gao et al., ICCV 2019, arXiv 1908.04156", limits={"lipfull": {"micro": TOO_WIDE}})
class FullLocalImportancePool2d(WeightedPool2d):
    """Local importance pooling: y = avg(x * w) / avg(w), w = exp(12 * sigmoid(logit(x))).

    Gao, Wang, Wu, ICCV 2019, https://arxiv.org/abs/1908.04156. The logit is the paper's Bottleneck-128:
    IN(conv_1x1(ReLU(IN(conv_3x3(ReLU(IN(conv_1x1(x)))))))), IN the instance norm; its last convolution starts at zero,
    so that the layer starts as average pooling. exp(12) is beyond half precision: weights are float32.

    Args:
        channels: Channels C of the input; kernel_size, stride, padding, ceil_mode: see `WeightedPool2d`.
        simplified: The paper's smaller form, logit = IN(conv_3x3(x)), the convolution starting at zero.
        width: Channels of the bottleneck.

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
        simplified: bool = False,
        width: int = 128,
    ) -> None:
        super().__init__(channels, kernel_size, stride, padding, ceil_mode)
        positive("width", width)
        if simplified:
            self.logit = nn.Sequential(*_conv_norm(channels, channels, 3))
        else:
            reduce, mix = _conv_norm(channels, width, 1), _conv_norm(width, width, 3)
            self.logit = nn.Sequential(*reduce, nn.ReLU(), *mix, nn.ReLU(), *_conv_norm(width, channels, 1))
        nn.init.zeros_(self.get_parameter(f"logit.{len(self.logit) - 2}.weight"))

    def weight(self, x: Tensor) -> Tensor:
        """The weights of every position: (B, C, H, W) -> (B, C, H, W)."""
        if x.shape[-2:].numel() == 1:
            return torch.ones_like(x)  # a single weight cancels, and there is nothing to normalise by
        return (GAIN * widened(self.logit(x)).sigmoid()).exp()


def _conv_norm(in_channels: int, out_channels: int, kernel_size: int) -> tuple[nn.Module, nn.Module]:
    """A convolution that keeps the size, and the instance norm after it."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    return conv, nn.InstanceNorm2d(out_channels, affine=True)
