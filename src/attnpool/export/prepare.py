"""The deploy form of a network: what an exported file computes, the same as the network but for rounding."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from attnpool.export._attention import BlockedAttention
from attnpool.export._padding import widen_strided_
from attnpool.layers.dynamic_conv import DynamicConv2d
from attnpool.models.fuse import fuse_
from attnpool.models.sites import trace_shapes
from attnpool.pools._patches import PatchAttention


class ExportError(ValueError):
    """A network that cannot be exported, or a file that does not do what the network does."""


def prepare(model: nn.Module, input_size: tuple[int, int], query_blocks: int = 1) -> nn.Module:
    """A copy of a network as it is deployed, for images of one size, on the CPU in float32.

    Batch norms are folded into convolutions, and the attention's projection into the restoring convolution. Attention
    runs a head at a time with the queries in blocks; positions are constants. The weights of self-attentive pools stay
    on the patch grid, and where patches make up the windows, the pool runs on the means of patches: its traced form.
    Kernels of strided convolutions have zeros at an edge, so that no map is copied to be padded.

    Args:
        model: A network of ours on one image; it stays as it is.
        input_size: (height, width) of the image, in pixels.
        query_blocks: In how many blocks, at least, the queries of all heads are taken, one after the other; heads are
            never taken together. More need less memory.

    Raises:
        ExportError: for a dynamic convolution, whose kernel is another for every image.
        ValueError: if `query_blocks` is below 1.
    """
    if query_blocks < 1:
        raise ValueError(f"query_blocks has to be positive, but got {query_blocks}")
    check_kernels(model)
    ready: Any = copy.deepcopy(model).cpu().float().eval()
    fuse_(ready, input_size=input_size)
    shapes = trace_shapes(ready, input_size)
    for path in [path for path, module in ready.named_modules() if isinstance(module, PatchAttention)]:
        height, width = shapes[path][1][-2:]
        blocked = BlockedAttention(ready.get_submodule(path), (height, width), query_blocks)
        ready.set_submodule(path, blocked.eval())
    widen_strided_(ready, shapes)
    return ready.requires_grad_(False)


def check_kernels(model: nn.Module) -> None:
    """Refuse a network with dynamic convolutions.

    Raises:
        ExportError: naming the first, and what to do.
    """
    if dynamic := [path for path, module in model.named_modules() if isinstance(module, DynamicConv2d)]:
        raise ExportError(
            f"model has to have the same kernels for every image, but {dynamic[0]} is a dynamic convolution: train the "
            "backbone without dy"
        )


@torch.no_grad()
def worst_difference(model: nn.Module, ready: nn.Module, images: Tensor) -> float:
    """Largest difference of an output of the two, relative to the largest output of the first where that is above 1.

    Args:
        model: In eval mode.
        ready: Made of it by `prepare`.
        images: (B, C, H, W), on the CPU.
    """
    expected = model(images)
    return float((expected - ready(images)).abs().max() / expected.abs().max().clamp(min=1))
