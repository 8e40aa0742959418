"""An exported file, opened by what it is: with its classes, its preprocessing, and what runs it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from attnpool.export._arrays import Array
from attnpool.export._flatbuffer import metadata
from attnpool.export.litert import LiteRT, need_edge
from attnpool.export.micro import Interpreter
from attnpool.export.onnx import OnnxRuntime
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
    """Open a file of `attnpool export`: .onnx in ONNX Runtime, .tflite in TensorFlow Lite Micro if it was made for that,
    in LiteRT otherwise.

    Raises:
        ExportError: for a file that `attnpool export` did not write.
        ImportError: naming the extra, if the runtime is not installed.
    """
    path, run = Path(file), None
    try:
        if path.suffix == ".onnx":
            run = OnnxRuntime(path)
            said = run.about
        else:
            need_edge()
            said = (metadata(path.read_bytes()) or b"").decode()
        about = json.loads(said or "")
        classes, image = tuple(about["classes"]), about["preprocessing"]
    except (ImportError, FileNotFoundError):
        raise
    except Exception as error:  # runtimes raise what they like
        raise ExportError(f"{path} has to be a file that attnpool export wrote, but is not") from error
    if run is None:
        run = Interpreter(path) if about["runtime"] == "micro" else LiteRT(path)
    return ExportedNetwork(classes, image, run)
