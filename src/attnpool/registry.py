"""Names to things: a dict, a decorator that fills it, and an error that names the nearest matches.

A method registers itself where it is defined, under the stem of its file::

    @POOLS.register("maxp", paper="LeCun et al., 1998")
    def max_pool(channels, kernel_size, stride=None, padding=0, ceil_mode=False): ...

Everything else (grammar, command line, contract tests, benchmarks, docs) iterates the registry.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`" (did you mean 'maxp'?)"`, or all the known names if none is near and they are few."""
    names = list(known)
    near = get_close_matches(word, names, n=3, cutoff=0.5)
    if near:
        return f" (did you mean {' or '.join(map(repr, near))}?)"
    return f" (known: {', '.join(names)})" if 0 < len(names) <= 30 else ""


class UnknownNameError(KeyError):
    """A name that is not registered; the message names the nearest matches."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the repr


@dataclass(frozen=True)
class Entry:
    """One registered thing: what builds it, where it was published, the options that a variant of `base` fixes, and for
    each runtime that it cannot be exported to the reason."""

    name: str
    target: Callable[..., Any]
    paper: str
    base: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Build it, the options of the variant filled in."""
        return self.target(*args, **{**self.fixed, **options})

    @property
    def summary(self) -> str:
        """First line of the target's docstring, or what a variant changes."""
        if self.fixed:
            return f"{self.base} with " + ", ".join(f"{key}={value}" for key, value in self.fixed.items())
        return (inspect.getdoc(self.target) or "").partition("\n")[0].rstrip(".")

    def takes(self, option: str) -> bool:
        """Whether the target has a keyword `option` that the variant leaves free."""
        return option in inspect.signature(self.target).parameters and option not in self.fixed


class Registry(dict[str, Entry]):
    """A dict of entries of one kind. An unknown name raises `UnknownNameError` with the nearest matches."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def register(
        self,
        name: str,
        *,
        paper: str = "",
        variants: Mapping[str, Mapping[str, Any]] | None = None,
        limits: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Callable[[T], T]:
        """Enter the decorated class or function under `name`, and under each of `variants` with options fixed.

        `limits` has, for a name, the runtimes that it cannot be exported to, and why.
        """

        def enter(target: T) -> T:
            for key, fixed in {name: {}, **(variants or {})}.items():
                if key in self:
                    raise ValueError(f"{self.kind} {key!r} is registered twice")
                self[key] = Entry(key, target, paper, name, fixed, (limits or {}).get(key, {}))
            return target

        return enter

    @property
    def classes(self) -> tuple[type, ...]:
        """The classes among what is registered, for `isinstance`."""
        return tuple({entry.target: None for entry in self.values() if isinstance(entry.target, type)})

    def __missing__(self, name: str) -> Entry:
        raise UnknownNameError(f"unknown {self.kind} {name!r}{did_you_mean(name, self)}")


def import_all(package: ModuleType | str) -> None:
    """Import every public module of `package`, so that what they register is there."""
    module = importlib.import_module(package) if isinstance(package, str) else package
    for info in pkgutil.iter_modules(module.__path__):
        if not info.name.startswith("_"):
            importlib.import_module(f"{module.__name__}.{info.name}")


RUNTIMES = ("onnx", "litert", "micro")
"""What networks are exported to: ONNX Runtime, LiteRT, TensorFlow Lite Micro."""
POOLS: Registry
"""The pooling methods: filled when it is first asked for, by `__getattr__`, which brings torch."""
SOURCES = Registry("data source")
DETECTORS = Registry("detector")
BOX_SOURCES = Registry("data source with boxes")
_POOLS = Registry("pooling method")


def __getattr__(name: str) -> Registry:
    if name != "POOLS":
        raise AttributeError(f"module 'attnpool.registry' has no attribute {name!r}")
    importlib.import_module("attnpool.pools")  # whose files register themselves; meanwhile, what there is so far
    return _POOLS
