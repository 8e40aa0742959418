"""The command line: a table of verbs, made into commands from the signatures and docstrings of `jobs`."""

import inspect
import logging
import os
import re
import sys
import warnings
from argparse import ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, get_args, get_origin

import docstring_parser
from jsonargparse import ActionConfigFile, ActionYesNo, ArgumentParser, DefaultHelpFormatter
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from rich.console import Console

from attnpool import __version__
from attnpool.jobs._cluster import processes
from attnpool.jobs._presets import PRESETS, read_preset
from attnpool.jobs.compare import compare
from attnpool.jobs.convert import convert
from attnpool.jobs.demo import demo
from attnpool.jobs.detect.anchors import anchors
from attnpool.jobs.detect.evaluate import evaluate as detect_evaluate
from attnpool.jobs.detect.predict import predict as detect_predict
from attnpool.jobs.detect.train import train as detect_train
from attnpool.jobs.evaluate import evaluate
from attnpool.jobs.export import export
from attnpool.jobs.fit import fit
from attnpool.jobs.list import list_
from attnpool.jobs.predict import predict
from attnpool.jobs.profile import profile_
from attnpool.jobs.prune import prune
from attnpool.jobs.report import report
from attnpool.jobs.scenes import scenes
from attnpool.jobs.train import train
from attnpool.jobs.visualise import visualise
from attnpool.registry import did_you_mean

VERBS: dict[str, Callable[..., Any]] = {
    "train": train,
    "compare": compare,
    "evaluate": evaluate,
    "predict": predict,
    "visualise": visualise,
    "profile": profile_,
    "fit": fit,
    "prune": prune,
    "report": report,
    "export": export,
    "convert": convert,
    "list": list_,
    "demo": demo,
}
"""Verb to the function that does it: its signature and docstring are the command."""
GROUPS: dict[str, tuple[str, dict[str, Callable[..., Any]]]] = {
    "detect": (
        "Train and use object detectors on any of the backbones.",
        {"train": detect_train, "evaluate": detect_evaluate, "predict": detect_predict, "anchors": anchors},
    ),
    "data": ("Make data sets.", {"scenes": scenes}),
}
"""First word to what its verbs are about, and to them."""
ALIASES = {"visualize": "visualise"}
"""Other spellings of a verb, which the list does not show."""
SHORT = {"output": "-o"}
"""Options that every verb with them also has in short."""

EXAMPLES = """examples:
  attnpool train mobilenet_v2-nlp_headfix2-1222121 --data folder:photos --output runs/photos
  attnpool evaluate runs/photos --data folder:photos
  attnpool predict runs/photos cat.jpg dog.jpg
  attnpool visualise runs/photos cat.jpg -o pictures
  attnpool prune runs/photos --ratio 0.5
  attnpool profile runs/photos --dtype int8 --picture memory.png
  attnpool fit --ram 256kB --flash 1MB --input 96
  attnpool export runs/photos --to micro --ram 256kB
  attnpool compare --methods skip maxp nlp_headfix2 --backbones mobilenet_v2 --strides 1222121 --seeds 3
  attnpool report runs/compare -o report.html
"""


class _Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Help that keeps the lines of the examples, and writes options with dashes."""

    def format_help(self) -> str:
        return re.sub(r"--[a-z]\w+", lambda option: option[0].replace("_", "-"), super().format_help())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0; 1 for a failed check; 2 for a mistake of the user; 128 + the signal for one: 130 for Ctrl-C, 143 for SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    _quieten()
    try:
        function, arguments = _parse([word for word in words if word != "--debug"])
        result = function(**arguments)
        if processes().writes:
            Console().print(result)
        return int(getattr(result, "exit_code", 0))
    except KeyboardInterrupt as stopped:
        code = getattr(stopped, "code", 130)
        return _say(str(stopped) or "stopped", code) if processes().writes else code
    except (ArgumentError, ValueError, OSError, LookupError, ImportError, MisconfigurationException) as error:
        if debug:
            raise
        return _say(f"error: {_one_line(error)}", 2)


def _verb(words: Sequence[str]) -> tuple[str, ...]:
    """The one or two words at the beginning that are a verb; none where there is no such verb."""
    return next((verb for verb in (tuple(words[:2]), tuple(words[:1])) if verb in _verbs()), ())


def _verbs() -> list[tuple[str, ...]]:
    """Of two words first, so that what they begin with is not taken for a verb."""
    grouped = [(group, verb) for group, (_, verbs) in GROUPS.items() for verb in verbs]
    return [*grouped, *((verb,) for verb in VERBS)]


def _function(verb: tuple[str, ...]) -> Callable[..., Any]:
    return VERBS[verb[0]] if len(verb) == 1 else GROUPS[verb[0]][1][verb[1]]


def _parse(words: list[str]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function and its arguments: `--preset` counts first, then `--config`; the command line wins over both."""
    parser = make_parser()
    words = [*(ALIASES.get(word, word) for word in words[:1]), *words[1:]]
    words = [re.sub("^--[^=]+", lambda option: "--" + option[0][2:].replace("-", "_"), word) for word in words]
    for option in ("--config", "--preset"):
        found = [i for i, word in enumerate(words) if word.partition("=")[0] == option]
        if len(found) > 1:
            raise ValueError(f"{option} has to be given once, but is given {len(found)} times")
        for i in found:
            taken = [words.pop(i)] if "=" in words[i] else [words.pop(i) for _ in words[i : i + 2]]
            verb = _verb(words)
            known = option == "--preset" and verb in PRESETS and taken != [option]
            words[len(verb) : len(verb)] = _options(verb, taken[-1].removeprefix("--preset=")) if known else taken
    try:
        parsed = parser.parse_args(words)
    except ArgumentError as error:
        unknown = re.search(r"unrecognized arguments: (--\w+)", str(error))
        if unknown is None or not (verb := _verb(words)):
            raise
        options = [f"--{name}" for name in inspect.signature(_function(verb)).parameters]
        text = f"{' '.join(verb)} has no option {unknown[1]}{did_you_mean(unknown[1], options)}"
        raise ValueError(text.replace("_", "-")) from None
    verb = _verb(words)
    arguments = parsed[".".join(verb)].as_dict()
    return _function(verb), {name: value for name, value in arguments.items() if name not in ("config", "preset")}


