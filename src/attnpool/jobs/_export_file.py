"""The file of an export: made, and checked against the network."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnpool.accounting.device import Footprint, footprint
from attnpool.accounting.graph import on_meta, record
from attnpool.accounting.int8 import in_int8
from attnpool.accounting.memory import live_bytes
from attnpool.accounting.profile import Dtype
from attnpool.export._arrays import Array
from attnpool.export._flatbuffer import operators
from attnpool.export.files import Runtime
from attnpool.export.firmware import write_firmware
from attnpool.export.litert import LiteRT, litert_program, to_litert
from attnpool.export.micro import Arena, Interpreter, measure_arena
from attnpool.export.onnx import OnnxRuntime, onnx_operators, to_onnx
from attnpool.export.prepare import ExportError, prepare, worst_difference
from attnpool.pools._attention import SelfAttention

SAME = 1e-5
"""Largest difference of the deploy form in float32, relative to the largest logit."""
CHECKED = 16
"""Images that the deploy form is checked on."""


@dataclass(frozen=True)
class Request:
    """What is exported, and what it is compared on.

    Args:
        model: The network, with its `spec` and `description`.
        to: onnx, litert or micro.
        about: What the file says about the network.
        calibration: Normalised images that show the ranges for int8; None: float32.
        images: Normalised images to compare on; labels: what is on them.
    """

    model: Any
    to: str
    about: dict[str, Any]
    calibration: Tensor | None
    images: Tensor
    labels: Tensor

    @property
    def size(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        image = self.about["preprocessing"]
        height, width = image["image_size"]
        return image["channels"], height, width

    @property
    def dtype(self) -> Dtype:
        """Of the file."""
        return "float32" if self.calibration is None else "int8"

    @property
    def shown(self) -> Array | None:
        """The images for int8, as numpy has them."""
        return None if self.calibration is None else self.calibration.numpy()


@dataclass(frozen=True)
class Made:
    """A file, and what it gave and took.

    Args:
        files: Names, that of the network first.
        size: Bytes of the network.
        blocks: Of queries.
        difference: Of the deploy form to the network, in float32.
        peak: Bytes of activations by `attnpool profile`.
        operators: Name of each to how often it runs.
        run: Gives the logits of images.
        arena: Of TensorFlow Lite Micro; None for others.
    """

    files: tuple[str, ...]
    size: int
    blocks: int
    difference: float
    peak: int
    operators: dict[str, int]
    run: Runtime
    arena: Arena | None = None


def make_file(request: Request, folder: Path, blocks: int) -> Made:
    """Write the network in its deploy form, with `blocks` blocks of queries.

    Raises:
        ExportError: if the deploy form is not the network, or the runtime cannot take it.
    """
    ready = prepare(request.model, request.size[1:], blocks)
    return (_make_onnx if request.to == "onnx" else _make_tflite)(request, folder, ready, blocks)


def _make_onnx(request: Request, folder: Path, ready: nn.Module, blocks: int) -> Made:
    difference, file = check_same(request, ready), folder / "model.onnx"
    to_onnx(ready, request.size, file, request.about, request.shown)
    peak = counted(request, blocks).activations
    return Made((file.name,), file.stat().st_size, blocks, difference, peak, onnx_operators(file), OnnxRuntime(file))


def _make_tflite(request: Request, folder: Path, ready: nn.Module, blocks: int) -> Made:
    program = litert_program(ready, request.size)
    difference, file = check_same(request, one_by_one(program.module())), folder / "model.tflite"
    to_litert(program, file, request.about, request.shown)
    found, peak = operators(file), counted(request, blocks).activations
    if request.to == "litert":
        return Made((file.name,), file.stat().st_size, blocks, difference, peak, found, LiteRT(file))
    arena, runtime = measure_arena(file), Interpreter(file)
    write_firmware(folder, file.read_bytes(), request.about, tuple(found), arena, runtime.given)
    files = (file.name, "model.h", "model.cc")
    return Made(files, file.stat().st_size, blocks, difference, peak, found, runtime, arena)


def check_same(request: Request, ready: Any) -> float:
    """The largest difference of the deploy form, on some of the images.

    Raises:
        ExportError: if it is too large.
    """
    difference = worst_difference(request.model, ready, request.images[:CHECKED])
    if difference > SAME:
        raise ExportError(f"model has to be the same in its deploy form, but its logits differ by {difference:.1g}")
    return difference


def one_by_one(graph: Any) -> Any:
    """What runs the graph of one image that lies channels last on some that do not."""
    return lambda images: torch.cat([graph(image[None].permute(0, 2, 3, 1)) for image in images])


def counted(request: Request, blocks: int) -> Footprint:
    """What the network takes by `attnpool profile`, with so many blocks of queries; the file's bytes only in int8."""
    light, image = on_meta(request.model), torch.empty(1, *request.size, device="meta")
    for module in light.modules():
        if isinstance(module, SelfAttention):
            module.query_blocks = max(blocks, module.num_heads)  # heads are never taken together
    graph = partial(record, light, image)
    if request.dtype == "float32":
        return Footprint(max(live_bytes(graph(), 4)), 0, 0)
    return footprint(in_int8(graph), sum(p.numel() for p in light.parameters()))
