"""The file of an export: made, checked against the network, and run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnpool.accounting.profile import profile
from attnpool.export._arrays import Array
from attnpool.export._flatbuffer import operators
from attnpool.export.firmware import write_firmware
from attnpool.export.litert import LiteRT, litert_program, to_litert
from attnpool.export.micro import Arena, Interpreter, measure_arena
from attnpool.export.onnx import OnnxRuntime, onnx_operators, to_onnx
from attnpool.export.prepare import ExportError, prepare, worst_difference

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


@dataclass(frozen=True)
class Made:
    """A file, and what it gave and took.

    Args:
        files: Names, that of the network first.
        size: Bytes of the network.
        blocks: Of queries.
        difference: Of the deploy form to the network, in float32.
        peak: Bytes of activations by `attnpool profile`, of the deploy form.
        operators: Name of each to how often it runs.
        logits: Of the file, for the images of the request.
        arena: Of TensorFlow Lite Micro; None for others.
    """

    files: tuple[str, ...]
    size: int
    blocks: int
    difference: float
    peak: int
    operators: dict[str, int]
    logits: Array
    arena: Arena | None = None


def make_file(request: Request, folder: Path, blocks: int) -> Made:
    """Write the network in its deploy form, with `blocks` blocks of queries, and run it.

    Raises:
        ExportError: if the deploy form is not the network, or the runtime cannot take it.
    """
    ready = prepare(request.model, request.size[1:], blocks)
    some = request.images[:CHECKED]
    is_onnx = request.to == "onnx"
    if not is_onnx:
        program = litert_program(ready, request.size)
        graph = program.module()
    difference = worst_difference(request.model, ready if is_onnx else one_by_one(graph), some)
    if difference > SAME:
        raise ExportError(f"model has to be the same in its deploy form, but its logits differ by {difference:.1g}")
    calibration = None if request.calibration is None else request.calibration.numpy()
    peak = count_peak(ready, request.size, 4 if calibration is None else 1)
    images = request.images.numpy()
    if is_onnx:
        file = folder / "model.onnx"
        to_onnx(ready, request.size, file, request.about, calibration)
        return Made(
            (file.name,), file.stat().st_size, blocks, difference, peak, onnx_operators(file), OnnxRuntime(file)(images)
        )
    file = folder / "model.tflite"
    to_litert(program, file, request.about, calibration)
    found = operators(file)
    made = Made((file.name,), file.stat().st_size, blocks, difference, peak, found, images)
    if request.to == "litert":
        return replace(made, logits=LiteRT(file)(images))
    arena, runtime = measure_arena(file), Interpreter(file)
    write_firmware(folder, file.read_bytes(), request.about, tuple(found), arena, runtime.given)
    return replace(made, files=(file.name, "model.h", "model.cc"), logits=runtime(images), arena=arena)


def one_by_one(graph: Any) -> Any:
    """What runs the graph of one image that lies channels last on some that do not."""
    return lambda images: torch.cat([graph(image[None].permute(0, 2, 3, 1)) for image in images])


def count_peak(ready: nn.Module, size: tuple[int, int, int], itemsize: int) -> int:
    """Bytes of activations at the peak, as `attnpool profile` counts them."""
    dtype: Any = "int8" if itemsize == 1 else "float32"
    return profile(ready, size, dtype=dtype, latency=False, training=False, allow_uncounted=True).memory.peak
