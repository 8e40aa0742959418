"""LiteRT: a network as a .tflite file, in float32 or int8, and what runs it on phones and desktops.

The converters print, and bring jax: they run in a process of their own.
"""

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from attnpool.export._arrays import Array, dequantized, quantized
from attnpool.export.prepare import ExportError
from attnpool.pools._int8_forms import Int8Forms

NEEDED = ("litert_torch", "ai_edge_quantizer", "ai_edge_litert", "tflite_micro")


def need_edge() -> None:
    """Raise `ImportError`, naming the extra, where its libraries are not there."""
    for name in NEEDED:
        if find_spec(name) is None:
            raise ImportError(f"exporting to litert and micro needs {name}: pip install attnpool[edge] (Linux)")


def litert_program(ready: nn.Module, input_size: tuple[int, int, int]) -> ExportedProgram:
    """The graph that becomes a .tflite file, of one image that lies channels last: (1, H, W, C).

    Args:
        ready: As `prepare` made it.
        input_size: (channels, height, width).
    """
    channels, height, width = input_size
    with torch.no_grad(), Int8Forms():
        return torch.export.export(ChannelsLast(ready), (torch.zeros(1, height, width, channels),))


def to_litert(program: ExportedProgram, file: Path, about: dict[str, Any], calibration: Array | None) -> None:
    """Write a network as a .tflite file.

    Args:
        program: As `litert_program` made it.
        file: To write; nothing is left there on failure.
        about: Goes into the file as JSON, for whoever runs it.
        calibration: Normalised images (N, C, H, W) whose ranges int8 has to hold; None: float32.

    Raises:
        ExportError: saying what the converter does not know.
    """
    need_edge()
    with tempfile.TemporaryDirectory() as folder:
        request = Path(folder)
        torch.export.save(program, request / "network.pt2")
        (request / "about.json").write_text(json.dumps(about))
        if calibration is not None:
            np.save(request / "images.npy", np.ascontiguousarray(calibration.transpose(0, 2, 3, 1)))
        done = subprocess.run(
            [sys.executable, "-m", "attnpool.export._converter", folder], capture_output=True, text=True, check=False
        )
        made = request / "made.tflite"
        if done.returncode or not made.is_file():
            raise ExportError(f"model has to be one that LiteRT's converter takes, but it says: {_reason(done.stderr)}")
        file.write_bytes(made.read_bytes())


class ChannelsLast(nn.Module):
    """The network on images that lie as micro-controllers have them: (1, H, W, C)."""

    def __init__(self, ready: nn.Module) -> None:
        super().__init__()
        self.ready = ready

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.ready(x.permute(0, 3, 1, 2))
        return made


class LiteRT:
    """A .tflite file in LiteRT's interpreter.

    Args:
        file: With one input, an image (1, H, W, C), and one output, logits.
    """

    def __init__(self, file: str | Path) -> None:
        need_edge()
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self._interpreter = Interpreter(str(file), num_threads=1, experimental_op_resolver_type=kernels)
        self._interpreter.allocate_tensors()
        (self._input,), (self._output,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()

    def __call__(self, images: Array) -> Array:
        """The logits (N, classes) of normalised images (N, C, H, W)."""
        made = []
        for image in images.transpose(0, 2, 3, 1):
            self._interpreter.set_tensor(self._input["index"], quantized(image[None], self._input))
            self._interpreter.invoke()
            made.append(dequantized(self._interpreter.get_tensor(self._output["index"]), self._output))
        return np.concatenate(made)


def _reason(log: str) -> str:
    """The last line of a traceback that says something."""
    lines = [line.strip() for line in log.splitlines() if "Error" in line]
    return lines[-1] if lines else (log.strip().splitlines() or ["nothing"])[-1]
