"""The documentation: every block of code on every page runs, and the site is whole."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import hub
import pytest
from pages import BIN, READ, Block, blocks, follow, furnish

import attnpool
from attnpool.models.stages import BACKBONES
from attnpool.registry import DETECTORS, POOLS
from attnpool.verbs import VERBS

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
WITH_CODE = [page for page in PAGES if blocks(page)]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A reader's folder, with results of comparisons, and what a cluster has: an srun that runs what it is given."""
    furnish(tmp_path)
    results = (ROOT / "tests" / "report" / "results.jsonl").read_text()
    for place in ("results.jsonl", "runs/first/results.jsonl", "runs/second/results.jsonl"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(results)
    stand_in = tmp_path / "bin" / "srun"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/bash\nexec "$@"\n')
    stand_in.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_every_block_of_code_runs(page: Path, folder: Path) -> None:
    needed = {"HOME": str(folder), "PATH": f"{folder / 'bin'}:{BIN}:/usr/bin:/bin"}
    with hub.running() as server:
        if page.stem == "sharing":  # against a stand-in for the hub, on this machine
            follow(_trains("runs/photos"), folder)
            needed |= {"HF_ENDPOINT": server.url, "HF_TOKEN": hub.TOKEN}
        follow(blocks(page), folder, **needed)


def _trains(output: str) -> list[Block]:
    network = "resnet18-maxp-1222 --width 0.125"
    return [Block("sh", f"attnpool train {network} --data folder:photos --image-size 32 --epochs 1 --output {output}")]


@pytest.mark.parametrize("page", [*WITH_CODE, ROOT / "README.md"], ids=lambda page: page.stem)
def test_what_is_not_run_exists(page: Path) -> None:
    lines = [line for block in blocks(page) if block.kind == "sh" for line in block.lines if line.startswith(READ)]
    for line in lines:
        if line.startswith("make "):
            subprocess.run([*line.split(), "--dry-run"], cwd=ROOT, check=True, capture_output=True)
        for extra in re.findall(r"\[(\w+)\]", line):
            assert extra in EXTRAS
    for extra in re.findall(r"pip install (?:attnpool|\.)\[(\w+)\]", page.read_text()):
        assert extra in EXTRAS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a link that leads nowhere, or a name that is not documented, ends it."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_the_site_has_every_page_and_asks_nothing_of_the_internet(site: Path) -> None:
    for page in [*PAGES, Path("catalogue.md"), Path("contributing.md"), Path("changelog.md")]:
        assert (site / f"{page.stem}.html").exists()
    for page in site.glob("*.html"):
        text = page.read_text()
        assert not re.findall(r'<(?:script|img|iframe)[^>]+src="https?:', text), page
        assert not re.findall(r'<link[^>]+rel="(?:stylesheet|preload)"[^>]+href="https?:', text), page


def test_the_catalogue_and_the_reference_have_every_name(site: Path) -> None:
    catalogue, reference = ((site / f"{name}.html").read_text() for name in ("catalogue", "api"))
    for name in [*POOLS, *BACKBONES, *DETECTORS]:
        assert f"<code>{name}</code>" in catalogue, name
    for name in [*attnpool.__all__, "weight_maps", "attention_maps", "kept_maps", "class_activation"]:
        assert re.search(rf'id="attnpool\.[\w.]+\.{name}"', reference), name


def test_every_command_is_on_a_page() -> None:
    text = "\n".join(page.read_text() for page in [*PAGES, ROOT / "README.md"])
    for name in VERBS:
        assert f"attnpool {name}" in text, name
