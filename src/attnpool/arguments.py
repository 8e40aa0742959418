"""What is typed after a verb, parsed by the signature and the docstring of its function."""

import inspect
import re
from argparse import ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Sequence
from itertools import chain
from typing import Any, get_args, get_origin

import docstring_parser
from jsonargparse import ActionConfigFile, ActionYesNo, ArgumentParser, DefaultHelpFormatter

from attnpool.jobs._presets import PRESETS, read_preset
from attnpool.registry import did_you_mean
from attnpool.verbs import VERBS

SHORT = {"output": "-o"}
"""Options that every verb with them also has in short."""


class _Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Help that keeps the lines of the examples, and writes options with dashes."""

    def format_help(self) -> str:
        return re.sub(r"--[a-z]\w+", lambda option: option[0].replace("_", "-"), super().format_help())


def parse_arguments(name: str, words: Sequence[str]) -> dict[str, Any]:
    """The arguments of a verb: `--preset` counts first, then `--config`; the command line wins over both.

    Args:
        name: Of the verb.
        words: What is typed after it.

    Raises:
        ArgumentError, ValueError: for what the verb does not take.
    """
    words = [re.sub("^--[^=]+", lambda option: "--" + option[0][2:].replace("-", "_"), word) for word in words]
    for option in ("--config", "--preset"):
        found = [i for i, word in enumerate(words) if word.partition("=")[0] == option]
        if len(found) > 1:
            raise ValueError(f"{option} has to be given once, but is given {len(found)} times")
        for i in found:
            taken = [words.pop(i)] if "=" in words[i] else [words.pop(i) for _ in words[i : i + 2]]
            known = option == "--preset" and _key(name) in PRESETS and taken != [option]
            words[:0] = _options(name, taken[-1].removeprefix("--preset=")) if known else taken
    try:
        arguments = make_parser(name).parse_args(words).as_dict()
    except ArgumentError as error:
        unknown = re.search(r"unrecognized arguments: (--\w+)", str(error))
        if unknown is None:
            raise
        options = [f"--{parameter}" for parameter in inspect.signature(VERBS[name].function).parameters]
        text = f"{name} has no option {unknown[1]}{did_you_mean(unknown[1], options)}"
        raise ValueError(text.replace("_", "-")) from None
    return {argument: value for argument, value in arguments.items() if argument not in ("config", "preset")}


def make_parser(name: str) -> ArgumentParser:
    """The parser of one verb: lists and tuples take several words, and booleans are --name / --no-name."""
    function = VERBS[name].function
    parser = ArgumentParser(
        prog=f"attnpool {name}",
        description=(inspect.getdoc(function) or "").partition("\n")[0],
        epilog="\n  ".join(["examples:", *(f"attnpool {example}" for example in VERBS[name].examples)]),
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=_Formatter,
        default_env=False,
    )
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file with any of these arguments.")
    if presets := PRESETS.get(_key(name)):
        parser.add_argument("--preset", metavar="NAME", help=f"Settings that go together: {', '.join(presets)}.")
    parameters = inspect.signature(function).parameters
    helps = {p.arg_name: p.description for p in docstring_parser.parse(inspect.getdoc(function) or "").params}
    several = {name: p for name, p in parameters.items() if get_origin(p.annotation) in (list, tuple)}
    switches = {name: p.default for name, p in parameters.items() if p.annotation is bool}
    short = {name: p for name, p in parameters.items() if name in SHORT and p.kind is p.KEYWORD_ONLY}
    skip: set[str | int] = {*several, *switches, *short}
    parser.add_function_arguments(function, as_positional=True, fail_untyped=True, skip=skip)
    for argument, p in several.items():
        of = get_args(p.annotation)[0]
        if p.default is p.empty:
            parser.add_argument(argument, nargs="+", type=of, help=helps[argument])
        else:
            parser.add_argument(f"--{argument}", nargs="+", type=of, default=list(p.default), help=helps[argument])
    for argument, p in short.items():
        names = (SHORT[argument], f"--{argument}")
        parser.add_argument(*names, type=p.annotation, default=p.default, help=helps[argument])
    for argument, default in switches.items():
        switch = ActionYesNo(no_prefix="no_")
        parser.add_argument(f"--{argument}", action=switch, default=default, help=helps[argument])
    return parser


def one_line(error: Exception) -> str:
    """What the parser says of a mistake, in our words."""
    text = re.sub(r"""Parser key "([\w.]+)"( element \d+)?:""", r"\1\2:", str(error))
    text = re.sub(r"Expected an? (?:<class '([\w.]+)'>|typing\.)", lambda match: f"expected {match[1] or ''}", text)
    union = re.search(r"(.*?)Does not validate.*?Subtypes: \[(.*)\]\s+Errors.*Given value: (.*)", text, re.DOTALL)
    if union:
        types = re.sub(r"<class '(\w+)'>|typing\.", lambda match: match[1] or "", union[2]).replace("NoneType", "null")
        text = f"{union[1]} expected one of {types}. Got value: {union[3]}"
    return " ".join(text.split())


def _key(name: str) -> tuple[str, ...]:
    return tuple(name.split())


def _options(name: str, preset: str) -> list[str]:
    """What a preset says, as words of the command line; first the options that take all words that follow."""
    values = read_preset(preset, _key(name))
    several = [[f"--{key}", *map(str, value)] for key, value in values.items() if isinstance(value, list)]
    return [*chain(*several), *(f"--{key}={value}" for key, value in values.items() if not isinstance(value, list))]
