"""A new pooling method is one file: put there, it is everywhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
METHOD = '''"""Bright pooling: what is bright counts more."""

import torch
from torch import Tensor, nn

from attnpool.pools._size import Size
from attnpool.pools._weighted import WeightedPool2d
from attnpool.registry import POOLS


@POOLS.register("brightp", paper="Nobody, 2026", variants={"darkp": {"sign": -1.0}})
class BrightPool2d(WeightedPool2d):
    """Bright pooling: y = avg(x * w) / avg(w), w = exp(sigmoid(scale * x))."""

    def __init__(
        self,
        channels: int,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        *,
        num_heads: int = 1,
        sign: float = 1.0,
    ) -> None:
        super().__init__(channels, kernel_size, stride, padding, ceil_mode)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), sign))

    def weight(self, x: Tensor) -> Tensor:
        return (self.scale * x).sigmoid().exp()
'''


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, the tests and the benchmarks, with one file more."""
    root = tmp_path_factory.mktemp("house")
    for folder in ("src/attnpool", "tests", "benchmarks"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    (root / "src/attnpool/pools/brightp.py").write_text(METHOD)
    return root


def run(house: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(house / "src"), "COLUMNS": "200"}
    done = subprocess.run([sys.executable, *words], cwd=house, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_in_the_grammar_and_in_networks(house: Path) -> None:
    code = (
        "import torch, attnpool; from attnpool.pools.brightp import BrightPool2d\n"
        "net = attnpool.create_model('prepool-brightp_headfix2-2-dyresnet18-darkp-1222', num_classes=3)\n"
        "print(tuple(net(torch.zeros(2, 3, 64, 64)).shape), sum(isinstance(m, BrightPool2d) for m in net.modules()))"
    )
    expected = "(2, 3) 4"
    assert run(house, "-c", code).startswith(expected)


def test_in_attnpool_list(house: Path) -> None:
    listed = run(house, "-m", "attnpool", "list", "pools")
    assert "brightp" in listed
    assert "Bright pooling: y = avg(x * w)" in listed
    assert "brightp with sign=-1.0" in listed


def test_in_the_contract_test_which_it_passes(house: Path) -> None:
    passed = run(house, "-m", "pytest", "tests/test_pools.py", "-vv", "-k", "brightp or darkp")
    assert "test_exports[brightp] PASSED" in passed
    assert "test_exports[darkp] PASSED" in passed


def test_in_the_benchmark(house: Path) -> None:
    assert {"brightp", "darkp", "nlp", "skip"} <= set(run(house, "benchmarks/methods.py", "--names", "true").split())
