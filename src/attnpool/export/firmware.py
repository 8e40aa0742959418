"""An int8 file as C source: the array, what its pixels are, the size of the arena, and the operators to register."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attnpool.data.preprocessing import Preprocessing
from attnpool.export._arrays import Array, quantized
from attnpool.export.micro import Arena

HEADER = """// {title}
// Written by attnpool. Input: {shape} int8, channels last; a pixel of 0..255 of channel c is kPixels[c][pixel].
// Output: {count} int8 logits, the largest the class.
#ifndef ATTNPOOL_MODEL_H_
#define ATTNPOOL_MODEL_H_

#include <cstddef>
#include <cstdint>

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

namespace attnpool {{

extern const unsigned char kModel[];
extern const size_t kModelSize;

// It ran with so much on a machine of 64 bits: {head} bytes of activations, {tail} of structures, the rest to plan.
constexpr size_t kArenaSize = {arena};

constexpr int kHeight = {height}, kWidth = {width}, kChannels = {channels}, kClasses = {count};
extern const int8_t kPixels[kChannels][256];
extern const char* const kClassNames[];

using OpResolver = tflite::MicroMutableOpResolver<{kinds}>;

inline TfLiteStatus RegisterOps(OpResolver& resolver) {{
{registrations}
  return kTfLiteOk;
}}

}}  // namespace attnpool

#endif  // ATTNPOOL_MODEL_H_
"""

SOURCE = """// {title}
#include "model.h"

namespace attnpool {{

const char* const kClassNames[] = {{{names}}};

const int8_t kPixels[kChannels][256] = {{
{pixels}
}};

alignas(16) const unsigned char kModel[] = {{
{bytes}
}};
const size_t kModelSize = sizeof(kModel);

}}  // namespace attnpool
"""

METHODS = {"FULLY_CONNECTED": "FullyConnected", "CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D"}
METHODS |= {"MAX_POOL_2D": "MaxPool2D", "AVERAGE_POOL_2D": "AveragePool2D", "L2_POOL_2D": "L2Pool2D"}
METHODS |= {"BATCH_MATMUL": "BatchMatMul", "CUMSUM": "CumSum", "PADV2": "PadV2"}
"""Names in `MicroMutableOpResolver` that are not the operator's in capitals."""


def write_firmware(
    folder: Path, content: bytes, about: dict[str, Any], operators: Sequence[str], arena: Arena, given: dict[str, Any]
) -> None:
    """Write model.h and model.cc.

    Args:
        folder: Where.
        content: The .tflite file.
        about: What the file says about the network.
        operators: Their names, each once.
        arena: As measured.
        given: The input as the interpreter describes it.
    """
    image, names = about["preprocessing"], about["classes"]
    height, width = image["image_size"]
    lines = [f"  if (resolver.Add{method(name)}() != kTfLiteOk) return kTfLiteError;" for name in operators]
    header = HEADER.format(
        title=about["architecture"],
        shape=f"{height} x {width} x {image['channels']}",
        count=len(names),
        head=arena.head,
        tail=arena.tail,
        arena=arena.size,
        height=height,
        width=width,
        channels=image["channels"],
        kinds=len(operators),
        registrations="\n".join(lines),
    )
    table = "\n".join(f"    {{{', '.join(map(str, row))}}}," for row in pixels(image, given))
    rows = (", ".join(f"0x{byte:02x}" for byte in content[i : i + 16]) for i in range(0, len(content), 16))
    quoted = ", ".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names)
    array = ",\n".join(f"    {row}" for row in rows)
    source = SOURCE.format(title=about["architecture"], names=quoted, pixels=table, bytes=array)
    (folder / "model.h").write_text(header)
    (folder / "model.cc").write_text(source)


def method(operator: str) -> str:
    """What adds an operator to a resolver, e.g. "Conv2D" of "CONV_2D"."""
    return METHODS.get(operator, "".join(part.capitalize() for part in operator.split("_")))


def pixels(preprocessing: Mapping[str, Any], given: dict[str, Any]) -> Array:
    """What each of the 256 values of a pixel is to the network, (channels, 256) int8, by the transform of its images.

    Args:
        preprocessing: As `attnpool.data.preprocessing.Preprocessing` says it.
        given: The input as the interpreter describes it.
    """
    every = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    kept = replace(Preprocessing.from_dict(preprocessing), image_size=(16, 16), crop_pct=1.0)
    return quantized(kept.transform()(every).flatten(1).numpy(), given)
