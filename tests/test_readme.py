"""The README: every command and every Python line of it runs, and what it names is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import BIN, blocks, follow, furnish

from attnpool.models.stages import BACKBONES
from attnpool.registry import POOLS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = blocks(ROOT / "README.md")


def test_all_kinds_of_blocks_are_known() -> None:
    assert {block.kind for block in BLOCKS} == {"sh", "python"}
    lines = [line for block in BLOCKS if block.kind == "sh" for line in block.lines]
    assert all(line.startswith(("make ", "pip install ", "attnpool ")) for line in lines)
    assert "pip install ." in lines


@pytest.mark.parametrize("kind", ["sh", "python"])
def test_the_blocks_run_in_their_order(kind: str, tmp_path: Path) -> None:
    follow([block for block in BLOCKS if block.kind == kind], furnish(tmp_path))


def test_it_can_be_installed_by_pip(tmp_path: Path) -> None:
    words = [str(BIN / "uv"), "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), str(ROOT)]
    subprocess.run(words, check=True)
    code = "import attnpool; print(attnpool.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.stdout.startswith(str(tmp_path)), done.stderr


def test_it_names_every_method_and_backbone_and_its_links_exist() -> None:
    for name in [*POOLS, *BACKBONES]:
        assert f"`{name.removesuffix('_v2')}`" in README, name
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
