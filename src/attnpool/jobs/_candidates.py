"""The candidates of a search, kept in a file, so that a search that was stopped goes on."""

import json
from collections.abc import Iterable
from pathlib import Path

from attnpool.accounting.search import Candidate
from attnpool.spec import ModelSpec

HEADER = json.dumps({"schema": "attnpool-candidates-3"}) + "\n"
"""First line of the file; another number for other ways to count."""


class Candidates:
    """What is known, by spec: a line of `file` each, those of earlier runs, too.

    A last line that a killed process left unfinished is taken off; nothing else in the file is ever changed.

    Raises:
        ValueError: if the file holds something else.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        try:
            if whole and whole[0] != HEADER:
                raise ValueError("it is of another version of fit")
            found = [Candidate.from_dict(json.loads(line)) for line in whole[1:]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"output has to be a new folder or one of fit, but {file} cannot be used: {error}"
            ) from error
        self.known: dict[ModelSpec, Candidate] = {c.spec: c for c in found}
        with file.open("a") as stream:
            stream.truncate(sum(len(line.encode()) for line in whole))
            stream.write("" if whole else HEADER)

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Know these, too."""
        new = list(candidates)
        with self.file.open("a") as stream:
            stream.writelines(json.dumps(c.to_dict()) + "\n" for c in new)
        self.known.update({c.spec: c for c in new})
