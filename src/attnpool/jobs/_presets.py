"""Settings of training that go together, as YAML files in `presets`."""

from pathlib import Path
from typing import Any

import yaml

from attnpool.registry import did_you_mean

FOLDER = Path(__file__).with_name("presets")
PRESETS = {
    ("train",): {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))},
    ("detect", "train"): {file.stem: file for file in sorted((FOLDER / "detect").glob("*.yaml"))},
}
"""Verb to name to file; each file holds arguments of the verb, and says where they come from."""


def read_preset(name: str, verb: tuple[str, ...] = ("train",)) -> dict[str, Any]:
    """The arguments that a preset of a verb sets.

    Raises:
        ValueError: for an unknown name, with the nearest.
    """
    known = PRESETS[verb]
    if name not in known:
        raise ValueError(f"preset has to be one of {', '.join(known)}, but got {name!r}{did_you_mean(name, known)}")
    values: dict[str, Any] = yaml.safe_load(known[name].read_text())
    return values
