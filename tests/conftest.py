"""What all tests share: one thread each, fresh seeds, and a browser."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run side by side, and so do the processes they start

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright
from warm import OF_THE_CONVERTER, Warm

CHROMIUM = Path("/usr/bin/chromium")
SWITCHES = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --no-first-run"

torch.set_num_threads(1)
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; where it is not installed, what needs it is left out, but not in CI."""
    if not CHROMIUM.exists() and not os.environ.get("CI"):
        pytest.skip(f"pages are tested in {CHROMIUM}, which is not installed")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES.split())
        yield started
        started.close()


@pytest.fixture(scope="module")
def warm_converter() -> Iterator[None]:
    """LiteRT's converter runs in copies of a process that has imported its libraries."""
    with Warm(OF_THE_CONVERTER, Path.cwd(), os.environ) as warm, pytest.MonkeyPatch.context() as patch:
        run = SimpleNamespace(run=lambda words, **_: warm.run(words))
        patch.setattr("attnpool.export.litert.subprocess", run)
        yield
