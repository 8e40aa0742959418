"""`attnpool export`: a checkpoint as a file for another runtime, executed and compared before it is handed over."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attnpool.accounting.budget import BYTES, parse_amount
from attnpool.accounting.profile import profile
from attnpool.data.preprocessing import Preprocessing
from attnpool.data.source import Source
from attnpool.export._attention import BlockedAttention
from attnpool.export._flatbuffer import operators
from attnpool.export.firmware import write_firmware
from attnpool.export.litert import LiteRT, litert_program, need_edge, to_litert
from attnpool.export.micro import Arena, Interpreter, measure_arena
from attnpool.export.onnx import OnnxRuntime, need_onnx, onnx_operators, to_onnx
from attnpool.export.prepare import ExportError, prepare, worst_difference
from attnpool.jobs._checkpoint import load_classifier
from attnpool.jobs._export_data import spread
from attnpool.jobs._export_result import Exported, compared
from attnpool.jobs._folder import make_folder
from attnpool.jobs._source import data_of, open_data
from attnpool.registry import POOLS

Target = Literal["onnx", "litert", "micro"]
SAME = 1e-5
"""Largest difference of the deploy form in float32, relative to the largest logit."""
BLOCKS = (1, 4, 8, 16, 32, 64)
"""Numbers of blocks of queries that are tried."""
BLOCK = 800
"""Bytes that a block adds to the tail of an arena, about; measured."""


@dataclass(frozen=True)
class Request:
    """What is exported, and what it is compared on."""

    model: Any
    to: Target
    about: dict[str, Any]
    calibration: Tensor | None
    images: Tensor
    labels: Tensor

    @property
    def size(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        image = self.about["preprocessing"]
        return (image["channels"], *image["image_size"])


def export(
    checkpoint: str,
    *,
    to: Target = "onnx",
    int8: bool = False,
    calibrate: str | None = None,
    calibration_images: int = 256,
    ram: str | None = None,
    query_blocks: int | None = None,
    min_agreement: float = 0.97,
    data: str | None = None,
    images: int = 1000,
    data_dir: str | None = None,
    download: bool = True,
    output: str | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a checkpoint as a file for another runtime, run that on held-out images, and compare.

    onnx: model.onnx for ONNX Runtime and others, any batch. litert: model.tflite for phones. micro: the same in int8 for
    TensorFlow Lite Micro, executed in its kernels, with its memory measured, and as C source (model.h, model.cc). The
    output folder also gets report.json. Needs pip install attnpool[export] for onnx, attnpool[edge] (Linux) for others.

    The exit code is 1 if a check fails: `min_agreement`, or `ram`. The files are there then, too.

    Args:
        checkpoint: Folder of the checkpoint of a classifier.
        to: onnx, litert or micro.
        int8: Weights and activations in 8 bits; always for micro.
        calibrate: Data source whose training images show the ranges for int8; by default what it was trained on.
        calibration_images: How many of them.
        ram: Most bytes of the arena, e.g. 256kB (1,000 bytes) or 256KiB (1,024); micro only. Attention takes its queries
            in as many blocks as that needs; by default in as many as need the least memory.
        query_blocks: In how many blocks attention takes its queries, instead.
        min_agreement: Least part of the images for which file and network say the same class, 0 to 1.
        data: Data source whose test images the two are compared on; by default what it was trained on.
        images: How many of them, at most.
        data_dir: Where published data sets lie and are downloaded to; by default as in training.
        download: Download a published data set that is not there.
        output: Folder for the files; by default export-onnx, -litert or -micro in the checkpoint's.
        overwrite: Replace the files there.

    Raises:
        CheckpointError: for a checkpoint that cannot be read.
        ExportError: for a network that the runtime cannot run, saying why, or whose deploy form differs.
        DataError: for data that cannot be used.
        ValueError: for an argument that breaks its rule.
        FileExistsError: if there is an export in the folder, and `overwrite` is false.
        ImportError: naming the extra, if a library is not installed.
    """
    limit = _check(to, ram, query_blocks, min_agreement, calibration_images, images)
    model = load_classifier(checkpoint)
    check_supported(model, to)
    folder = Path(output or Path(checkpoint) / f"export-{to}")
    if (folder / "report.json").exists() and not overwrite:
        raise FileExistsError(f"output has to be a new folder, but {folder} holds an export; or say --overwrite")
    request = _request(
        checkpoint, model, to, int8 or to == "micro", (calibrate, data), (calibration_images, images), (data_dir, download)
    )
    make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        result = _made(request, Path(place), _tries(request, query_blocks, limit), limit, min_agreement, folder)
        (Path(place) / "report.json").write_text(json.dumps(result.to_dict(), indent=2) + "\n")
        for name in (*map(lambda f: Path(f).name, result.files), "report.json"):
            (Path(place) / name).replace(folder / name)
    return result


def check_supported(model: Any, to: Target) -> None:
    """Refuse a network with a pool that the runtime cannot run.

    Raises:
        ExportError: naming it, and why.
    """
    for name in dict.fromkeys(pool.method for pool in model.spec.pools):
        if reason := POOLS[name].limits.get(to):
            able = ", ".join(other for other in ("onnx", "litert", "micro") if other not in POOLS[name].limits) or "none"
            raise ExportError(f"to has to be a runtime for {name} ({able}), but got {to}: {reason}")
