"""`attnpool report`: trials of `attnpool compare` as one page, with intervals, fronts and paired differences."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from attnpool.jobs._quantities import COSTS
from attnpool.jobs._report_data import table_rows
from attnpool.jobs._report_figures import curves_picture, memory_picture
from attnpool.jobs._report_page import render
from attnpool.jobs._report_words import estimate_text
from attnpool.jobs._results import Results, read_results
from attnpool.jobs._rows import file_of
from attnpool.jobs._statistics import paired
from attnpool.jobs._write import make_folder, write_whole
from attnpool.registry import did_you_mean

NEEDED = ("jinja2", "plotly", "scipy")
FIGURES = ("accuracy_memory.png", "learning_curves.png", "summary.csv")


@dataclass(frozen=True)
class ReportResult:
    """What `report` wrote, and of what.

    Args:
        output: The page.
        files: All files that were written, the page first.
        results: The trials, by data set and configuration.
        baselines: The configuration that each data set's differences are to.
    """

    output: str
    files: tuple[str, ...]
    results: Results
    baselines: tuple[str, ...]

    def __rich__(self) -> Group:
        tables = [self._table(place) for place in range(len(self.baselines))]
        failed = [f"failed: {row['name']}, seed {row['seed']}: {row['error']}" for row in self.results.failed]
        return Group(*tables, *map(escape, failed), escape(f"written: {', '.join(self.files)}"))

    def _table(self, place: int) -> Table:
        data, peak = self.results.data[place], COSTS[0]
        measure = data.reported.measures[0]
        base = data.configurations[data.names.index(self.baselines[place])]
        title = (
            f"{data.name}: {measure.label} with 95 % intervals; differences to {base.name}, paired by seed, in points"
        )
        table = Table(title=escape(title), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("configuration", overflow="fold")
        for name in ("seeds", data.reported.goodness, "difference", "peak int8, kB"):
            table.add_column(name, justify="right")
        for c in data.configurations:
            found = None if c is base else paired(c.values(measure), base.values(measure))
            difference = "-" if found is None else estimate_text(found, measure, sign=True).removesuffix(" %")
            memory = peak.text(c.mean(peak) or 0.0)
            value = estimate_text(c.estimate(measure), measure)
            table.add_row(escape(c.name), str(len(c.trials)), value, difference, memory)
        return table


def report(
    results: list[str],
    *,
    output: str = "report.html",
    title: str | None = None,
    baseline: str | None = None,
    figures: str | None = None,
    overwrite: bool = False,
) -> ReportResult:
    """Write the results of trials as one page that needs no network: charts, tables, intervals over seeds.

    Needs jinja2, plotly and scipy: pip install attnpool[report].

    Args:
        results: Files of `attnpool compare`, or folders that hold a results.jsonl. Of the same trial twice, the last
            row counts.
        output: The page, an HTML file.
        title: Of the page; by default it names the data.
        baseline: Name of the configuration that others are compared with at first, where a data set has it; by default
            the first. The reader can choose another.
        figures: Folder for accuracy_memory.png, learning_curves.png and summary.csv; by default they are not written.
        overwrite: Replace files that exist.

    Raises:
        ValueError: for what is no row of results, no finished trial, an unknown baseline, or a place that cannot be
            written.
        FileNotFoundError: for results that do not exist.
        FileExistsError: if a file exists and `overwrite` is false.
        ImportError: naming the extra, if a library is not installed.
    """
    for name in NEEDED:
        if find_spec(name) is None:
            raise ImportError(f"the report needs {name}: pip install attnpool[report]")
    page = Path(output)
    targets = [page, *([Path(figures) / name for name in FIGURES] if figures is not None else [])]
    _check_targets(page, targets, overwrite)
    if page.resolve() in [file_of(place).resolve() for place in results]:
        raise ValueError(f"output has to be another file than the results, but got {str(page)!r}")
    found = read_results(results)
    places = _baselines(found, baseline)
    contents = [render(found, places, title or _title(found)).encode()]
    if figures is not None:
        make_folder(figures, "figures")
        pictures = memory_picture(found.data), curves_picture(found.data)
        contents += [*map(_png, pictures), _csv(found, places).encode()]
    for file, content in zip(targets, contents, strict=True):
        write_whole(file, content)
    chosen = tuple(data.names[place] for data, place in zip(found.data, places, strict=True))
    return ReportResult(str(page), tuple(map(str, targets)), found, chosen)


def _check_targets(page: Path, targets: Sequence[Path], overwrite: bool) -> None:
    """Refuse, before anything is read, files that may not or cannot be written."""
    if page.is_dir() or not page.parent.is_dir():
        raise ValueError(f"output has to be a file in a folder that exists, but got {str(page)!r}")
    if not os.access(page.parent, os.W_OK):
        raise ValueError(f"output has to be in a folder that can be written to, but got {str(page)!r}")
    there = [str(file) for file in targets if file.exists()]
    if there and not overwrite:
        raise FileExistsError(f"output has to be new, but {', '.join(there)} exists; or say --overwrite")


def _baselines(results: Results, name: str | None) -> list[int]:
    """The place of the baseline in each data set."""
    known = list(dict.fromkeys(name for data in results.data for name in data.names))
    if name is not None and name not in known:
        raise ValueError(f"baseline has to be the name of a configuration, but got {name!r}{did_you_mean(name, known)}")
    return [data.names.index(name) if name in data.names else 0 for data in results.data]


def _title(results: Results) -> str:
    """E.g. "Accuracy and memory on fashion_mnist"."""
    compared = ", ".join(dict.fromkeys(data.reported.goodness for data in results.data))
    return f"{compared[0].upper()}{compared[1:]} and memory on {', '.join(data.name for data in results.data)}"


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _csv(results: Results, places: Sequence[int]) -> str:
    rows = [row for data, place in zip(results.data, places, strict=True) for row in table_rows(data, place)]
    stream = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)  # those of one task are not those of another
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
