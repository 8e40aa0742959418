"""The code blocks of a Markdown page, and how each is executed as a reader would."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from goldens import state_of
from PIL import Image, ImageDraw
from warm import OF_COMMANDS, Warm

from attnpool.data.source import open_source

BIN = Path(sys.executable).parent
SMALLER = (
    (r"--epochs \d+", "--epochs 1"),
    (r"(attnpool train (?!.*--epochs).*)", r"\1 --epochs 1"),
    (r"--seeds \d+", "--seeds 1"),
    (r"--data fashion_mnist", "--data folder:clothes --image-size 32"),
    (r"(attnpool data scenes scenes --classes \d+).*", r"\1 --images 40"),
    (r"^seeds: \d+", "seeds: 1"),
    (r"epochs: \d+", "epochs: 1"),
    (r"--nnodes 2 (.*) HOST:29400", r"--nnodes 1 \1 localhost:0"),
    (r"--nproc-per-node \d+", "--nproc-per-node 2"),
    (r"--batch-size \d+", "--batch-size 8"),
    (r"(attnpool demo)", r"\1 --epochs 1"),
    (r"(attnpool export .*)", r"\1 --min-agreement 0 --calibration-images 8"),
)
"""What makes a page's commands short enough for a test. `folder:clothes` is a part of the same data."""
READ = ("make ", "pip install ", "pip download ", "hf auth login", ". .venv/")
"""Beginnings of lines that are not executed here: what they name is checked."""
PLAIN = re.compile(r"attnpool [\w\s./:,=%@\"'+-]+")
"""A command in which a shell would find nothing to do but to split it into words."""


@dataclass(frozen=True)
class Block:
    """One block of code: its kind (python, sh, yaml, text), and its lines."""

    kind: str
    text: str

    @property
    def lines(self) -> list[str]:
        """Commands, each on one line, without comments."""
        joined = self.text.replace("\\\n", " ")
        return [line for raw in joined.splitlines() if (line := re.sub(r"\s+# .*", "", raw).strip()) and line[0] != "#"]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    return [Block(kind, text) for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.M | re.S)]


def furnish(folder: Path) -> Path:
    """A reader's folder: photographs of cats and dogs (two colours), clothes, and published weights."""
    for name, colour in (("cat", (200, 150, 90)), ("dog", (60, 90, 160))):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(1, 21):
            image = Image.new("RGB", (120, 100), tuple(c + i for c in colour))
            ImageDraw.Draw(image).ellipse((20, 20, 60 + i, 80), fill=colour[::-1])
            image.save(folder / "photos" / name / f"{i}.jpg")
    (folder / "cat.jpg").write_bytes((folder / "photos" / "cat" / "1.jpg").read_bytes())
    clothes = open_source("fashion_mnist")
    for i in range(300):
        image, label = clothes.train[i]
        place = folder / "clothes" / clothes.classes[label].replace("/", "-")
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{i}.png")
    state = {name: value.float() for name, value in state_of("mobilenet_v2-nlp_headfix2-1222121").items()}
    for name in ("net.classifier.weight", "net.classifier.bias"):
        state[name] = state[name][:2]  # cats and dogs
    torch.save({"state_dict": state}, folder / "best.pth")
    return folder


def follow(page: Sequence[Block], folder: Path, **more: str) -> None:
    """Do what a page says, in a reader's folder; a text block has what the python block before it prints."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **more}
    with Warm(OF_COMMANDS, folder, environment) as warm:
        _follow(page, folder, environment, warm)


def _follow(page: Sequence[Block], folder: Path, environment: dict[str, str], warm: Warm) -> None:
    printed: str | None = None
    for block in page:
        if block.kind == "python":
            printed = _ended_well(warm.run([sys.executable, "-W", "error", "-c", block.text]))
            for shape in re.findall(r"# (\(\d[^)]*\))", block.text):
                assert shape.strip("()") in printed
            continue
        if block.kind == "text":
            assert printed in (None, block.text), printed
        elif block.kind == "yaml":
            name = re.match(r"# (\S+\.yaml)", block.text)
            assert name is not None, "a yaml block begins with the name of its file"
            (folder / name[1]).write_text(_smaller(block.text))
        else:
            assert block.kind == "sh", block.kind
            if block.text.startswith("#!"):
                _do(["bash", "-c", _smaller(block.text)], folder, environment)
            for line in [] if block.text.startswith("#!") else block.lines:
                _command(line, folder, environment, warm)
        printed = None


def _command(line: str, folder: Path, environment: dict[str, str], warm: Warm) -> None:
    if line.startswith(READ):
        return
    line = _smaller(line)
    if line.startswith("attnpool app "):
        _serve(line, folder, environment)
    elif PLAIN.fullmatch(line):
        _ended_well(warm.run(shlex.split(line)))
    else:
        _do(["bash", "-c", line], folder, environment)


def _smaller(text: str) -> str:
    for pattern, replacement in SMALLER:
        text = re.sub(pattern, replacement, text, flags=re.M)
    return text


def _serve(line: str, folder: Path, environment: dict[str, str]) -> None:
    """Start what runs until it is stopped, and stop it when it is ready."""
    process = subprocess.Popen(shlex.split(line), cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stderr is not None
        assert "http://127.0.0.1:" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert "stopped" in process.stderr.read()
    assert process.returncode == 143


def _do(words: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    """Run it, and what it prints."""
    return _ended_well(subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True))


def _ended_well(done: subprocess.CompletedProcess[str]) -> str:
    """What it prints, if it did what it should."""
    assert done.returncode == 0, (done.args, done.stderr[-3000:])
    assert "Traceback" not in done.stderr
    return done.stdout
