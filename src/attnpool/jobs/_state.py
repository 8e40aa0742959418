"""The state of a training run in one safetensors file: what Lightning needs to go on, and nothing that is executed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from pytorch_lightning.plugins import CheckpointIO
from safetensors import SafetensorError, safe_open
from torch import Tensor

from attnpool.jobs._folder import STATE
from attnpool.jobs._write import write_whole

KEY = "state"


class StateIO(CheckpointIO):
    """Lightning's checkpoint as tensors beside a JSON tree in the header of the same file, replaced in one move."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the state; a file that was there before stays whole until the new one is complete.

        Raises:
            OSError: if it cannot be written.
        """
        file, tensors = Path(path), dict[str, Tensor]()
        tree = json.dumps(_pack(checkpoint, tensors))
        write_whole(file, safetensors.torch.save(tensors, {KEY: tree}))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The state in the file, on the CPU.

        Raises:
            ValueError: if it is not whole, or holds something else.
        """
        try:
            with safe_open(path, framework="pt") as stream:
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
                tree = json.loads((stream.metadata() or {})[KEY])
            state: dict[str, Any] = _unpack(tree, tensors)
        except (SafetensorError, RuntimeError, LookupError, ValueError, TypeError) as error:
            raise ValueError(f"state to go on from has to be a whole {STATE}, but {path} is not: {error}") from error
        return state

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove the file, if it is there."""
        Path(path).unlink(missing_ok=True)


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON for `value`; its tensors go to `tensors`. Containers become pairs [kind, content], so that none is mistaken.

    Dictionaries keep keys that are no strings.
    """
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return ["tensor", name]
    if isinstance(value, Mapping):
        return ["dict", [[key, _pack(item, tensors)] for key, item in value.items()]]
    if isinstance(value, list | tuple):
        return [type(value).__name__, [_pack(item, tensors) for item in value]]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"state has to be tensors, containers, numbers and text, but holds {type(value).__name__}")


def _unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(packed, list):
        return packed
    kind, content = packed
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in content}
    items = [_unpack(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
