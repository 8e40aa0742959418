"""Making a folder, and writing a file in one move: whoever reads it finds the old one or the new one, whole."""

import os
from pathlib import Path


def write_whole(file: Path, content: str | bytes) -> None:
    """Write beside the file, then move it there.

    Raises:
        OSError: if it cannot be written; an earlier file is as it was, and nothing else is left behind.
    """
    beside = file.with_name(f"{file.name}.new")
    try:
        with beside.open("wb") as stream:
            stream.write(content if isinstance(content, bytes) else content.encode())
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, file)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def make_folder(place: str | Path, argument: str = "output") -> Path:
    """The folder for what a job writes, made if need be; `ValueError` names the argument if it cannot be."""
    folder = Path(place)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{argument} has to be a folder, but {folder} cannot be made: {error.strerror}") from error
    return folder
