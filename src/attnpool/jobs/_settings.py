"""The settings of one training: completed, typed, and checked by all that its task asks, without training."""

import inspect
import json
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentError, ArgumentParser

from attnpool.data.loaders import Share
from attnpool.jobs._folder import MAY_CHANGE
from attnpool.jobs._task import Spec, Task, task_of
from attnpool.registry import did_you_mean

ARCHITECTURE = "architecture"

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
def parameters(task: Task) -> dict[str, inspect.Parameter]:
    """Of what trains, by name."""
    return dict(inspect.signature(task.train).parameters)


@cache
def known_names(task: Task) -> tuple[str, ...]:
    """The arguments of what trains that decide the outcome, but the seed."""
    return tuple(name for name in parameters(task) if name not in MAY_CHANGE and name not in SET_HERE)


def split(task: Task, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Common arguments: those that decide the outcome, and those that only say how to run it.

    Raises:
        ValueError: for a name that is neither, or a value of another type.
    """
    for name in given:
        check_name(task, name, "train", parameters(task))
    running = {name: typed(task, name, value) for name, value in given.items() if name in MAY_CHANGE}
    return {name: value for name, value in given.items() if name not in running}, running


def complete(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """All arguments that decide the outcome, typed as the task has them; defaults are filled in.

    Raises:
        ValueError: for a name or a type that the task does not take, or if one is missing that it needs.
    """
    task = task_of(given.get(ARCHITECTURE))
    for name in task.needed:
        if given.get(name) is None:
            raise ValueError(f"{name} has to be given for all trials or in {where}, but got none")
    for name in given:
        check_name(task, name, where, known_names(task))
    defaults = {name: parameters(task)[name].default for name in known_names(task)}
    return {name: typed(task, name, given[name]) if name in given else defaults[name] for name in defaults}


def differing(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not the defaults of their task, as JSON has them: a tuple is a list."""
    known = parameters(task_of(settings.get(ARCHITECTURE))).items()
    defaults = {name: json.dumps(p.default) for name, p in known if p.default is not p.empty}
    return {name: value for name, value in settings.items() if json.dumps(value) != defaults.get(name)}


def check_name(task: Task, name: str, where: str, known: Collection[str]) -> None:
    """Refuse a name that is not `known`, or that a comparison sets itself.

    Raises:
        ValueError: with the nearest matches.
    """
    if name in SET_HERE:
        raise ValueError(f"{name} has to be left out of {where}: {SET_HERE[name]}")
    if name in known:
        return
    if name in MAY_CHANGE and name in parameters(task):
        raise ValueError(f"{name} has to be left out of {where}: it decides no outcome, and goes under train")
    near = did_you_mean(name, known)
    raise ValueError(f"{where} has to have arguments of {task.verb}, but {name!r} is none{near}")


def typed(task: Task, name: str, value: Any) -> Any:
    """The value as the task takes it: 1 becomes 1.0 where a number is meant, and [1] where a list is.

    Raises:
        ValueError: if it is of another type.
    """
    annotation = parameters(task)[name].annotation
    several = get_origin(annotation) is list
    try:
        if value is None and NoneType not in get_args(annotation):
            raise ValueError
        given = [value] if several and not isinstance(value, list | tuple) else value
        return _parser(task).parse_object({name: given}, defaults=False).get(name)
    except (ArgumentError, ValueError):
        raise ValueError(f"{name} has to be {_words(annotation)}, but got {value!r}") from None


def check(settings: Mapping[str, Any], running: Mapping[str, Any], data: Any) -> Spec:
    """What training would refuse before it begins is refused here; returns the spec of the network.

    Args:
        settings: Arguments that decide the outcome.
        running: Those that do not.
        data: What the task has opened.

    Raises:
        ValueError: as the training does.
    """
    file = settings["pretrained_file"]
    if file is not None and not Path(file).is_file():
        raise ValueError(f"pretrained_file has to be a file, but {file} is none")
    given = {**settings, "seed": 0, "workers": 0, **running}
    return task_of(settings[ARCHITECTURE]).check(given, data, Share(accumulate=settings["accumulate"]))


@cache
def _parser(task: Task) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    required = {name: p.annotation for name, p in parameters(task).items() if p.default is p.empty}
    for name, annotation in required.items():
        parser.add_argument(f"--{name}", type=annotation)
    parser.add_function_arguments(task.train, skip={"output", *required}, fail_untyped=True)
    return parser


def _words(annotation: Any) -> str:
    """A type in words."""
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(map(_words, get_args(annotation)))
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(str, get_args(annotation)))}"
    if get_origin(annotation) is list:
        return f"{_words(get_args(annotation)[0])}, or a list of such"
    return WORDS.get(annotation, inspect.formatannotation(annotation))
