"""Runs beside Ray in a process of its own: when the one that started Ray is gone, however it ended, nothing is left.

Ray's processes die with their parent, but trainings go on for seconds, and helpers and workers that are just starting
wait a minute for the dead. This file is run by its path, with the standard library and psutil alone:
`python _leash.py PLACE_OF_PSUTIL FOLDER`.
"""

import os
import shutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

LOOKS, PAUSE = 100, 0.1
"""How often it is looked for what is left, and seconds between: one that starts another may die after it."""


class Leash:
    """Ends Ray's processes and removes its folder when `release` is called, or when this process has died.

    Args:
        folder: Of Ray's files.
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
    """Wait until the parent closes the other end of our input; then end what is Ray's, and remove the folder."""
    sys.path.insert(0, place)
    psutil: Any = import_module("psutil")
    sys.stdin.read()
    for _ in range(LOOKS):
        left = [process for process in psutil.process_iter() if _is_rays(psutil, process, folder)]
        if not left:
            break
        for process in left:
            try:
                process.kill()  # never another one with its number: psutil compares their times of birth
            except psutil.Error:
                continue
        time.sleep(PAUSE)
    shutil.rmtree(folder, ignore_errors=True)


def _is_rays(psutil: Any, process: Any, folder: str) -> bool:
    """Whether what a process says goes to a file of the folder, which nobody but Ray's processes and theirs do.

    That holds from their first moment on, whoever has started them and whatever they call themselves. Who just reads
    such a file is let alone, where the system tells (Linux).
    """
    try:
        files = process.open_files()
    except (psutil.Error, OSError):  # it is another user's, or has just ended
        return False
    return any(
        file.path.startswith(f"{folder}{os.sep}") and file.path.endswith(".out") and getattr(file, "mode", "a") != "r"
        for file in files
    )


if __name__ == "__main__":
    watch(*sys.argv[1:])
