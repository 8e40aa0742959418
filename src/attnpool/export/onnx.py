"""ONNX: a network as an .onnx file for any batch, in float32 or int8, and what runs it."""

import json
import tempfile
from collections import Counter
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from attnpool.export._arrays import Array
from attnpool.export.prepare import ExportError
from attnpool.pools._int8_forms import Int8Forms

NAME, IMAGES, LOGITS = "attnpool", "images", "logits"


def need_onnx() -> None:
    """Raise `ImportError`, naming the extra, where its libraries are not there."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(name) is None:
            raise ImportError(f"exporting to onnx needs {name}: pip install attnpool[export]")


def to_onnx(
    ready: nn.Module, input_size: tuple[int, int, int], file: Path, about: dict[str, Any], calibration: Array | None
) -> None:
    """Write a network as an .onnx file of any number of images, `images` (N, C, H, W) to `logits` (N, classes).

    Args:
        ready: As `prepare` made it.
        input_size: (channels, height, width).
        file: To write; nothing is left there on failure.
        about: Goes into the file as JSON, for whoever runs it.
        calibration: Normalised images (N, C, H, W) whose ranges int8 has to hold; None: float32.

    Raises:
        ExportError: saying what the exporter does not know.
    """
    need_onnx()
    import onnx

    batch = torch.export.Dim("batch", min=1)
    try:
        with nullcontext() if calibration is None else Int8Forms():
            program = torch.onnx.export(
                ready,
                (torch.zeros(2, *input_size),),
                dynamo=True,
                dynamic_shapes=({0: batch},),
                input_names=[IMAGES],
                output_names=[LOGITS],
                verbose=False,
            )
    except Exception as error:  # of many kinds
        reason = str(error).strip().splitlines()
        raise ExportError(
            f"model has to be one that ONNX's exporter takes, but it says: {(reason or ['?'])[0]}"
        ) from error
    assert program is not None
    made: Any = program.model_proto
    if calibration is not None:
        made = quantised(made, calibration)
    made.metadata_props.append(onnx.StringStringEntryProto(key=NAME, value=json.dumps(about)))
    file.write_bytes(made.SerializeToString())


def quantised(model: Any, calibration: Array, **settings: Any) -> Any:
    """Weights, by channels, and activations in 8 bits, with the ranges that the images show.

    Weights take 7 of the 8 bits. Without VNNI, processors add up two products of 8 bits in 16, which overflow. And
    activations are unsigned: the kernels for signed ones are slower.

    Args:
        model: An ONNX model in float32.
        calibration: Normalised images (N, C, H, W).
        settings: Of `onnxruntime.quantization.quantize_static`, in place of these.
    """
    import onnx
    from onnxruntime import quantization as q

    class Images(q.CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(calibration)

        def get_next(self) -> dict[str, Array] | None:
            image = next(self._left, None)
            return None if image is None else {IMAGES: image[None]}

    with tempfile.TemporaryDirectory() as folder:
        given, ready, made = (Path(folder, f"{name}.onnx") for name in ("given", "ready", "made"))
        onnx.save(model, given)
        q.quant_pre_process(given, ready)
        settings = {"activation_type": q.QuantType.QUInt8, "reduce_range": True, **settings}
        q.quantize_static(ready, made, Images(), quant_format=q.QuantFormat.QDQ, per_channel=True, **settings)
        return onnx.load(made)


def onnx_operators(file: Path) -> dict[str, int]:
    """Name of each operator, to how often it stands in the file."""
    import onnx

    return dict(sorted(Counter(node.op_type for node in onnx.load(file).graph.node).items()))


class OnnxRuntime:
    """An .onnx file in ONNX Runtime, on the CPU with one thread.

    Args:
        file: As `to_onnx` wrote it.
    """

    def __init__(self, file: str | Path) -> None:
        need_onnx()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    @property
    def about(self) -> str | None:
        """What `to_onnx` said about the network."""
        found: str | None = self._session.get_modelmeta().custom_metadata_map.get(NAME)
        return found

    def __call__(self, images: Array) -> Array:
        """The logits (N, classes) of normalised images (N, C, H, W)."""
        (logits,) = self._session.run(None, {IMAGES: np.ascontiguousarray(images, np.float32)})
        made: Array = logits
        return made