def _options(verb: tuple[str, ...], preset: str) -> list[str]:
    """What a preset says, as words of the command line; first the options that take all words that follow."""
    values = read_preset(preset, verb)
    several = [[f"--{name}", *map(str, value)] for name, value in values.items() if isinstance(value, list)]
    return [*chain(*several), *(f"--{name}={value}" for name, value in values.items() if not isinstance(value, list))]


def make_parser() -> ArgumentParser:
    """The parser of every verb."""
    parser = _parser(
        prog="attnpool", description="Attentive downsampling for compact vision networks.", epilog=EXAMPLES
    )
    parser.add_argument("--version", action="version", version=f"attnpool {__version__}")
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    commands = parser.add_subcommands(title="commands")
    for verb, function in VERBS.items():
        commands.add_subcommand(verb, _command(function, (verb,)), help=_first_line(function))
    for group, (about, verbs) in GROUPS.items():
        within = _parser(description=about)
        commands.add_subcommand(group, within, help=about)
        inner = within.add_subcommands(title="commands")
        for verb, function in verbs.items():
            inner.add_subcommand(verb, _command(function, (group, verb)), help=_first_line(function))
    return parser


def _command(function: Callable[..., Any], verb: tuple[str, ...]) -> ArgumentParser:
    """The parser of one verb: lists and tuples take several words, and booleans are --name / --no-name."""
    parser = _parser(description=_first_line(function))
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file with any of these arguments.")
    if verb in PRESETS:
        names = ", ".join(PRESETS[verb])
        parser.add_argument("--preset", metavar="NAME", help=f"Settings that go together: {names}.")
    parameters = inspect.signature(function).parameters
    helps = {p.arg_name: p.description for p in docstring_parser.parse(inspect.getdoc(function) or "").params}
    several = {name: p for name, p in parameters.items() if get_origin(p.annotation) in (list, tuple)}
    switches = {name: p.default for name, p in parameters.items() if p.annotation is bool}
    short = {name: p for name, p in parameters.items() if name in SHORT and p.kind is p.KEYWORD_ONLY}
    skip: set[str | int] = {*several, *switches, *short}
    parser.add_function_arguments(function, as_positional=True, fail_untyped=True, skip=skip)
    for name, p in several.items():
        of = get_args(p.annotation)[0]
        if p.default is p.empty:
            parser.add_argument(name, nargs="+", type=of, help=helps[name])
        else:
            parser.add_argument(f"--{name}", nargs="+", type=of, default=list(p.default), help=helps[name])
    for name, p in short.items():
        parser.add_argument(SHORT[name], f"--{name}", type=p.annotation, default=p.default, help=helps[name])
    for name, default in switches.items():
        parser.add_argument(f"--{name}", action=ActionYesNo(no_prefix="no_"), default=default, help=helps[name])
    return parser


def _parser(**options: Any) -> ArgumentParser:
    return ArgumentParser(
        exit_on_error=False, allow_abbrev=False, formatter_class=_Formatter, default_env=False, **options
    )


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _one_line(error: Exception) -> str:
    text = re.sub(r"""Parser key "([\w.]+)"( element \d+)?:""", r"\1\2:", str(error))
    for verb in _verbs() if isinstance(error, ArgumentError) else ():
        names = "|".join(["config", *inspect.signature(_function(verb)).parameters])
        text = re.sub(
            rf"\b{re.escape('.'.join(verb))}\.(?=(?:{names})\b)", "", text
        )  # jsonargparse writes train.output
    text = re.sub(r"Expected an? (?:<class '([\w.]+)'>|typing\.)", lambda match: f"expected {match[1] or ''}", text)
    union = re.search(r"(.*?)Does not validate.*?Subtypes: \[(.*)\]\s+Errors.*Given value: (.*)", text, re.DOTALL)
    if union:
        types = re.sub(r"<class '(\w+)'>|typing\.", lambda match: match[1] or "", union[2]).replace("NoneType", "null")
        text = f"{union[1]} expected one of {types}. Got value: {union[3]}"
    unknown = re.search(r"(.*invalid choice: '(.+)') \(choose from (.+)\)", text)
    if unknown:
        text = unknown[1] + did_you_mean(unknown[2], re.findall(r"[\w-]+", unknown[3]))
    return " ".join(text.split())


def _say(text: str, code: int) -> int:
    print(f"attnpool: {text}", file=sys.stderr)
    return code


def _quieten() -> None:
    """What a user sees is ours: no notices of the libraries, and warnings of one line."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler, which measures the memory of training
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", module="attnpool")
    warnings.showwarning = lambda message, *_: _say(f"warning: {message}", 0)  # type: ignore[assignment]
