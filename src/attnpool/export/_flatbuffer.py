"""What stands in a .tflite file: its operators, its names, and what we wrote about the network into it."""

from collections import Counter
from pathlib import Path
from typing import Any

NAME = b"attnpool"


def operators(file: Path) -> dict[str, int]:
    """Name of each operator, to how often it runs."""
    return dict(sorted(Counter(name for name, _ in _steps(file.read_bytes())).items()))


def soft_maxes(content: bytes, above: int) -> list[str]:
    """Names of what soft-maxes make that are taken over more than `above` positions."""
    made = [tensor for name, tensor in _steps(content) if name == "SOFTMAX" and tensor.shape[-1] > above]
    return [tensor.name.decode() for tensor in made]


def _steps(content: bytes) -> list[tuple[str, Any]]:
    """Name of each operator as it runs, and the tensor that it makes."""
    schema, model = _read(content)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    codes = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    graph = model.subgraphs[0]
    return [(codes[op.opcodeIndex], graph.tensors[op.outputs[0]]) for op in graph.operators]


def with_metadata(content: bytes, about: bytes, *, names: bool) -> bytes:
    """The file with something about the network in it, which runtimes pass over; `names` of tensors stay or go."""
    import flatbuffers

    schema, model = _read(content)
    if not names:
        for tensor in model.subgraphs[0].tensors:
            tensor.name = b""
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data, entry.name, entry.buffer = list(about), NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + len(about))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def metadata(content: bytes) -> bytes | None:
    """What `with_metadata` put in; None if there is nothing."""
    _, model = _read(content)
    found = [entry.buffer for entry in model.metadata or [] if entry.name == NAME]
    return bytes(model.buffers[found[0]].data) if found else None


def _read(content: bytes) -> tuple[Any, Any]:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.offset > 1:  # it stands behind the rest, where what is packed anew would not find it
            buffer.data, buffer.offset, buffer.size = content[buffer.offset : buffer.offset + buffer.size], 0, 0
    return schema, model
