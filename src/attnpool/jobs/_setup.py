"""What the arguments of `train` come to: checked, and put together for the data, before anything is written."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from attnpool.data.augmentation import Augmentation
from attnpool.data.loaders import ALL, Loaders, Share, make_loaders
from attnpool.data.preprocessing import Preprocessing
from attnpool.data.source import Source
from attnpool.jobs._learner import Recipe
from attnpool.spec import ModelSpec, parse

OF_SPEC = ("width", "dropout", "attention", "query_blocks", "placement")
OF_AUGMENTATION = ("crop", "scale", "hflip", "auto_augment", "color_jitter", "reprob", "interpolation")


@dataclass(frozen=True)
class Setup:
    """A training that is ready to start.

    Args:
        spec: Of the network.
        recipe: How it learns.
        preprocessing: Of the images.
        loaders: Of the data.
    """

    spec: ModelSpec
    recipe: Recipe
    preprocessing: Preprocessing
    loaders: Loaders


def check_settings(settings: Mapping[str, Any]) -> ModelSpec:
    """Refuse what breaks its rule whatever the data; returns what the architecture says.

    Raises:
        ValueError: naming the argument; `SpecError` for the architecture, which comes first as the likeliest mistake.
    """
    spec = parse(settings["architecture"])
    check_numbers(settings)
    _augmentation(settings)
    return spec


def check_numbers(settings: Mapping[str, Any]) -> None:
    """Refuse what breaks its rule in training of any kind.

    Raises:
        ValueError: naming the argument.
    """
    make_recipe(settings)
    for name in ("epochs", "accumulate", "checkpoint_every"):
        value = settings.get(name)
        if value is not None and value < 1:
            raise ValueError(f"{name} has to be positive, but got {value}")
    if not 0 <= settings["seed"] < 2**63:
        raise ValueError(f"seed has to be at least 0 and below 2^63, but got {settings['seed']}")
    if settings["precision"] == "16-mixed" and not torch.cuda.is_available():
        raise ValueError("precision has to be 32-true or bf16-mixed without a GPU, but got 16-mixed")


def set_up(spec: ModelSpec, settings: Mapping[str, Any], source: Source, share: Share = ALL) -> Setup:
    """Everything but the network itself.

    Args:
        spec: What the architecture says: see `check_settings`.
        settings: The arguments of `train`.
        source: The data.
        share: What part of the images this process takes.

    Raises:
        ValueError: for an argument that breaks its rule, or does not suit the data.
    """
    side = settings["image_size"]
    size = source.image_size if side is None else (side, side)
    of_images = (settings["crop_pct"], settings["interpolation"])
    preprocessing = Preprocessing(size, source.channels, source.mean, source.std, *of_images)
    loaders = make_loaders(
        source,
        preprocessing,
        augment=_augmentation(settings) if settings["augment"] else None,
        share=share,
        **{name: settings[name] for name in ("batch_size", "val_fraction", "seed", "workers")},
    )
    about: dict[str, Any] = {"num_classes": len(source.classes), "in_channels": source.channels, "input_size": size}
    spec = replace(spec, **about, **{name: settings[name] for name in OF_SPEC})
    return Setup(spec, make_recipe(settings), preprocessing, loaders)


def make_recipe(settings: Mapping[str, Any]) -> Recipe:
    """How the weights are learned, as far as the settings say."""
    return Recipe(**{field.name: settings[field.name] for field in fields(Recipe) if field.name in settings})


def _augmentation(settings: Mapping[str, Any]) -> Augmentation:
    values = {name: settings[name] for name in OF_AUGMENTATION}
    return Augmentation(**{**values, "scale": tuple(values["scale"])})
