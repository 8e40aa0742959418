"""Where any network downsamples: found by running it once and watching the sizes of its maps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnpool.layers.dynamic_conv import DynamicConv2d
from attnpool.pools._eval_mode import eval_mode

Shapes = dict[str, tuple[torch.Size, torch.Size]]
CONVOLUTIONS = (nn.Conv2d, DynamicConv2d)
POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d)


@dataclass(frozen=True)
class Site:
    """A place where a network shrinks its map.

    Args:
        name: Path of the module that shrinks it: a bare convolution or pool, or the block around parallel ones.
        stage: Path of the outermost `nn.Sequential` that shrinks it by just that much, or `name`.
        striding: Paths of the convolutions and pools that stride, inside `name` or it itself.
        stride: Factor by which it shrinks each side.
        rounds_up: Whether it rounds up the size of an odd side.
        reads_image: Whether its input is the image.
    """

    name: str
    stage: str
    striding: tuple[str, ...]
    stride: int
    rounds_up: bool
    reads_image: bool


def trace_shapes(model: nn.Module, input_size: tuple[int, int]) -> Shapes:
    """Input and output shape of every module that maps a 4-d tensor to another, by path; the root's path is ""."""
    shapes: Shapes = {}

    def hook(name: str) -> Callable[..., None]:
        def record(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            x = inputs[0] if inputs else None
            if isinstance(x, Tensor) and isinstance(output, Tensor) and x.ndim == 4 and name not in shapes:
                shapes[name] = (x.shape, output.shape)

        return record

    image = blank_image(model, input_size)
    handles = [m.register_forward_hook(hook(name)) for name, m in model.named_modules()]
    try:
        with eval_mode(model), torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def blank_image(model: nn.Module, input_size: tuple[int, int]) -> Tensor:
    """Zeros that the network takes: a batch of one, with the channels of its first convolution."""
    first = next((m for m in model.modules() if isinstance(m, CONVOLUTIONS)), None)
    if first is None:
        raise ValueError("model has to have a 2-d convolution, but has none")
    return torch.zeros(1, first.in_channels, *input_size, **device_and_dtype(model))


def device_and_dtype(model: nn.Module) -> dict[str, Any]:
    """Where the network's first parameter lives, as arguments of a tensor; without parameters, torch's defaults."""
    parameter = next(model.parameters(), torch.empty(0))
    return {"device": parameter.device, "dtype": parameter.dtype}


def find_sites(model: nn.Module, shapes: Shapes) -> list[Site]:
    """The downsampling sites of a network whose shapes are `trace_shapes(model, ...)`, in the order they run."""
    image = shapes[""][0] if "" in shapes else next(iter(shapes.values()))[0]
    groups: dict[str, list[str]] = {}
    for path, (given, made) in shapes.items():
        module = model.get_submodule(path)
        if stride_of(module) > 1 and made[-1] < given[-1] and not _is_global(module, made):
            groups.setdefault(_enclosing(model, path, shapes)[0], []).append(path)
    sites = []
    for block, striding in groups.items():
        if any(block.startswith(f"{other}.") for other in groups):
            continue  # part of a block that shrinks as a whole
        first = model.get_submodule(striding[0])
        name = striding[0] if len(striding) == 1 and isinstance(first, POOLING) else block
        stage = _enclosing(model, name, shapes)[1]
        sites.append(Site(name, stage, tuple(striding), stride_of(first), _rounds_up(first), shapes[name][0] == image))
    return sites


def _enclosing(model: nn.Module, path: str, shapes: Shapes) -> tuple[str, str]:
    """The outermost block, and the outermost `nn.Sequential`, that shrink the map by just as much as `path`."""
    block = stage = path
    sizes = [shape[-2:] for shape in shapes[path]]
    above = path.rpartition(".")[0]
    while above and above in shapes and [shape[-2:] for shape in shapes[above]] == sizes:
        if isinstance(model.get_submodule(above), nn.Sequential):
            stage = above
        else:
            block = above
        above = above.rpartition(".")[0]
    return block, stage


def stride_of(module: nn.Module) -> int:
    """Stride of a convolution or pool that has the same along both sides, else 1."""
    stride = getattr(module, "stride", 1) if isinstance(module, (*CONVOLUTIONS, *POOLING)) else 1
    sides = stride if isinstance(stride, tuple) else (stride, stride)
    return int(sides[0]) if sides[0] == sides[1] else 1


def _is_global(module: nn.Module, made: torch.Size) -> bool:
    return isinstance(module, POOLING) and made[-2:].numel() == 1


def _rounds_up(module: nn.Module) -> bool:
    """Whether a side one longer than a multiple of the stride gives one position more: seen by running it."""
    stride, channels = stride_of(module), getattr(module, "in_channels", 1)
    side = 16 * stride + 1
    with torch.no_grad():
        weight = getattr(module, "weight", torch.zeros(()))
        made = module(torch.zeros(1, channels, side, side, device=weight.device, dtype=weight.dtype))
    return made.shape[-1] > 16
