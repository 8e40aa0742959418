"""Runs alone, as `python -m attnpool.export._converter FOLDER`: network.pt2 there becomes made.tflite."""

import json
import re
import sys
from pathlib import Path

import litert_torch
import numpy as np
import torch
from ai_edge_quantizer import algorithm_manager, qtyping, quantizer, recipe, recipe_manager
from ai_edge_quantizer.calibrator import Calibrator
from ai_edge_quantizer.utils import qsv_utils

from attnpool.accounting.int8 import POSITIONS
from attnpool.export._flatbuffer import soft_maxes, with_metadata

SIGNATURE, IMAGE = "serving_default", "args_0"


def main(folder: Path) -> None:
    """Convert, quantise if there are images, and put what is said about the network into the file.

    A micro-controller gets no names of tensors: they would take up to two fifths of the file.
    """
    exported = torch.export.load(folder / "network.pt2")
    made = litert_torch.convert(exported.module(), tuple(exported.example_inputs[0]))
    made.export(str(folder / "float.tflite"))
    content = (folder / "float.tflite").read_bytes()
    if (folder / "images.npy").exists():
        content = quantised(content, np.load(folder / "images.npy", allow_pickle=False))
    about = (folder / "about.json").read_bytes()
    (folder / "made.tflite").write_bytes(
        with_metadata(content, about, names=json.loads(about).get("runtime") != "micro")
    )


def quantised(content: bytes, images: np.ndarray) -> bytes:
    """Weights, by channels, and activations in int8; the range of a tensor is all that any image shows.

    The quantiser's own habit, a moving average of the ranges, cuts off what few images reach: of that come logits that
    are far off. What TensorFlow Lite Micro has in float32 alone, or aborts in, stays so: roots, and soft-max over many
    positions.
    """
    steps = recipe_manager.RecipeManager()
    steps.load_quantization_recipe(recipe.static_wi8_ai8())
    in_float = algorithm_manager.AlgorithmName.NO_QUANTIZE
    steps.add_quantization_config(".*", qtyping.TFLOperationName.SQRT, algorithm_key=in_float)
    if large := soft_maxes(content, POSITIONS):
        scope = f"^({'|'.join(map(re.escape, large))});"
        steps.add_quantization_config(scope, qtyping.TFLOperationName.SOFTMAX, algorithm_key=in_float)
    calibrator = Calibrator(content, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    calibrator.calibrate({SIGNATURE: [{IMAGE: image[None]} for image in images]}, steps)
    work = quantizer.Quantizer(content, steps.get_quantization_recipe())
    return bytes(work.quantize(calibrator.get_model_qsvs()).quantized_model)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
