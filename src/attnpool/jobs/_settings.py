"""The settings of one training: completed, typed, and checked by all that `train` asks, without training."""

import inspect
import json
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import torch
from jsonargparse import ArgumentError, ArgumentParser

from attnpool.data.loaders import Share
from attnpool.data.source import Source
from attnpool.jobs._folder import MAY_CHANGE
from attnpool.jobs._setup import check_settings, set_up
from attnpool.jobs._trainer import check_size
from attnpool.jobs.train import train
from attnpool.models.build import build
from attnpool.registry import did_you_mean
from attnpool.spec import ModelSpec

SET_HERE = {
    "output": "each trial has its own, in the output folder",
    "seed": "seeds says which",
    "resume": "a trial always goes on where it stopped",
    "overwrite": "a trial always goes on where it stopped",
    "progress": "progress is of the whole comparison",
}
"""Arguments of `train` that a comparison sets for each trial, and why."""
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}


@cache
def parameters() -> dict[str, inspect.Parameter]:
    """Of `train`, by name."""
    return dict(inspect.signature(train).parameters)


@cache
def known_names() -> tuple[str, ...]:
    """The arguments of `train` that decide the outcome, but the seed."""
    return tuple(name for name in parameters() if name not in MAY_CHANGE and name not in SET_HERE)


def split(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Common arguments of `train`: those that decide the outcome, and those that only say how to run it.

    Raises:
        ValueError: for a name that is neither, or a value of another type.
    """
    for name in given:
        check_name(name, "train", parameters())
    running = {name: typed(name, value) for name, value in given.items() if name in MAY_CHANGE}
    return {name: value for name, value in given.items() if name not in running}, running


def complete(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """All arguments that decide the outcome, typed as `train` has them; defaults are filled in.

    Raises:
        ValueError: for a name or a type that `train` does not take, or if there is no architecture.
    """
    for name in given:
        check_name(name, where, known_names())
    if "architecture" not in given:
        raise ValueError(f"{where} has to have an architecture, but has only {', '.join(given) or 'nothing'}")
    return {name: typed(name, given[name]) if name in given else parameters()[name].default for name in known_names()}


def differing(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not the defaults of `train`, as JSON has them: a tuple is a list."""
    defaults = {name: json.dumps(p.default) for name, p in parameters().items() if p.default is not p.empty}
    return {name: value for name, value in settings.items() if json.dumps(value) != defaults.get(name)}


def check_name(name: str, where: str, known: Collection[str]) -> None:
    """Refuse a name that is not `known`, or that a comparison sets itself.

    Raises:
        ValueError: with the nearest matches.
    """
    if name in SET_HERE:
        raise ValueError(f"{name} has to be left out of {where}: {SET_HERE[name]}")
    if name in known:
        return
    if name in MAY_CHANGE and name in parameters():
        raise ValueError(f"{name} has to be left out of {where}: it decides no outcome, and goes under train")
    raise ValueError(f"{where} has to have arguments of train, but {name!r} is none{did_you_mean(name, known)}")


def typed(name: str, value: Any) -> Any:
    """The value as `train` takes it: 1 becomes 1.0 where a number is meant.

    Raises:
        ValueError: if it is of another type.
    """
    annotation = parameters()[name].annotation
    try:
        if value is None and NoneType not in get_args(annotation):
            raise ValueError
        return _parser().parse_object({name: value}, defaults=False).get(name)
    except (ArgumentError, ValueError):
        raise ValueError(f"{name} has to be {_words(annotation)}, but got {value!r}") from None


def check(settings: Mapping[str, Any], running: Mapping[str, Any], source: Source) -> ModelSpec:
    """What `train` would refuse before it trains is refused here; returns the spec of the network.

    Args:
        settings: Arguments of `train` that decide the outcome.
        running: Those that do not.
        source: The data.

    Raises:
        ValueError: as `train` does.
    """
    given = {**settings, "seed": 0, "workers": 0, **running}
    asked = check_settings(given)
    file = settings["pretrained_file"]
    if file is not None and not Path(file).is_file():
        raise ValueError(f"pretrained_file has to be a file, but {file} is none")
    spec = set_up(asked, given, source, Share(accumulate=settings["accumulate"])).spec
    assert spec.input_size is not None
    with torch.device("meta"), torch.random.fork_rng(devices=()):
        check_size(build(spec), spec.input_size)
    return spec


@cache
def _parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--architecture", type=str)
    parser.add_function_arguments(train, skip={"architecture", "output"}, fail_untyped=True)
    return parser


def _words(annotation: Any) -> str:
    """A type in words."""
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(map(_words, get_args(annotation)))
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(str, get_args(annotation)))}"
    return WORDS.get(annotation, inspect.formatannotation(annotation))
