"""The page of a report: one HTML file with its style, its code, plotly and all numbers in it."""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from attnpool.colours import COLOURS
from attnpool.jobs._html import template
from attnpool.jobs._quantities import CONVENTIONS, COSTS, DTYPES
from attnpool.jobs._report_data import page_data, quantity_data
from attnpool.jobs._report_words import environment, remarks, summary
from attnpool.jobs._results import DataSet, Results, differing
from attnpool.jobs._rows import Row

FOLDER = Path(__file__).parent / "report_page"
CODE = ("charts.js", "page.js")


def render(results: Results, baselines: Sequence[int], title: str) -> str:
    """The whole page; names of networks and classes are escaped wherever they stand.

    Args:
        results: What to report.
        baselines: Place of the baseline in each data set.
        title: Of the page.
    """
    from plotly.offline import get_plotlyjs

    parts = [page_data(data, baseline) for data, baseline in zip(results.data, baselines, strict=True)]
    numbers = {
        "data": parts,
        "costs": quantity_data(COSTS),
        "dtypes": DTYPES,
        "colours": COLOURS,
    }
    code = [get_plotlyjs(), *((FOLDER / name).read_text(encoding="utf-8") for name in CODE)]
    return template(FOLDER / "page.html").render(
        title=title,
        summaries=[
            summary(data, baseline, sum(row["data"] == data.source for row in results.failed))
            for data, baseline in zip(results.data, baselines, strict=True)
        ],
        numbers=numbers,
        settings=[_settings(data) for data in results.data],
        failed=[_failure(row) for row in results.failed],
        environment=environment([*results.finished, *results.failed]),
        remarks=remarks(results),
        notes=list(dict.fromkeys(data.reported.note for data in results.data if data.reported.note)),
        conventions=list(CONVENTIONS.values()),
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        code=code,
        allowed=" ".join(map(_hash, code)),
    )


def _hash(script: str) -> str:
    """As a content security policy names the one script that may run."""
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


def _settings(data: DataSet) -> dict[str, Any]:
    """What all configurations have in common, and a row for each of what differs."""
    all_settings = [c.settings for c in data.configurations]
    names = differing(all_settings)
    common = {name: _text(value) for name, value in all_settings[0].items() if name not in names}
    rows = [(c.name, [_text(c.settings.get(name, "")) for name in names]) for c in data.configurations]
    return {"data": data.name, "common": common, "names": names, "rows": rows}


def _failure(row: Row) -> dict[str, Any]:
    return {key: _text(row.get(key)) for key in ("name", "data", "seed", "attempts", "error", "trial", "finished_at")}


def _text(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)
