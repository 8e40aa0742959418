"""Programs in Python, each in a copy of a process that has imported its libraries, which takes six seconds and more.

Run by its path it is that process: for each line of its input it forks, and the copy runs the program as a fresh
process would, which imports ours and ends as every process. Only libraries are imported before.
"""

import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

COMMAND = Path(sys.executable).with_name("attnpool")
OF_COMMANDS = (
    "huggingface_hub",
    "jsonargparse",
    "matplotlib.figure",
    "pytorch_lightning",
    "rich.console",
    "timm",
    "torch.utils.tensorboard",
    "torchmetrics",
    "torchvision",
)
"""What most commands import. Ray is not among them: it starts processes of its own."""
OF_THE_CONVERTER = ("litert_torch", "ai_edge_quantizer")


class Warm:
    """Such a process, started at the first program; environment and folder are those of all programs.

    One serves one environment, as libraries read theirs when they are imported.
    """

    def __init__(self, libraries: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._libraries, self._folder, self._environment = libraries, folder, environment
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Warm":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate()  # the end of its input is its end

    def run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """What `attnpool ...`, `python -m MODULE ...` or `python -W error -c CODE` does: exit code and output."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        with tempfile.TemporaryDirectory() as place:
            out, err = Path(place, "out"), Path(place, "err")
            process.stdin.write(f"{json.dumps([str(out), str(err), *words])}\n")
            process.stdin.flush()
            code = process.stdout.readline()
            assert code, "the process that has the libraries has ended"
            return subprocess.CompletedProcess(words, int(code), out.read_text(), err.read_text())

    def _start(self) -> subprocess.Popen[str]:
        words, pipe = [sys.executable, __file__, *self._libraries], subprocess.PIPE
        return subprocess.Popen(words, cwd=self._folder, env=self._environment, stdin=pipe, stdout=pipe, text=True)


def serve(libraries: Sequence[str]) -> None:
    """Run what is asked for, one after another; returns at the end of the input, and nowhere else."""
    sys.path[0] = str(COMMAND.parent)  # where the command itself would have begun
    for library in libraries:
        import_module(library)
    gc.freeze()  # else every copy would look through all of it at its end
    for line in sys.stdin:
        assert os.listdir("/proc/self/task") == [str(os.getpid())], "a copy has no threads but its own"
        copy = os.fork()
        if not copy:
            out, err, *words = json.loads(line)
            become(out, err, words)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])}\n")
        sys.stdout.flush()


def become(out: str, err: str, words: Sequence[str]) -> None:
    """Be the program from here on: it ends this process."""
    for descriptor, file, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, out, os.O_WRONLY | os.O_CREAT),
        (2, err, os.O_WRONLY | os.O_CREAT),
    ):
        os.dup2(os.open(file, flags, 0o600), descriptor)
    match words:
        case ["attnpool", *arguments]:
            sys.argv = [str(COMMAND), *arguments]
            runpy.run_path(str(COMMAND), run_name="__main__")
        case [_, "-m", module, *arguments]:
            sys.argv, sys.path[0] = [module, *arguments], os.getcwd()
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case [_, "-W", "error", "-c", code]:
            sys.argv, sys.path[0] = ["-c"], ""
            warnings.simplefilter("error")
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        case _:
            raise ValueError(words)
    sys.exit()


if __name__ == "__main__":
    serve(sys.argv[1:])
