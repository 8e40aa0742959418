"""What the window-normalised pools share: a weighted mean over each window, the weights given by the subclass."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from attnpool.pools._axis import Axis
from attnpool.pools._eval_mode import eval_mode
from attnpool.pools._half import widened
from attnpool.pools._size import Size, check_input, positive, window, window_counts
from attnpool.pools._traced import is_traced
from attnpool.pools._windows import WeightedMean, mean_and_divisor

Window = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # kernel, stride and padding


def weighted_pool2d(
    x: Tensor,
    w: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
    ceil_mode: bool = False,
    normalize: bool = True,
) -> Tensor:
    """avg_pool(x * w) / avg_pool(w), or without the division if `normalize` is false; padding carries weight 0.

    Only x and w are kept for the gradient (and the means of x over patches, where these make up the windows); x * w is
    never made at full size, nor is w. Gradients have gradients. Half precision is computed in float32, where x * w does
    not overflow. Compilers, tracers and the transforms of `torch.func` see the formula itself.

    Args:
        x: The map, (B, C, H, W).
        w: Positive weights, (B, C, h, w): at the resolution of `x` or on a coarser grid (nearest upsampling).
        kernel_size: Height and width of the window, in pixels of `x`; likewise `stride` and `padding`.
        ceil_mode: Whether a last, incomplete window counts, as in `nn.AvgPool2d`.
        normalize: Whether the weights of a window are divided by their sum.

    Raises:
        ValueError: if the map does not hold a window, or the shape of w is not that of weights of x.
    """
    as_formula = is_traced() or not all(isinstance(side, int) for side in (*x.shape, *w.shape))
    if not as_formula:
        if w.shape[:2] != x.shape[:2] or w.shape[2] > x.shape[2] or w.shape[3] > x.shape[3]:
            raise ValueError(f"w has to be (B, C, h, w) on a grid of x={tuple(x.shape)} or coarser: {tuple(w.shape)}")
        counts = window_counts(x.shape[-2:], kernel_size, stride, padding, ceil_mode)
    x, (kernel_size, stride, padding) = _patch_means(x, w.shape[-2:], (kernel_size, stride, padding))
    if as_formula:
        return _formula(x, w, kernel_size, stride, padding, ceil_mode, normalize)
    sides = zip(x.shape[-2:], w.shape[-2:], kernel_size, stride, padding, counts, strict=True)
    rows, cols = (Axis(*side) for side in sides)
    if torch.is_grad_enabled():
        return WeightedMean.apply(x, w, rows, cols, normalize)
    return mean_and_divisor(x, w, rows, cols, normalize)[0].to(x.dtype)


def _formula(
    x: Tensor,
    w: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    ceil_mode: bool,
    normalize: bool,
) -> Tensor:
    """`weighted_pool2d` as it is written, for compilers, which fuse it, and exported graphs, which show it."""
    dtype, x, w = x.dtype, widened(x), widened(w)
    if not all(_known(a == b) for a, b in zip(x.shape[-2:], w.shape[-2:], strict=True)):
        w = F.interpolate(w, size=x.shape[-2:], mode="nearest")  # (B, C, H, W)
    y = F.avg_pool2d(x * w, kernel_size, stride, padding, ceil_mode)
    return (y / F.avg_pool2d(w, kernel_size, stride, padding, ceil_mode) if normalize else y).to(dtype)


def _patch_means(x: Tensor, grid: Sequence[int], window: Window) -> tuple[Tensor, Window]:
    """The means of patches with one weight, and the window in patches, where patches make up map and window.

    The mean stands for the pixels, which weigh the same. Where they do not, x and the window as they are.
    """
    patch = []
    for side, weights, *lengths in zip(x.shape[-2:], grid, *window, strict=True):
        whole = _known(side % weights == 0) and all(_known(length % (side // weights) == 0) for length in lengths)
        patch.append(side // weights if whole else 1)
    if patch == [1, 1]:
        return x, window
    kernel, stride, padding = ((size[0] // patch[0], size[1] // patch[1]) for size in window)
    return F.avg_pool2d(x, patch), (kernel, stride, padding)


def _known(condition: bool | torch.SymBool) -> bool:
    """Whether it holds, for sizes that may vary in an exported graph: whether it holds for all of them."""
    return statically_known_true(condition) if isinstance(condition, torch.SymBool) else bool(condition)


class WeightedPool2d(nn.Module):
    """Weighted mean over each window: y = avg_pool(x * w) / avg_pool(w), with w = `weight(x)` from the subclass.

    Args:
        channels: Channels C of the input.
        kernel_size, stride, padding, ceil_mode: As of `nn.AvgPool2d`; padding has weight 0.
        normalize: Whether the weights of a window are divided by their sum.

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
        normalize: bool = True,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.kernel_size, self.stride, self.padding = window(kernel_size, stride, padding)
        self.ceil_mode = ceil_mode
        self.normalize = normalize
        self.weight_patch = 1  # side of the patches that share a weight, in pixels

    def weight(self, x: Tensor) -> Tensor:
        """The positive weights of a batched map, (B, C, H, W) -> (B, C, h, w), on its own or a coarser grid."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.channels)
        if x.ndim == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        grid = [max(1, side // self.weight_patch) for side in x.shape[-2:]]
        window = (self.kernel_size, self.stride, self.padding)
        means, window = _patch_means(x, grid, window)  # before the weights, so that x is needed no longer than they do
        return weighted_pool2d(means, self.weight(x), *window, self.ceil_mode, self.normalize)

    @torch.no_grad()
    def weight_map(self, x: Tensor) -> Tensor:
        """The weights in eval mode at input resolution, for pictures: the shape of `x`, batched or not."""
        check_input(x, self.channels)
        batch = x if x.ndim == 4 else x.unsqueeze(0)
        with eval_mode(self):
            w = F.interpolate(self.weight(batch), size=x.shape[-2:], mode="nearest")
        return w if x.ndim == 4 else w.squeeze(0)

    def extra_repr(self) -> str:
        text = f"{self.channels}, kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return f"{text}, ceil_mode={self.ceil_mode}, normalize={self.normalize}"
