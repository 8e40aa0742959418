"""Rows of results.jsonl: read line by line, and refused, file and line named, if a field is missing or wrong."""

import json
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from reprlib import repr as short
from typing import Any

from attnpool.jobs._quantities import CONVENTIONS, COSTS, DTYPES, Quantity
from attnpool.jobs._reported import Reported, reported_of

FILE = "results.jsonl"
Row = dict[str, Any]
Rule = tuple[str, Callable[[Any], bool]]


def file_of(place: str) -> Path:
    """The file itself, or the results.jsonl of a folder."""
    path = Path(place)
    return path / FILE if path.is_dir() else path


def read_rows(place: str) -> list[Row]:
    """The rows of a file, or of the results.jsonl of a folder.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: for a line that is no row.
    """
    file = file_of(place)
    if not file.is_file():
        raise FileNotFoundError(f"results has to be files, or folders that hold a {FILE}, but {file} does not exist")
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{file} has to be text in UTF-8, but it is not") from None
    return [_row(line, f"{file}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def reported_of_row(row: Row) -> Reported:
    """What is reported of such a trial, by its architecture."""
    return reported_of(row["settings"].get("architecture"))


def _row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise ValueError(f"{where} has to be a JSON object, but got {short(line)}")
    _require(row, COMMON, where)
    if row["status"] == "failed":
        _require(row, FAILED, where)
        return row
    _require(row, FINISHED, where)
    reported = reported_of_row(row)
    for quantity in (*reported.measures, *COSTS):
        _require_number(quantity, row, where)
    if len(row["per_class"]) != len(row["classes"]):
        rule = f"{len(row['classes'])} numbers, as many as classes"
        raise ValueError(f"{where}: per_class has to have {rule}, but got {len(row['per_class'])}")
    for epoch in row["history"]:
        for curve in reported.curves:
            _require_number(curve, epoch, f"{where}: history")
    return row


def _require(row: Row, fields: dict[str, Rule], where: str) -> None:
    for name, (rule, holds) in fields.items():
        if name not in row:
            raise ValueError(f"{where}: {name} has to be {rule}, but it is missing")
        if not holds(row[name]):
            raise ValueError(f"{where}: {name} has to be {rule}, but got {short(row[name])}")


def _require_number(quantity: Quantity, row: Row, where: str) -> None:
    value = quantity.of(row)
    if not _is_number(value) and not (value is None and quantity.optional):
        raise ValueError(f"{where}: {'.'.join(quantity.path)} has to be a finite number, but got {short(value)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(item is None or _is_number(item) for item in value)


def _are_epochs(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) and _is_number(item.get("epoch")) for item in value)


def _by_dtype(value: Any) -> bool:
    return isinstance(value, dict) and all(dtype in value for dtype in DTYPES)


COMMON: dict[str, Rule] = {
    "status": ("'finished' or 'failed'", lambda value: value in ("finished", "failed")),
    "trial": ("a text", _is_text),
    "name": ("a text", _is_text),
    "settings": ("an object", _is_object),
    "seed": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "data": ("a text", _is_text),
}
"""Fields of any row: the rule in words, and whether a value keeps it."""
FAILED: dict[str, Rule] = {"error": ("a text", _is_text)}
FINISHED: dict[str, Rule] = {
    "classes": ("a list of names", _are_texts),
    "weight_bytes": (f"an object with {' and '.join(DTYPES)}", _by_dtype),
    "memory": (
        f"an object with {' and '.join(DTYPES)}, each with {', '.join(CONVENTIONS)}",
        lambda value: (
            _by_dtype(value) and all(_is_object(value[d]) and value[d].keys() >= {*CONVENTIONS} for d in DTYPES)
        ),
    ),
    "latency": (
        "null or an object with median_ms",
        lambda value: value is None or (_is_object(value) and _is_number(value.get("median_ms"))),
    ),
    "per_class": ("a list of numbers, null for a class that was not there", _are_numbers),
    "history": ("a list of epochs", _are_epochs),
}
