"""The output folder of a run: who may write there, what may be replaced, and what goes on."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from attnpool.jobs._cluster import Processes, together
from attnpool.jobs._write import make_folder, write_whole
from attnpool.models.checkpoint import DESCRIPTION, WEIGHTS

CONFIG, RESULTS, SKIPPED, LOCK, CARD = "config.yaml", "results.json", "skipped.txt", ".lock", "README.md"
STATE = "state.safetensors"
MAY_CHANGE = {
    "output",
    "overwrite",
    "resume",
    "checkpoint_every",
    "workers",
    "accelerator",
    "data_dir",
    "download",
    "progress",
}
"""Arguments that do not decide what a run computes: one that goes on may have others."""


@contextmanager
def locked(output: str | Path) -> Iterator[Path]:
    """The folder, for this process alone; the lock goes with the process, however that ends.

    Raises:
        ValueError: if another run is writing there.
    """
    folder = make_folder(output)
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"output has to be a folder that no other run is using, but one is writing to {folder}"
        ) from None
    try:
        yield folder
    finally:
        lock.release()


def refuse_overwriting(folder: Path, overwrite: bool) -> None:
    """Raise `FileExistsError` if the folder holds a checkpoint, or a run to go on with, that may not be replaced."""
    if overwrite:
        return
    if (folder / STATE).exists():
        raise FileExistsError(
            f"output has to be a new folder, but {folder} holds a run that is not finished: --resume goes on with it, "
            "--overwrite starts anew"
        )
    if (folder / DESCRIPTION).exists():
        raise FileExistsError(f"output has to be a new folder, but {folder} holds a checkpoint; or say --overwrite")


def clear_run(folder: Path, overwrite: bool) -> None:
    """Remove what an earlier run wrote into the folder, if it may be replaced; `FileExistsError` if it may not.

    Nothing is removed from a folder that holds no checkpoint of ours.
    """
    refuse_overwriting(folder, overwrite)
    if not (folder / DESCRIPTION).exists() and not (folder / STATE).exists():
        return
    for name in ("last", "logs/csv", "logs/tensorboard", "evaluation", "predictions", "pictures"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (STATE, DESCRIPTION, WEIGHTS, RESULTS, CONFIG, SKIPPED):
        (folder / name).unlink(missing_ok=True)
    if is_card(folder / CARD):
        (folder / CARD).unlink()


def is_card(file: Path) -> bool:
    """Whether a README.md is a model card of ours, as its first lines say, and no text of somebody else."""
    if not file.is_file():
        return False
    head, _, _ = file.read_text(errors="replace").removeprefix("---\n").partition("\n---")
    return "library_name: attnpool" in head.splitlines()


def begin(folder: Path, arguments: dict[str, Any], overwrite: bool) -> None:
    """Write the arguments of a run that begins; an earlier run's files go if they may be replaced."""
    clear_run(folder, overwrite)
    write_whole(folder / CONFIG, yaml.safe_dump(arguments, sort_keys=False))


def earlier(folder: Path, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """The results of a run in the folder that is to go on and is finished; what may not go on there is refused.

    Raises:
        FileExistsError: if there is something that may not be replaced.
        ValueError: for both `resume` and `overwrite`, or to go on with other arguments.
    """
    resume, overwrite = arguments["resume"], arguments["overwrite"]
    if resume and overwrite:
        raise ValueError("resume has to be false where overwrite is true: one goes on, the other starts anew")
    if not resume:
        refuse_overwriting(folder, overwrite)
    elif (folder / CONFIG).exists():
        check_same_run(folder, arguments)
        return finished(folder)
    return None


@contextmanager
def at_work(folder: Path, arguments: dict[str, Any], me: Processes) -> Iterator[tuple[bool, dict[str, Any] | None]]:
    """A block in which the processes of a run train together; the one that writes holds the folder, and begins the run.

    Gives whether the run goes on from a state, and the results if another process was at it, and finished it, while
    this one got ready. What an earlier run left is replaced only if it may be.

    Raises:
        ValueError: if another run is writing there, or as `earlier`.
        FileExistsError: as `earlier`.
    """
    with locked(folder) if me.writes else nullcontext(), together(me):
        done = earlier(folder, arguments) if me.writes else None
        goes_on = arguments["resume"] and (folder / STATE).exists()
        if me.writes and not done and not goes_on:
            begin(folder, arguments, arguments["overwrite"] or arguments["resume"])
        yield goes_on, done


def check_same_run(folder: Path, arguments: dict[str, Any]) -> None:
    """Refuse to go on with other arguments than those of the run in the folder.

    Raises:
        ValueError: naming every argument that differs, in their order.
    """
    try:
        before = yaml.safe_load((folder / CONFIG).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / CONFIG} has to be that of a run to go on with, but is no YAML: {error}") from error
    if not isinstance(before, dict):
        raise ValueError(f"{folder / CONFIG} has to hold the arguments of a run to go on with, but holds {before!r}")
    now = yaml.safe_load(yaml.safe_dump(arguments, sort_keys=False))
    decides = [name for name in now if name in before and name not in MAY_CHANGE]
    other = [f"{n} has to be {before[n]!r}, but got {now[n]!r}" for n in decides if before[n] != now[n]]
    if other:
        raise ValueError(f"to go on with the run in {folder}, {'; '.join(other)}; --overwrite starts anew")


def finished(folder: Path) -> dict[str, Any] | None:
    """The results of the run in the folder, if it came to its end."""
    file = folder / RESULTS
    if not file.exists() or (folder / STATE).exists():
        return None
    values: dict[str, Any] = json.loads(file.read_text())
    return values


def finish(folder: Path, values: dict[str, Any]) -> None:
    """Write the results; nothing is left to go on with."""
    write_whole(folder / RESULTS, json.dumps(values, indent=2) + "\n")
    (folder / STATE).unlink(missing_ok=True)
