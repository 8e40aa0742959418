"""Completion of the command line by shells: a script that shtab makes of verbs, options and their choices."""

import inspect
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

import shtab

from attnpool.arguments import SHORT
from attnpool.jobs._presets import PRESETS
from attnpool.registry import did_you_mean
from attnpool.verbs import VERBS, Verb


def script(words: Sequence[str]) -> str:
    """What a shell has to read once to complete `attnpool`.

    Args:
        words: The shell, alone: bash, zsh, fish or another that shtab knows.

    Raises:
        ValueError: for another one.
    """
    if len(words) != 1 or words[0] not in shtab.SUPPORTED_SHELLS:
        near = did_you_mean(" ".join(words), shtab.SUPPORTED_SHELLS)
        raise ValueError(f"print-completion has to be a shell{near}, but got {' '.join(words)!r}")
    text: str = shtab.complete(_tree(), words[0])
    return text


def _tree() -> ArgumentParser:
    """All verbs with their options, only to be read: nothing is parsed by it."""
    top = ArgumentParser(prog="attnpool")
    verbs = top.add_subparsers()
    second: dict[str, Any] = {}
    for name, verb in VERBS.items():
        first, _, last = name.rpartition(" ")
        if first and first not in second:
            second[first] = verbs.add_parser(first, help=f"{first} ...").add_subparsers()
        _add_options((second[first] if first else verbs).add_parser(last, help=verb.help), name, verb)
    return top


def _add_options(parser: ArgumentParser, name: str, verb: Verb) -> None:
    """What the signature has: words are completed to file names or, where they are few, to what they may be."""
    _add(parser, "--config")
    if presets := PRESETS.get(tuple(name.split())):
        parser.add_argument("--preset", choices=list(presets))
    for argument, p in inspect.signature(verb.function).parameters.items():
        option = f"--{argument.replace('_', '-')}"
        choices = _choices(p.annotation)
        several = {"nargs": "*"} if get_origin(p.annotation) in (list, tuple) else {}
        if p.annotation is bool:
            parser.add_argument(option, f"--no{option[1:]}", action="store_true")
        elif p.default is p.empty:
            _add(parser, argument, choices=choices, **several)
        else:
            short = [SHORT[argument]] if argument in SHORT else []
            _add(parser, *short, option, choices=choices, **several)


def _add(parser: ArgumentParser, *names: str, choices: Sequence[str] = (), **settings: Any) -> None:
    action: Any = parser.add_argument(*names, choices=choices or None, **settings)
    if not choices:
        action.complete = shtab.FILE


def _choices(annotation: Any) -> list[str]:
    """The values of a `Literal`, alone or beside None."""
    parts = [annotation, *get_args(annotation)]
    return [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
