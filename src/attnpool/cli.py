"""The command line: which verb is meant, what it prints, and what is said of a mistake.

What a verb needs is imported when it was chosen, so that help is quick, and Ctrl-C or a broken library says one line.
"""

import logging
import os
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import Any

from attnpool import __version__
from attnpool.registry import did_you_mean
from attnpool.verbs import ALIASES, GROUPS, SHOWN, VERBS

HELP, SHELL = ("-h", "--help"), "--print-completion"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0; 1 for a failed check; 2 for a mistake of the user; 128 + the signal for one: 130 for Ctrl-C, 143 for SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    _quieten()
    try:
        return _run([word for word in words if word != "--debug"])
    except KeyboardInterrupt as stopped:
        code = getattr(stopped, "code", 130)
        return _say(str(stopped) or "stopped", code) if _speaks() else code
    except Exception as error:
        if debug or not isinstance(error, _mistakes()):
            raise
        return _say(f"error: {_one_line(error)}", 2)


def _run(words: list[str]) -> int:
    """Do what the words say; its exit code."""
    first = words[0] if words else ""
    if first == "--version":
        print(f"attnpool {__version__}")
        return 0
    if first in HELP or (first in _grouped() and words[1:] and words[1] in HELP):
        print(_help("" if first in HELP else first), end="")
        return 0
    if first == SHELL:
        from attnpool.completion import script

        print(script(words[1:]), end="")
        return 0
    function, arguments = _parse(words)
    _quieten_logs()
    result = function(**arguments)
    if _speaks():
        from rich.console import Console

        Console().print(result)
    return int(getattr(result, "exit_code", 0))


def _parse(words: Sequence[str]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function that is meant and its arguments."""
    before, words = _config_first(words)
    words = [*(ALIASES.get(word, word) for word in words[:1]), *words[1:]]
    name = next((name for name in (" ".join(words[:2]), " ".join(words[:1])) if name in VERBS), None)
    if name is None:
        raise ValueError(_no_verb(words))
    function = VERBS[name].function
    from attnpool.arguments import parse_arguments

    return function, parse_arguments(name, [*before, *words[len(name.split()) :]])


def _config_first(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """`--config FILE` and `--preset NAME` where they stand before the verb, and the other words."""
    before, rest = list[str](), list(words)
    while rest and rest[0].partition("=")[0] in ("--config", "--preset"):
        count = 1 if "=" in rest[0] else 2
        before, rest = before + rest[:count], rest[count:]
    return before, rest


def _no_verb(words: Sequence[str]) -> str:
    """What is wrong with words that begin with no verb."""
    grouped = _grouped()
    if not words:
        return "a command has to be given; attnpool --help lists them"
    if words[0] not in grouped:
        near = did_you_mean(words[0], dict.fromkeys(name.split()[0] for name in VERBS))
        return f"the command has to be one that attnpool --help lists{near}, but got {words[0]!r}"
    rule = f"{words[0]} has to be followed by one of {', '.join(grouped[words[0]])}"
    if len(words) == 1:
        return f"{rule}, but is followed by nothing"
    return f"{rule}{did_you_mean(words[1], grouped[words[0]])}, but got {words[1]!r}"


def _grouped() -> dict[str, list[str]]:
    """The first words of verbs of two, with their second ones."""
    found: dict[str, list[str]] = {}
    for first, second in (name.split() for name in VERBS if " " in name):
        found.setdefault(first, []).append(second)
    return found


def _help(group: str = "") -> str:
    """All verbs with a line each, or those of a first word."""
    shown = {title: {n: v for n, v in verbs.items() if n.startswith(group)} for title, verbs in GROUPS.items()}
    lines = [
        f"usage: attnpool {group} COMMAND ...".replace("  ", " "),
        "",
        "Attentive downsampling for compact vision networks.",
    ]
    for title, verbs in shown.items():
        lines += ["", f"{title}:", *(f"  {name:<17}{verb.help}" for name, verb in verbs.items())] if verbs else []
    examples = [VERBS[name].examples[0] for name in VERBS if (name.startswith(group) if group else name in SHOWN)]
    lines += ["", "examples:", *(f"  attnpool {example}" for example in examples)]
    lines += ["", f"attnpool COMMAND --help lists its options. Also: --version, {SHELL} SHELL, --debug"]
    return "\n".join(lines) + "\n"


def _speaks() -> bool:
    """Whether this process is the one that speaks to the user: only those that train together are several."""
    cluster: Any = sys.modules.get("attnpool.jobs._cluster")
    return cluster is None or cluster.processes().writes


def _mistakes() -> tuple[type[Exception], ...]:
    """The errors that are the user's to mend; Lightning's own only where it was imported."""
    lightning: Any = sys.modules.get("pytorch_lightning.utilities.exceptions")
    known = (ArgumentError, ValueError, OSError, LookupError, ImportError)
    return known if lightning is None else (*known, lightning.MisconfigurationException)


def _one_line(error: Exception) -> str:
    if isinstance(error, ArgumentError):
        from attnpool.arguments import one_line

        return one_line(error)
    return " ".join(str(error).split())


def _say(text: str, code: int) -> int:
    print(f"attnpool: {text}", file=sys.stderr)
    return code


def _quieten() -> None:
    """What a user sees is ours: no notices of the libraries, and warnings of one line."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler, which measures the memory of training
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", module="attnpool")
    warnings.showwarning = lambda message, *_: _say(f"warning: {message}", 0)  # type: ignore[assignment]


def _quieten_logs() -> None:
    """After the imports, which set the levels of the libraries' logs."""
    logging.getLogger("huggingface_hub").setLevel("ERROR")
