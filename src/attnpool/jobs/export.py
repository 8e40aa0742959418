"""`attnpool export`: a checkpoint as a file for another runtime, executed and compared before it is handed over."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from attnpool.accounting.budget import BYTES, parse_amount
from attnpool.data.preprocessing import Preprocessing
from attnpool.data.source import open_source
from attnpool.export.litert import need_edge
from attnpool.export.onnx import need_onnx
from attnpool.export.prepare import ExportError, check_kernels
from attnpool.jobs._checkpoint import load_classifier
from attnpool.jobs._export_data import BATCH, spread
from attnpool.jobs._export_file import Made, Request, counted, make_file
from attnpool.jobs._export_result import Exported, compared
from attnpool.jobs._source import data_of
from attnpool.jobs._write import make_folder, write_whole
from attnpool.pools._patches import PatchAttention
from attnpool.registry import POOLS

Target = Literal["onnx", "litert", "micro"]
REPORT = "report.json"
BLOCKS = (1, 4, 8, 16, 32, 64)
"""Numbers of blocks of queries that are tried."""


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

    onnx: model.onnx for ONNX Runtime and others, any batch. litert: model.tflite for phones. micro: the same in int8
    for TensorFlow Lite Micro, executed in its kernels, with its memory measured, and as C source (model.h, model.cc).
    All get report.json. Needs pip install attnpool[export] for onnx, attnpool[edge] (Linux) for the others.

    The exit code is 1 if a check fails: `min_agreement`, or `ram`. The files are there then, too.

    Args:
        checkpoint: Folder of the checkpoint of a classifier.
        to: onnx, litert or micro.
        int8: Weights and activations in 8 bits; always for micro.
        calibrate: Data source whose training images show the ranges for int8; by default what it was trained on.
        calibration_images: How many of them.
        ram: Most bytes of the arena, e.g. 256kB (1,000 bytes) or 256KiB (1,024); micro only. Attention takes its
            queries in as many blocks as that needs; by default in as many as take the least memory.
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
    arguments = dict(locals())
    limit = _check(arguments)
    model = load_classifier(checkpoint)
    check_supported(model, to)
    folder = Path(output or Path(checkpoint) / f"export-{to}")
    if (folder / REPORT).exists() and not overwrite:
        raise FileExistsError(f"output has to be a new folder, but {folder} holds an export; or say --overwrite")
    request = _request(model, arguments)
    make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as place:
        for blocks in _blocks(request, query_blocks, limit):
            made = make_file(request, Path(place), blocks)
            if limit is None or (made.arena is not None and made.arena.size <= limit):
                break
        result = _result(request, made, folder, min_agreement, limit)
        write_whole(Path(place, REPORT), json.dumps(asdict(result), indent=2) + "\n")
        for file in Path(place).iterdir():
            file.replace(folder / file.name)
    return result


def check_supported(model: Any, to: Target) -> None:
    """Refuse a network with dynamic convolutions, or with a pool that the runtime cannot run.

    Raises:
        ExportError: naming it, and why.
    """
    check_kernels(model)
    pools = [*model.spec.stage_pools(), model.spec.stem_pool()]
    for name in dict.fromkeys(pool.method for pool in pools if pool is not None):
        limits = POOLS[name].limits
        if to in limits:
            able = ", ".join(other for other in get_args(Target) if other not in limits)
            raise ExportError(f"to has to be {able} for {name}, but got {to}: {limits[to]}")


def _check(arguments: dict[str, Any]) -> int | None:
    """The bytes of `ram`, once all rules that need no network hold."""
    to, ram, least = arguments["to"], arguments["ram"], arguments["min_agreement"]
    for name in ("calibration_images", "images", "query_blocks"):
        if arguments[name] is not None and arguments[name] < 1:
            raise ValueError(f"{name} has to be positive, but got {arguments[name]}")
    if not 0 <= least <= 1:
        raise ValueError(f"min_agreement has to be from 0 to 1, but got {least}")
    if ram is not None and to != "micro":
        raise ValueError(f"ram has to be left out for {to}: only the memory of micro is measured")
    if ram is not None and arguments["query_blocks"] is not None:
        raise ValueError("query_blocks has to be left out where ram is given, which says how many there are")
    (need_onnx if to == "onnx" else need_edge)()
    return None if ram is None else parse_amount("ram", ram, BYTES)


def _request(model: Any, arguments: dict[str, Any]) -> Request:
    """The network with its images."""
    about, where = model.description, (arguments["data_dir"], arguments["download"])
    held = data_of(arguments["checkpoint"], about, arguments["data"], *where)[0]
    preprocessing = Preprocessing.from_dict(about.preprocessing)
    images, labels = spread(held, preprocessing, arguments["images"], test=True)
    calibration = None
    if arguments["int8"] or arguments["to"] == "micro":
        shown = arguments["calibrate"]
        source = held if shown is None else open_source(shown, data_dir=where[0], download=where[1])
        calibration, _ = spread(source, preprocessing, arguments["calibration_images"], test=False)
    said = {
        "architecture": str(model.spec),
        "runtime": arguments["to"],
        "classes": about.classes,
        "preprocessing": about.preprocessing,
    }
    return Request(model, arguments["to"], said, calibration, images, labels)


def _blocks(request: Request, given: int | None, limit: int | None) -> list[int]:
    """The numbers of blocks of queries to try, one after the other, until the memory is within its limit."""
    if given is not None:
        return [given]
    attends = any(isinstance(module, PatchAttention) for module in request.model.modules())
    if request.to != "micro" or not attends:
        return [request.model.spec.query_blocks or 1]
    costs = {blocks: counted(request, blocks).total for blocks in BLOCKS}
    least = min(costs, key=lambda blocks: costs[blocks])
    fitting = [blocks for blocks in BLOCKS if blocks < least and limit is not None and costs[blocks] <= limit]
    return [*fitting, least]


def _result(request: Request, made: Made, folder: Path, least: float, limit: int | None) -> Exported:
    """The checks, and everything that is told."""
    with torch.inference_mode():
        expected = torch.cat([request.model(some) for some in request.images.split(BATCH)]).numpy()
    comparison = compared(made.run(request.images.numpy()), expected, request.labels.numpy())
    failed = []
    if comparison.agreement < least:
        failed.append(f"the file says what the network says for {comparison.agreement:.2%}, not for {least:.2%}")
    if limit is not None and made.arena is not None and made.arena.size > limit:
        failed.append(f"the arena takes {made.arena.size:,} bytes, more than ram, {limit:,}")
    attends = any(isinstance(module, PatchAttention) for module in request.model.modules())
    return Exported(
        architecture=str(request.model.spec),
        runtime=request.to,
        dtype=request.dtype,
        files=tuple(str(folder / name) for name in made.files),
        size=made.size,
        query_blocks=made.blocks if attends else None,
        difference=made.difference,
        comparison=comparison,
        arena=made.arena,
        peak=made.peak,
        operators=made.operators,
        calibration=None if request.calibration is None else len(request.calibration),
        failed=tuple(failed),
    )
