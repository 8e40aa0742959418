"""Deformable patches: where each position of a patch is sampled is learned from the map itself."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from attnpool.pools._half import widened

NO_SAMPLING = {name: "LiteRT has no deformable convolution" for name in ("litert", "micro")}
"""Why what samples where it learns to cannot be exported."""


class DeformableConv2d(nn.Module):
    """conv_p at stride p whose p * p samples are shifted by given offsets and scaled by a mask learned from the input.

    Zhu et al., "Deformable ConvNets v2", CVPR 2019, https://arxiv.org/abs/1811.11168. The mask starts at 1/2.
    Half precision is computed in float32.

    Args:
        in_channels: Channels C of the input.
        out_channels: Channels d of the output.
        kernel_size: Side p of the kernel, in pixels.
        stride: Its step, in pixels; the same for the offsets and the mask to be per patch.

    Shape:
        (B, C, H, W) and offsets (B, 2 * p * p, H // p, W // p) in pixels, y and x of each, to (B, d, H // p, W // p).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride)
        self.mask = zero_conv(in_channels, kernel_size**2, stride)

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        mask = widened(self.mask(x)).sigmoid()
        y = deform_conv2d(widened(x), widened(offset), widened(self.conv.weight), stride=self.stride, mask=mask)
        y = y.to(x.dtype)  # (B, d, h, w)
        return y if self.conv.bias is None else y + self.conv.bias[:, None, None]


def zero_conv(in_channels: int, out_channels: int, patch_size: int) -> nn.Conv2d:
    """A convolution of patches that gives zeros at the start: for offsets and masks."""
    conv = nn.Conv2d(in_channels, out_channels, patch_size, patch_size)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


def map_back(w: Tensor, offset: Tensor, size: tuple[int, int]) -> Tensor:
    """Weights of deformed patches at the pixels that the patches would have without deformation.

    A pixel takes, bilinearly, the weight that stands at itself minus its offset; outside, that of the border.

    Args:
        w: Weights on the patch grid, (B, C, h, w).
        offset: Of every position of every patch, (B, 2 * p * p, h, w), in pixels: y and x of each.
        size: (H, W) of the map.

    Shape:
        (B, C, H, W).
    """
    height, width = size
    patch = int((offset.shape[1] // 2) ** 0.5)
    dtype = w.dtype
    w, offset = widened(w), widened(offset)
    w = F.interpolate(w, size=size, mode="nearest")  # (B, C, H, W)
    shift = torch.cat([F.pixel_shuffle(offset[:, i::2], patch) for i in (1, 0)], dim=1)  # (B, 2, h * p, w * p), x first
    shift = F.pad(shift, (0, width - shift.shape[-1], 0, height - shift.shape[-2]), mode="replicate")  # (B, 2, H, W)
    x = torch.arange(width, device=w.device, dtype=w.dtype).expand(height, -1)
    y = torch.arange(height, device=w.device, dtype=w.dtype).unsqueeze(1).expand(-1, width)
    across, down = ((i - shift[:, j]) / max(n - 1, 1) * 2 - 1 for i, j, n in ((x, 0, width), (y, 1, height)))
    grid = torch.stack((across, down), dim=-1)  # (B, H, W, 2)
    return F.grid_sample(w, grid, mode="bilinear", padding_mode="border", align_corners=True).to(dtype)
