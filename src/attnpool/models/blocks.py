"""The stride of the residual blocks that our backbones are made of, and of any block that strides already."""

from typing import Any

from timm.models.resnet import BasicBlock, Bottleneck
from torch import nn

from attnpool.models.surgery import restride_, unstride_


def set_stride_(net: nn.Module, block: str, striding: tuple[str, ...], stride: int, identity: bool) -> None:
    """Make the block at path `block` stride by `stride`, in place.

    Args:
        net: The network.
        block: Path of the first block of a stage.
        striding: Paths of the convolutions and pools that stride inside it, as the network came.
        stride: The new stride.
        identity: Whether the block may keep (or, at stride 1, regain) its identity shortcut. A published block
            that downsamples has none: residual networks put a projection there, inverted residuals nothing.

    Raises:
        ValueError: if the stride is above 1 and nothing in the block is known to stride.
    """
    module: Any = net.get_submodule(block)
    if isinstance(module, BasicBlock | Bottleneck) and _is_plain(module):
        _set_residual(module, stride, identity)
    elif hasattr(module, "conv_dw") and hasattr(module, "has_skip"):
        _set_inverted_residual(module, stride, identity)
    elif stride == 1:
        for path in striding:
            unstride_(net, path)
    elif striding:
        for path in striding:
            restride_(net, path, stride)
    else:
        raise ValueError(f"a digit above 1 has to meet a convolution that can stride, but {block} has none; use a pool")


def _is_plain(block: Any) -> bool:
    """Whether its convolutions do the striding: no anti-aliasing, no average pool in the shortcut."""
    shortcut_strides = block.downsample is None or isinstance(block.downsample[0], nn.Conv2d)
    return shortcut_strides and isinstance(block.aa, nn.Identity | None)


def _set_residual(block: Any, stride: int, identity: bool) -> None:
    main = block.conv1 if isinstance(block, BasicBlock) else block.conv2
    main.stride = (stride, stride)
    if block.downsample is not None:
        block.downsample[0].stride = (stride, stride)
    elif not identity:
        channels = (block.conv2 if isinstance(block, BasicBlock) else block.conv3).out_channels
        block.downsample = nn.Sequential(
            nn.Conv2d(channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
        ).to(main.weight.device)


def _set_inverted_residual(block: Any, stride: int, identity: bool) -> None:
    was_striding = block.conv_dw.stride != (1, 1)
    block.conv_dw.stride = (stride, stride)
    last = getattr(block, "conv_pwl", None)  # a depthwise-separable block has conv_pw last, and keeps what it has
    regained = was_striding and last is not None and last.out_channels == block.conv_pw.in_channels
    block.has_skip = identity and stride == 1 and (block.has_skip or regained)
