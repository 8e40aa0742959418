"""Runs beside Ray in a process of its own: when the one that started Ray is gone, however it ended, nothing is left.

Ray's processes die with their parent, but trainings go on for seconds, and two helpers wait a minute for the dead.
This file is run by its path, with the standard library and psutil alone: `python _leash.py PLACE_OF_PSUTIL FOLDER`.
"""

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from select import select
from typing import Any

EVERY = 2.0
"""Seconds between two looks at what Ray has started."""


class Leash:
    """Ends Ray's processes and removes its folder when `release` is called, or when this process has died.

    Args:
        folder: Of Ray's files: its processes are those that name it in their command, and what these have started.
    """

    def __init__(self, folder: Path) -> None:
        place = Path(import_module("psutil").__file__ or "").parents[1]  # Ray brings it: found after Ray was imported
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(place), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in a terminal is not for it
        )

    def release(self) -> None:
        """End what still runs; it is gone when this returns."""
        self._process.communicate()


def watch(place: str, folder: str) -> None:
    """Look at what the parent starts until it closes the other end of our input; then end it, and remove the folder."""
    sys.path.insert(0, place)
    psutil: Any = import_module("psutil")
    held: set[Any] = set()
    parent = psutil.Process(os.getppid())
    while not select([sys.stdin], [], [], EVERY)[0]:
        held |= _family(psutil, parent, folder)
    for process in held | _family(psutil, parent, folder):
        try:
            process.kill()  # never another one with its number: psutil compares their times of birth
        except psutil.Error:
            continue
    shutil.rmtree(folder, ignore_errors=True)


def _family(psutil: Any, parent: Any, folder: str) -> set[Any]:
    """The children of a process that name the folder in their command, and all of theirs."""
    found: set[Any] = set()
    try:
        for child in parent.children():
            if child.pid != os.getpid() and folder in " ".join(child.cmdline()):
                found |= {child, *child.children(recursive=True)}
    except psutil.Error:  # one that has just ended
        pass
    return found


if __name__ == "__main__":
    watch(*sys.argv[1:])
