"""TensorFlow Lite Micro: an int8 file in the kernels that run on micro-controllers, and the memory it takes there."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attnpool.export._arrays import Array, dequantized, quantized
from attnpool.export.litert import need_edge
from attnpool.export.prepare import ExportError

ROOM = 1 << 28
"""Bytes of the arena in which a file is measured."""
STEP = 1024
"""Bytes between the sizes of an arena that are tried."""


@dataclass(frozen=True)
class Arena:
    """Bytes that the runtime allocated, by its recording allocator, on a machine of 64 bits.

    Args:
        head: For activations, one plan for all.
        tail: What stays: structures of operators and tensors, and what kernels keep.
        total: Both.
        size: With so much it ran, a multiple of STEP: while the memory is planned it takes more than it keeps.
    """

    head: int
    tail: int
    total: int
    size: int


class Interpreter:
    """An int8 .tflite file in TensorFlow Lite Micro, bit by bit what a micro-controller computes.

    Args:
        file: With one input, an image (1, H, W, C), and one output, logits.

    Raises:
        ExportError: if it has an operator that the runtime lacks.
    """

    def __init__(self, file: str | Path) -> None:
        need_edge()
        from tflite_micro import runtime

        try:
            self._interpreter = runtime.Interpreter.from_file(str(file), arena_size=ROOM)
        except RuntimeError as error:
            raise ExportError(f"{file} has to run in TensorFlow Lite Micro, but: {error}") from error

    @property
    def given(self) -> dict[str, Any]:
        """The input as the runtime describes it."""
        found: dict[str, Any] = self._interpreter.get_input_details(0)
        return found

    def __call__(self, images: Array) -> Array:
        """The logits (N, classes) of normalised images (N, C, H, W)."""
        made, given = [], self.given
        for image in images.transpose(0, 2, 3, 1):
            self._interpreter.set_input(quantized(image[None], given), 0)
            self._interpreter.invoke()
            made.append(dequantized(self._interpreter.get_output(0), self._interpreter.get_output_details(0)))
        return np.concatenate(made)


def measure_arena(file: Path) -> Arena:
    """Run a file with plenty of memory, read what the recording allocator says, and find out with how much it runs.

    Raises:
        ExportError: saying what the runtime lacks.
    """
    need_edge()
    found = {name: int(size) for name, size in re.findall(r"Arena allocation (\w+) (\d+) bytes", _run(file, ROOM))}
    size = -(-found["total"] // STEP) * STEP
    while not runs_in(file, size):
        size += STEP
    return Arena(**found, size=size)


def runs_in(file: Path, size: int) -> bool:
    """Whether a file runs with an arena of so many bytes."""
    try:
        _run(file, size)
    except ExportError:
        return False
    return True


def _run(file: Path, size: int) -> str:
    """What is printed as a file runs once, in a process of its own: one short of memory may crash."""
    command = [sys.executable, "-c", PROBE, str(file), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lacks = re.search(r"Didn't find op for builtin opcode '(\w+)'", done.stderr)
        words = " ".join(done.stderr.split())[-300:] or f"it ended with {done.returncode}"
        reason = f"it lacks {lacks[1]}" if lacks else words
        raise ExportError(f"model has to be one that TensorFlow Lite Micro runs in {size:,} bytes, but: {reason}")
    return done.stdout + done.stderr


PROBE = """
import sys
import numpy as np
from tflite_micro import runtime
interpreter = runtime.Interpreter.from_file(sys.argv[1], arena_size=int(sys.argv[2]))
interpreter.set_input(np.zeros(interpreter.get_input_details(0)["shape"], np.int8), 0)
interpreter.invoke()
interpreter.print_allocations()
"""
