"""Settings of training that go together, as YAML files in `presets`."""

from pathlib import Path
from typing import Any

import yaml

from attnpool.registry import did_you_mean

FOLDER = Path(__file__).with_name("presets")
PRESETS = {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}
"""Name to file; each holds arguments of `train`, and says where they come from."""


def read_preset(name: str) -> dict[str, Any]:
    """The arguments of `train` that a preset sets.

    Raises:
        ValueError: for an unknown name, with the nearest.
    """
    if name not in PRESETS:
        raise ValueError(f"preset has to be one of {', '.join(PRESETS)}, but got {name!r}{did_you_mean(name, PRESETS)}")
    values: dict[str, Any] = yaml.safe_load(PRESETS[name].read_text())
    return values
