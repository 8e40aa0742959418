"""An exported file, opened by what it is: with its classes, its preprocessing, and what runs it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from attnpool.export._arrays import Array
from attnpool.export._flatbuffer import metadata
from attnpool.export.litert import LiteRT, need_edge
from attnpool.export.micro import Interpreter
from attnpool.export.onnx import OnnxRuntime, need_onnx
from attnpool.export.prepare import ExportError

ENDINGS = (".onnx", ".tflite")


class Runtime(Protocol):
    """Gives the logits (N, classes) of normalised images (N, C, H, W)."""

    def __call__(self, images: Array) -> Array: ...


@dataclass(frozen=True)
class ExportedNetwork:
    """A file that can be run.

    Args:
        classes: Names, in the order of the logits.
        preprocessing: Size, channels, mean and standard deviation that the images need.
        run: Its runtime.
    """

    classes: tuple[str, ...]
    preprocessing: dict[str, Any]
    run: Runtime


def open_exported(file: str | Path) -> ExportedNetwork:
    """Open a file of `attnpool export`.

    An .onnx file runs in ONNX Runtime; a .tflite file in TensorFlow Lite Micro if it was made for that, else in LiteRT.

    Raises:
        ExportError: for a file that `attnpool export` did not write.
        ImportError: naming the extra, if the runtime is not installed.
    """
    path = Path(file)
    is_onnx = path.suffix == ".onnx"
    (need_onnx if is_onnx else need_edge)()
    try:
        about = json.loads((OnnxRuntime(path).about if is_onnx else metadata(path.read_bytes())) or "")
        classes, preprocessing, runtime = tuple(about["classes"]), about["preprocessing"], about["runtime"]
    except FileNotFoundError:
        raise
    except Exception as error:  # runtimes raise what they like
        raise ExportError(f"{path} has to be a file that attnpool export wrote, but is not") from error
    runs: dict[str, Callable[[Path], Runtime]] = {"onnx": OnnxRuntime, "litert": LiteRT, "micro": Interpreter}
    return ExportedNetwork(classes, preprocessing, runs[runtime](path))
