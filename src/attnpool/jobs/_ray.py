"""Ray, started for one comparison and gone after it; and tasks run on it, each again if it fails."""

import logging
import os
import secrets
import signal
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from attnpool.jobs._leash import Leash
from attnpool.jobs._survival import Stopped

STOPPING = (signal.SIGINT, signal.SIGTERM)
LONGEST = 40
"""Characters of the folder of Ray's sockets, whose names have at most 107 with what Ray adds."""
STORE = 80 * 2**20
"""Bytes for what tasks hand over, which here is next to nothing; the least that Ray takes is 75 MiB."""


@dataclass(frozen=True)
class Ended:
    """A task that ended.

    Args:
        key: Of the task.
        answer: What it returned: with `error`, in one line, if it failed.
        attempts: How often it was tried.
        running: How many tasks run on.
    """

    key: str
    answer: dict[str, Any]
    attempts: int
    running: int


class Signals:
    """Ctrl-C and SIGTERM while Ray runs: `Stopped` at once, and at the next `check` if it was raised where it got lost.

    Ray's own handler of SIGTERM would abort the process.
    """

    received = 0

    def heed(self) -> None:
        """From now on, in the main thread."""
        if threading.current_thread() is threading.main_thread():
            for signum in STOPPING:
                signal.signal(signum, self._note)

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.received:
            raise Stopped("stopped", self.received)

    def _note(self, signum: int, frame: Any) -> None:
        self.received = signum
        self.check()


@contextmanager
def ray_running(address: str | None, signals: Signals) -> Iterator[Any]:
    """Ray's module while a local Ray runs, or while it is connected to the cluster at `address`.

    A local Ray has no dashboard, tells nobody of its use, and is gone with its files when this process is, however that
    ends. A Ray that the process has started itself is used as it is.

    Raises:
        ImportError: naming the extra, if Ray is not installed.
        ValueError: if there is no cluster at the address.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    short = tempfile.gettempdir() if len(tempfile.gettempdir()) < LONGEST - 20 else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="attnpool-ray-", dir=short))
    with _untouched():
        signals.heed()
        leash = Leash(folder)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            if address is None:
                os.environ.setdefault("RAY_AUTH_TOKEN", _token())  # else Ray leaves one in the home folder
                options |= {"include_dashboard": False, "object_store_memory": STORE, "_temp_dir": str(folder)}
            try:
                _knock(address or "")
                ray.init(address=address or "local", **options)
            except (RuntimeError, OSError) as error:
                told = " ".join(str(error).split())
                raise ValueError(f"address has to be that of a Ray cluster that runs, but {address}: {told}") from error
            signals.heed()  # Ray has its own for SIGTERM
            yield ray
        finally:
            ray.shutdown()
            leash.release()


@cache
def _token() -> str:
    """What the processes of a local Ray know each other by; Ray keeps that of its first start in a process."""
    return secrets.token_hex(32)


def _knock(address: str) -> None:
    """Raise `OSError` at once where nobody listens: Ray would try for two minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


def import_ray() -> Any:
    """Ray's module.

    Raises:
        ImportError: naming the extra, if it is not installed.
    """
    try:
        return import_module("ray")
    except ImportError as error:
        raise ImportError("compare needs Ray: pip install attnpool[sweep]") from error


def slots(ray: Any, cpus: int, gpus: float) -> int:
    """How many tasks can run at a time.

    Raises:
        ValueError: if no machine has room for one.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    count = 0
    for machine in machines:
        room = machine.get("CPU", 0) // cpus
        count += int(min(room, machine.get("GPU", 0) // gpus) if gpus else room)
    if not count:
        most = [max(int(machine.get(kind, 0)) for machine in machines) for kind in ("CPU", "GPU")]
        raise ValueError(
            f"cpus_per_trial and gpus_per_trial have to fit on a machine of {most[0]} CPUs and {most[1]} GPUs, but "
            f"got {cpus} and {gpus:g}"
        )
    return count


def run_all(
    ray: Any,
    task: Callable[..., Any],
    arguments: Mapping[str, tuple[Any, ...]],
    slots: int,
    retries: int,
    signals: Signals,
) -> Iterator[Ended]:
    """Run a remote function on each of the arguments, `slots` at a time; each that ends is told as soon as it has.

    One that fails is tried again, at most `retries` times, after those that wait.

    Raises:
        Stopped: at a signal.
    """
    waiting = deque((key, 1) for key in arguments)
    running: dict[Any, tuple[str, int]] = {}
    while waiting or running:
        signals.check()
        while waiting and len(running) < slots:
            key, attempt = waiting.popleft()
            running[task.remote(*arguments[key])] = (key, attempt)  # type: ignore[attr-defined]
        for ref in ray.wait(list(running), timeout=1.0)[0]:
            key, attempt = running.pop(ref)
            answer = _answer(ray, ref)
            if "error" in answer and attempt <= retries:
                waiting.append((key, attempt + 1))
            else:
                yield Ended(key, answer, attempt, min(slots, len(running) + len(waiting)))


def _answer(ray: Any, ref: Any) -> dict[str, Any]:
    """What a task returned, or why it did not."""
    try:
        answer: dict[str, Any] = ray.get(ref)
        return answer
    except ray.exceptions.OutOfMemoryError:
        return {"error": "its process was ended, as the machine ran out of memory"}
    except ray.exceptions.WorkerCrashedError:
        return {"error": "its process died: it was killed, or ran out of memory"}
    except ray.exceptions.RayError as error:
        return {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"}


@contextmanager
def _untouched() -> Iterator[None]:
    """Environment and signal handlers are afterwards as they were before."""
    before, handlers = dict(os.environ), {signum: signal.getsignal(signum) for signum in STOPPING}
    try:
        yield
    finally:
        for name in set(os.environ) | set(before):
            if os.environ.get(name) != before.get(name):
                os.environ.pop(name, None)
                os.environ.update({name: before[name]} if name in before else {})
        if threading.current_thread() is threading.main_thread():
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
