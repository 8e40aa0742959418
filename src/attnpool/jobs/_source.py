"""The data of a job: opened, looked through if asked for, and that of a checkpoint found again."""

import getpass
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from rich.progress import Progress

from attnpool.data.broken import Broken, without_broken
from attnpool.data.loaders import Loaders
from attnpool.data.source import DataError, Source, Stream, open_source
from attnpool.jobs._cluster import Processes, processes
from attnpool.jobs._folder import SKIPPED
from attnpool.jobs._write import write_whole
from attnpool.models.checkpoint import Description

OnBadImage = Literal["error", "skip"]


def open_data(
    data: str, data_dir: str | None, download: bool, on_bad_image: OnBadImage, progress: bool
) -> tuple[Source, list[Broken]]:
    """The source, and the images that were left out of it because they cannot be read.

    The processes of one machine open it one after the other, so that one alone downloads.

    Raises:
        DataError: for data that cannot be used.
    """
    me = processes()
    lock = Path(tempfile.gettempdir()) / f"attnpool-data-{getpass.getuser()}.lock"
    with FileLock(lock) if me.count > 1 else nullcontext():
        source = open_source(data, data_dir=data_dir, download=download)
    if on_bad_image == "error":
        return source, []
    return _looked_through(source, me, progress)


def _looked_through(source: Source, me: Processes, progress: bool) -> tuple[Source, list[Broken]]:
    with Progress(disable=not (progress and me.writes)) as bar:
        task = bar.add_task("looking through the images")
        return without_broken(source, progress=lambda done, total: bar.update(task, completed=done, total=total))


def sizes(source: Source, loaders: Loaders) -> dict[str, int]:
    """How many images each split has, whatever the processes and workers; nothing of a stream, which is only read."""
    train, val = source.train, source.val
    if isinstance(train, Stream) or isinstance(val, Stream) or isinstance(source.test, Stream):
        return {}
    kept = loaders.order.images
    return {"train": kept, "val": len(train) - kept if val is None else len(val), "test": len(source.test)}


def write_skipped(folder: Path, broken: list[Broken]) -> None:
    """Name the images that were left out, one a line with the reason, if there are any."""
    if broken:
        write_whole(folder / SKIPPED, "".join(f"{file}: {reason}\n" for file, reason in broken))


def data_of(
    checkpoint: str,
    about: Description,
    data: str | None,
    data_dir: str | None,
    download: bool,
    on_bad_image: OnBadImage = "error",
    progress: bool = False,
) -> tuple[Source, list[Broken]]:
    """The source `data`, or what the checkpoint was trained on; it has to have the checkpoint's classes.

    Raises:
        DataError: for data that cannot be used, whose classes are others, or that nobody names.
    """
    trained: dict[str, Any] = about.training
    if data is None and trained.get("data") is None:
        raise DataError(f"data has to be given: {checkpoint} does not say what it was trained on")
    where = data_dir or trained.get("data_dir")
    source, broken = open_data(data or str(trained["data"]), where, download, on_bad_image, progress)
    if source.classes != about.classes:
        odd = sorted({*source.classes} ^ {*about.classes}) or list(source.classes)
        raise DataError(f"data has to have the classes of {checkpoint}, in their order, but these differ: {odd}")
    return source, broken
