"""An int8 file as C source: the array, the size of the arena, and the operators to register."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnpool.export.micro import Arena

HEADER = """// {title}
// Written by attnpool. Input: {shape} int8, channels last; a pixel p in 0..1 of channel c is
// round((p - kMean[c]) / kStd[c] / kInputScale) + kInputZeroPoint. Output: {count} int8 logits, the largest the class.
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
constexpr float kMean[] = {{{mean}}}, kStd[] = {{{std}}};
constexpr float kInputScale = {scale!r}f;
constexpr int kInputZeroPoint = {zero};
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

alignas(16) const unsigned char kModel[] = {{
{bytes}
}};
const size_t kModelSize = sizeof(kModel);

}}  // namespace attnpool
"""

METHODS = {"FULLY_CONNECTED": "FullyConnected", "CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D"}
METHODS |= {"MAX_POOL_2D": "MaxPool2D", "AVERAGE_POOL_2D": "AveragePool2D"}
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
    of = given["quantization_parameters"]
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
        mean=_floats(image["mean"]),
        std=_floats(image["std"]),
        scale=float(of["scales"][0]),
        zero=int(of["zero_points"][0]),
        kinds=len(operators),
        registrations="\n".join(lines),
    )
    rows = (", ".join(f"0x{byte:02x}" for byte in content[i : i + 16]) for i in range(0, len(content), 16))
    quoted = ", ".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names)
    source = SOURCE.format(title=about["architecture"], names=quoted, bytes=",\n".join(f"    {row}" for row in rows))
    (folder / "model.h").write_text(header)
    (folder / "model.cc").write_text(source)


def method(operator: str) -> str:
    """What adds an operator to a resolver, e.g. "Conv2D" of "CONV_2D"."""
    return METHODS.get(operator, "".join(part.capitalize() for part in operator.split("_")))


def _floats(values: Sequence[float]) -> str:
    return ", ".join(f"{value!r}f" for value in values)
