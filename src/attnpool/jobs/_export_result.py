"""What came of an export: how the file compares with the network, and what it takes."""

from dataclasses import dataclass

import numpy as np
from rich.console import Group
from rich.markup import escape
from rich.table import Column, Table

from attnpool.export._arrays import Array
from attnpool.export.micro import Arena


@dataclass(frozen=True)
class Comparison:
    """The file beside the network, on the same images.

    Args:
        images: How many.
        accuracy: Of the file, 0 to 1.
        network_accuracy: Of the network in PyTorch.
        agreement: Part of the images for which both say the same class.
        mean_error: Mean of the differences of the logits, without signs.
        max_error: The largest.
        spread: Standard deviation of the network's logits, to compare the errors with.
    """

    images: int
    accuracy: float
    network_accuracy: float
    agreement: float
    mean_error: float
    max_error: float
    spread: float


def compared(made: Array, expected: Array, labels: Array) -> Comparison:
    """The logits of the file and of the network, (N, classes), and what is on the images."""
    error = np.abs(made - expected)
    said, meant = made.argmax(1), expected.argmax(1)
    return Comparison(
        images=len(labels),
        accuracy=float((said == labels).mean()),
        network_accuracy=float((meant == labels).mean()),
        agreement=float((said == meant).mean()),
        mean_error=float(error.mean()),
        max_error=float(error.max()),
        spread=float(expected.std()),
    )


@dataclass(frozen=True)
class Exported:
    """What `export` made and measured; also in `report.json` of the output folder.

    Args:
        architecture: String of the network.
        runtime: onnx, litert or micro.
        dtype: float32 or int8.
        files: What was written, the network first.
        size: Bytes of its file.
        query_blocks: Blocks in which attention takes its queries; None without attention.
        difference: Largest difference of the deploy form to the network in float32, relative to the largest logit.
        comparison: The file, executed, beside the network.
        arena: Bytes that TensorFlow Lite Micro allocated; None for other runtimes.
        peak: Bytes of activations that `attnpool profile` counts with these blocks.
        operators: Name of each operator in the file, to how often it runs.
        calibration: Images that showed the ranges for int8; None for float32.
        failed: The checks that it did not pass, in words.
    """

    architecture: str
    runtime: str
    dtype: str
    files: tuple[str, ...]
    size: int
    query_blocks: int | None
    difference: float
    comparison: Comparison
    arena: Arena | None
    peak: int
    operators: dict[str, int]
    calibration: int | None
    failed: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """1 if a check was not passed."""
        return 1 if self.failed else 0

    def __rich__(self) -> Group:
        table = Table("", Column(overflow="fold"), title=f"{self.architecture}: {self.runtime}, {self.dtype}")
        table.show_header = False
        c = self.comparison
        table.add_row("accuracy of the file", f"{c.accuracy:.2%} ({c.images:,} images)")
        table.add_row("accuracy in PyTorch", f"{c.network_accuracy:.2%}")
        table.add_row("same class", f"{c.agreement:.2%}")
        table.add_row(
            "logit error", f"mean {c.mean_error:.2g}, largest {c.max_error:.2g}, logits spread {c.spread:.2g}"
        )
        table.add_row("deploy form, float32", f"differs by {self.difference:.1g}", end_section=True)
        table.add_row("file", f"{self.size:,} B")
        if self.arena is not None:
            head, tail = self.arena.head, self.arena.tail
            text = f"{self.arena.size:,} B: {head:,} for activations, {tail:,} for structures, the rest to plan them"
            table.add_row("arena", text)
        table.add_row("peak as profile counts it", f"{self.peak:,} B")
        if self.query_blocks is not None:
            table.add_row("blocks of queries", str(self.query_blocks))
        table.add_row("operators", ", ".join(f"{count} {name}" for name, count in self.operators.items()))
        table.add_row("written", escape(", ".join(self.files)))
        return Group(table, *(escape(f"failed: {text}") for text in self.failed))
