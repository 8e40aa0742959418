"""Every command and every Python line of the README runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from goldens import state_of
from PIL import Image

from attnpool.models.stages import BACKBONES
from attnpool.registry import POOLS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.split("  #")[0].strip() for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if line]
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with photos of cats and dogs (here two colours) and weights of the published repository."""
    root = tmp_path_factory.mktemp("reader")
    for name, colour in (("cat", (200, 150, 90)), ("dog", (60, 90, 160))):
        (root / "photos" / name).mkdir(parents=True)
        for i in range(1, 21):
            Image.new("RGB", (120, 100), tuple(c + i for c in colour)).save(root / "photos" / name / f"{i}.jpg")
    state = {name: value.float() for name, value in state_of("mobilenet_v2-nlp_headfix2-1222121").items()}
    for name in ("net.classifier.weight", "net.classifier.bias"):
        state[name] = state[name][:2]  # cats and dogs
    torch.save({"state_dict": state}, root / "best.pth")
    return root


def test_all_kinds_of_blocks_are_known() -> None:
    assert {kind for kind, _ in BLOCKS} == {"sh", "python"}
    assert all(line.startswith(("make ", "pip install ", "attnpool ")) for line in COMMANDS)


def test_the_attnpool_commands_run_in_their_order(photos: Path) -> None:
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    for line in COMMANDS:
        if line.startswith("attnpool "):
            done = subprocess.run(line, shell=True, cwd=photos, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, (line, done.stderr)
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("make ")])
def test_the_make_targets_exist(line: str) -> None:
    subprocess.run([*line.split(), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_it_can_be_installed_by_pip(tmp_path: Path) -> None:
    assert "pip install ." in COMMANDS
    words = [str(BIN / "uv"), "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), str(ROOT)]
    subprocess.run(words, check=True)
    code = "import attnpool; print(attnpool.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.stdout.startswith(str(tmp_path)), done.stderr


@pytest.mark.parametrize("text", PYTHON)
def test_the_python_lines_run(text: str) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for shape in re.findall(r"# (\(\d[^)]*\))", text):
        assert shape.strip("()") in done.stdout


def test_it_names_every_method_and_backbone_and_its_links_exist() -> None:
    for name in [*POOLS, *BACKBONES]:
        assert f"`{name.removesuffix('_v2')}`" in README, name
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
