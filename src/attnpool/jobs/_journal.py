"""Rows in a file of JSON lines: one is there whole or not at all, whenever the process is killed."""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attnpool.jobs._write import write_whole

Row = dict[str, Any]


class Rows:
    """The rows of `file`, by what each says under `key`; a last line that was cut off is taken away.

    Args:
        file: Of JSON lines, made if need be.
        key: What each row is known by; of two with the same, the later one counts.

    Raises:
        ValueError: if a whole line is no such row.
    """

    def __init__(self, file: Path, key: str) -> None:
        self.file, self.key = file, key
        held = file.read_bytes() if file.exists() else b""
        whole = held[: held.rfind(b"\n") + 1]
        self.known: dict[str, Row] = {}
        self._lines = len(whole.splitlines())
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
                self.known[row[key]] = row
            except (ValueError, KeyError, TypeError):
                raise ValueError(
                    f"{file}:{number} has to be a row of JSON with {key!r}, but got {line[:60]!r}"
                ) from None
        if len(whole) < len(held):
            with file.open("r+b") as stream:
                stream.truncate(len(whole))

    def add(self, row: Row) -> None:
        """Write a row; it is on the disk when this returns."""
        with self.file.open("ab") as stream:
            stream.write(_line(row))
            stream.flush()
            os.fsync(stream.fileno())
        self.known[row[self.key]] = row
        self._lines += 1

    def replace(self, rows: Iterable[Row]) -> None:
        """Have these rows instead, in one step; nothing is written if they are the same."""
        new = {row[self.key]: row for row in rows}
        if list(new.values()) == list(self.known.values()) and self._lines == len(new):
            return
        write_whole(self.file, b"".join(map(_line, new.values())))
        self.known, self._lines = new, len(new)


def _line(row: Row) -> bytes:
    return (json.dumps(_finite(row), allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    """The same, with null for what is not a finite number: JSON has no word for it."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
