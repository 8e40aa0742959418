"""A checkpoint is a directory: `model.safetensors` (weights) and `model.json` (what they are weights of)."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from attnpool.models.build import build
from attnpool.spec import SpecError, parse

WEIGHTS, DESCRIPTION, JOURNAL = "model.safetensors", "model.json", "model.json.new"
FORMAT = 1
LIBRARIES = ("attnpool", "torch", "torchvision", "timm")


class CheckpointError(ValueError):
    """A checkpoint that cannot be read: missing, truncated, edited, or made by something else."""


@dataclass(frozen=True)
class Description:
    """What `model.json` says, beside its checksum.

    Args:
        spec: What it is a checkpoint of: a `ModelSpec`, or the `DetectionSpec` of a detector.
        classes: Names of the classes, in the order of the logits.
        preprocessing: Size, channels, mean and standard deviation that the images need.
        metrics: What was measured, e.g. {"val_accuracy": 0.91}.
        training: How it came about: seed, epoch, data, settings.
        versions: Of the libraries that wrote it; default: those installed.
    """

    spec: Any
    classes: tuple[str, ...]
    preprocessing: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: {name: version(name) for name in LIBRARIES})


def save(model: nn.Module, description: Description, path: str | Path) -> None:
    """Write a checkpoint directory; an earlier one there stays whole until the new one is complete.

    Weights and description are written beside the old ones, then moved over them one after the other. A process that
    dies between the two moves leaves the new description in `model.json.new`, where `load` finds it.

    Raises:
        OSError: if the directory cannot be written; the earlier checkpoint is intact.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    _finish_pending(folder)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    weights, journal = folder / f"{WEIGHTS}.new", folder / JOURNAL
    values = json.loads(json.dumps(_to_json(description), allow_nan=False))  # as it will be read: tuples are lists
    try:
        weights.write_bytes(safetensors.torch.save(state))
        values["checksum"] = _checksum(values, _digest(weights))
        journal.write_text(json.dumps(values, indent=2) + "\n")
        for written in (weights, journal):
            _flush(written)
    except OSError:  # a full disk: what there is of the new one is in the way
        weights.unlink(missing_ok=True)
        journal.unlink(missing_ok=True)
        raise
    os.replace(weights, folder / WEIGHTS)
    os.replace(journal, folder / DESCRIPTION)


def load(path: str | Path) -> nn.Module:
    """The network of a checkpoint directory, in eval mode, on the CPU; nothing is unpickled.

    Its `spec` attribute is the architecture and its `description` attribute the rest of `model.json`.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    description = read_description(path)
    weights = Path(path) / WEIGHTS
    try:
        state = safetensors.torch.load_file(weights)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{weights} is not a whole safetensors file: {error}") from error
    with torch.random.fork_rng(devices=()):
        model: Any = makers(str(description.spec))[1](description.spec)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{weights} does not hold the weights of {description.spec}: {error}") from error
    model.description = description
    return model.eval()


def read_description(path: str | Path) -> Description:
    """What `model.json` in the checkpoint directory `path` says, verified against the weights beside it.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    folder = Path(path)
    weights = folder / WEIGHTS
    candidates = [folder / name for name in (DESCRIPTION, JOURNAL) if (folder / name).is_file()]
    if not (weights.is_file() and candidates):
        found = "lacks them" if folder.is_dir() else "is none" if folder.exists() else "does not exist"
        raise CheckpointError(
            f"checkpoint has to be a folder with {WEIGHTS} and {DESCRIPTION}, as attnpool train writes it, but "
            f"{folder} {found}"
        )
    try:
        with safetensors.safe_open(weights, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{weights} is not a whole safetensors file: {error}") from error
    digest = _digest(weights)
    for file in candidates:  # the journal is the right one if a save was cut off between its two moves
        values = _read_json(file)
        if values["checksum"] == _checksum(values, digest):
            return _from_json(values, file)
    raise CheckpointError(
        f"{candidates[0]} and {WEIGHTS} do not belong together: one was edited, or comes from another save"
    )


def parse_description(file: str | Path) -> Description:
    """What a `model.json` says that has no weights beside it yet: not verified, but known to be one of ours.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    return _from_json(_read_json(Path(file)), Path(file))


def _finish_pending(folder: Path) -> None:
    """Make the second move of a save that was cut off between its two."""
    weights, journal = folder / WEIGHTS, folder / JOURNAL
    if not (weights.is_file() and journal.is_file()):
        return
    try:
        values = _read_json(journal)
    except CheckpointError:
        return  # cut off earlier: the old pair is whole
    if values["checksum"] == _checksum(values, _digest(weights)):
        os.replace(journal, folder / DESCRIPTION)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file} is not whole: {error}") from error
    if not isinstance(values, dict) or not {"format", "checksum", "spec"} <= values.keys():
        raise CheckpointError(f"{file} was not written by attnpool: it has no format, checksum and spec")
    if values["format"] != FORMAT:
        raise CheckpointError(f"{file} has to be of format {FORMAT}, but is of {values['format']!r}: update attnpool")
    return values


def _to_json(description: Description) -> dict[str, Any]:
    values = {f.name: getattr(description, f.name) for f in fields(description)}
    spec = description.spec
    return {"format": FORMAT, **values, "spec": {"architecture": str(spec), **spec.settings}}


def _from_json(values: dict[str, Any], file: Path) -> Description:
    known = {f.name for f in fields(Description)}
    try:
        spec = dict(values["spec"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of average pooling: said when it was made
            architecture = spec.pop("architecture")
            parsed = makers(architecture)[0](architecture, **spec)
        rest = {k: v for k, v in values.items() if k in known - {"spec", "classes"}}
        return Description(parsed, tuple(values["classes"]), **rest)
    except (KeyError, TypeError, SpecError) as error:
        raise CheckpointError(f"{file} does not describe a network of this version: {error}") from error


def makers(architecture: str) -> tuple[Callable[..., Any], Callable[..., nn.Module]]:
    """What parses and what builds a string: that of a detector has a colon, and brings its own room of the house."""
    if ":" not in architecture:
        return parse, build
    detection = import_module("attnpool.detection.builder")
    return detection.parse_detector, detection.build_detector


def _checksum(values: dict[str, Any], weights_digest: str) -> str:
    """SHA-256 of everything that `model.json` says and of the weights."""
    said = json.dumps({k: v for k, v in values.items() if k != "checksum"}, sort_keys=True)
    return hashlib.sha256(f"{said}{weights_digest}".encode()).hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
