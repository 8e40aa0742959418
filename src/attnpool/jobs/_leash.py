"""Runs beside Ray in a process of its own: when the one that started Ray is gone, however it ended, nothing is left.

Ray's own processes die with their parent, but two helpers of its raylet wait a minute for the dead one. This file is
run by its path, with the standard library and psutil alone: `python _leash.py PLACE_OF_PSUTIL FOLDER`.
"""

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


class Leash:
    """Ends the processes it is told of, and removes a folder, when `release` is called or this process has died.

    Args:
        folder: To remove at the end.
    """

    def __init__(self, folder: Path) -> None:
        self._psutil: Any = import_module("psutil")  # which Ray brings: found after Ray was imported
        place = Path(self._psutil.__file__ or "").parents[1]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(place), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in a terminal is not for it
            text=True,
        )

    def hold(self) -> None:
        """Hold all processes that this one has started so far, and theirs."""
        held = self._psutil.Process().children(recursive=True)
        lines = [json.dumps([p.pid, p.create_time()]) for p in held if p.pid != self._process.pid and p.is_running()]
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{line}\n" for line in lines))
        self._process.stdin.flush()

    def release(self) -> None:
        """End what is held and still runs; it is gone when this returns."""
        self._process.communicate()


def wait_and_end(place: str, folder: str) -> None:
    """Read process numbers and times of birth until the other end is closed, then end those that are still there."""
    sys.path.insert(0, place)
    psutil: Any = import_module("psutil")
    for pid, born in map(json.loads, sys.stdin.read().splitlines()):
        try:
            process = psutil.Process(pid)
            if process.create_time() == born:  # not another one with its number
                process.kill()
        except psutil.Error:
            continue
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    wait_and_end(*sys.argv[1:])
