"""Where a figure comes from: commit, versions, device."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch


def environment() -> dict[str, str | int]:
    """Commit (with "+" if files differ from it), versions, device and threads of this process."""
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    dirty = git("status", "--porcelain", "--", "src", "benchmarks/*.py")
    return {
        "commit": git("rev-parse", "--short=10", "HEAD") + ("+" if dirty else ""),
        "python": platform.python_version(),
        **{name: version(name) for name in ("attnpool", "torch", "torchvision", "timm")},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
