"""A classifier or a detector from its checkpoint: a verb is for one of the two."""

from pathlib import Path
from typing import Any

from attnpool.detection.spec import DetectionSpec
from attnpool.models.checkpoint import CheckpointError, load


def load_classifier(checkpoint: str) -> Any:
    """The network in eval mode, with its `spec` and `description`.

    Raises:
        CheckpointError: for a checkpoint that cannot be read, or that is of a detector.
    """
    model = load_either(checkpoint)
    if isinstance(model.spec, DetectionSpec):
        raise CheckpointError(
            f"checkpoint has to be that of a classifier, but {checkpoint} is of {model.spec}: attnpool detect is for it"
        )
    return model


def load_detector(checkpoint: str) -> Any:
    """The detector in eval mode, with its `spec` and `description`.

    Raises:
        CheckpointError: for a checkpoint that cannot be read, or that is of no detector.
    """
    model = load_either(checkpoint)
    if not isinstance(model.spec, DetectionSpec):
        raise CheckpointError(f"checkpoint has to be that of a detector, but {checkpoint} is of {model.spec}")
    return model


def load_either(checkpoint: str) -> Any:
    """The classifier or detector in eval mode, with its `spec` and `description`.

    Raises:
        CheckpointError: for a checkpoint that cannot be read.
    """
    if ":" in str(checkpoint) and not Path(checkpoint).exists():
        raise CheckpointError(
            f"checkpoint has to be a folder, but {checkpoint} is a detector's string, which attnpool detect train takes"
        )
    return load(checkpoint)
