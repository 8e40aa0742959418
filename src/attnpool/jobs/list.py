"""`attnpool list`: the pooling methods, backbones, detectors and data sources that there are."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.markup import escape
from rich.table import Table

import attnpool.detection.detectors
import attnpool.pools  # noqa: F401  (both fill a registry)
from attnpool.data._published import PUBLISHED
from attnpool.models.stages import BACKBONES
from attnpool.poolspec import option_names
from attnpool.registry import DETECTORS, POOLS, RUNTIMES, SOURCES, Entry, Registry, import_all


@dataclass(frozen=True)
class Catalogue:
    """A titled list: the names of its columns, and a row for each thing."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def __rich__(self) -> Table:
        table = Table(*self.columns, title=self.title, show_lines=True)
        table.columns[0].no_wrap = True
        for column in table.columns[1:]:
            column.overflow = "fold"
        for row in self.rows:
            table.add_row(*row)
        return table


def list_(what: Literal["pools", "models", "detectors", "data"]) -> Catalogue:
    """List the pooling methods, the backbones, the detectors or the data sources.

    Args:
        what: pools, models, detectors or data.
    """
    return {"pools": _pools, "models": _models, "detectors": _detectors, "data": _data}[what]()


def _pools() -> Catalogue:
    rows = [(*row, _options(POOLS[row[0]]), _exports(POOLS[row[0]])) for row in _described(POOLS)]
    columns = ("name", "what it computes, and its paper", "options: _ in strings, [dim]in Python[/dim]", "exports to")
    return Catalogue("Pooling methods", columns, rows)


def _options(entry: Entry) -> str:
    """The options of a method in strings, and in Python with their values if nothing is said."""
    in_strings = " ".join(option_names(entry.name))
    if entry.fixed:
        return f"{in_strings}\n[dim]as {entry.base}[/dim]".strip()
    keywords = [p for p in inspect.signature(entry.target).parameters.values() if p.kind is p.KEYWORD_ONLY]
    in_python = " ".join(f"{p.name}={p.default!r}" for p in keywords)
    return f"{in_strings}\n[dim]{escape(in_python)}[/dim]".strip()


def _exports(entry: Entry) -> str:
    """The runtimes that it can be exported to, and why not to others."""
    able = " ".join(name for name in RUNTIMES if name not in entry.limits)
    reasons: dict[str, list[str]] = {}
    for name, reason in entry.limits.items():
        reasons.setdefault(reason, []).append(name)
    return "\n".join([able, *(f"[dim]not {', '.join(names)}: {reason}[/dim]" for reason, names in reasons.items())])


def _models() -> Catalogue:
    rows = [
        (b.name, str(len(b.stages)), b.placement, "any" if b.scaled else "1.0", b.timm_name) for b in BACKBONES.values()
    ]
    rows.append(("a timm name", "one each", "before", "1.0", "any timm model whose stages can be told apart"))
    return Catalogue("Backbones", ("name", "digits", "placement", "width", "timm model"), rows)


def _detectors() -> Catalogue:
    own = ("sizes", "anchors", "neck")
    rows = [(*row, " ".join(f"--{o}" for o in own if DETECTORS[row[0]].takes(o))) for row in _described(DETECTORS)]
    columns = ("name", "what it is, and its paper", "options of detect train that not all have")
    return Catalogue("Detectors, as in NAME:ARCHITECTURE", columns, rows)


def _data() -> Catalogue:
    import_all("attnpool.data")
    own = {name: row for name, row in _described(SOURCES) if name not in PUBLISHED}
    published = [(name, f"{p.summary}\n[dim]{p.paper}[/dim]") for name, p in PUBLISHED.items()]
    return Catalogue("Data sources", ("name", "what it holds"), [*own.items(), *published])


def _described(registry: Registry) -> list[tuple[str, str]]:
    return [(name, f"{e.summary}\n[dim]{e.paper}[/dim]" if e.paper else e.summary) for name, e in registry.items()]
