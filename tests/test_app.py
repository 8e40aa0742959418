"""The app in a real browser: dropped images, real clicks, two networks beside each other, and what it refuses."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, expect

import attnpool
from attnpool.cli import main
from attnpool.data.preprocessing import Preprocessing
from attnpool.detection import build
from attnpool.models.checkpoint import Description, save

PREPROCESSING = Preprocessing((48, 48), 3, (0.5,) * 3, (0.25,) * 3).to_dict()
CLASSES = ("cat", "dog", "<b>cow</b>")
PATIENCE = 90_000
Opener = Callable[..., Page]


@dataclass(frozen=True)
class Served:
    """A running app.

    Args:
        url: Of its page.
        process: The command.
        root: Where it runs; home, temp and cwd are below.
        names: The checkpoints: of two classifiers and a detector.
    """

    url: str
    process: "subprocess.Popen[bytes]"
    root: Path
    names: tuple[str, str, str]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start(root: Path, *words: str) -> "subprocess.Popen[bytes]":
    """The command, with folders of its own for all that it might write."""
    own = {"HOME": "home", "TMPDIR": "temp", "XDG_CACHE_HOME": "home", "MPLCONFIGDIR": "plots"}
    for folder in (*own.values(), "cwd"):
        (root / folder).mkdir(exist_ok=True)
    environment = {**os.environ, **{name: str(root / folder) for name, folder in own.items()}}
    command = [sys.executable, "-m", "attnpool", "app", *words]
    with (root / "said.txt").open("w") as said:
        return subprocess.Popen(command, cwd=root / "cwd", env=environment, stderr=said)


def wait_for(root: Path) -> str:
    """What it says when it is ready."""
    for _ in range(PATIENCE // 100):
        said = (root / "said.txt").read_text()
        if said.endswith("\n"):
            return said
        time.sleep(0.1)
    raise TimeoutError(said)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("app")
    names = tuple(str(root / name) for name in ("attentive", "plain", "detector"))
    for name, spec in zip(names, ("resnet18-nlp_headfix2-1222", "resnet18-maxp-1222"), strict=False):
        net: Any = attnpool.create_model(spec, num_classes=3, width=0.125)
        save(net, Description(net.spec, CLASSES, PREPROCESSING), name)
    detector: Any = build("ssd", "resnet18-lip-1222", num_classes=2, image_size=64, width=0.125)
    save(detector, Description(detector.spec, ("cat", "dog"), {}), names[2])
    Image.radial_gradient("L").resize((90, 60)).convert("RGB").save(root / "cat.png")
    Image.linear_gradient("L").resize((70, 70)).convert("RGB").save(root / "dog.jpg")
    port = free_port()
    process = start(root, *names, "--port", str(port), "--max-upload", "300kB")
    said = wait_for(root)
    assert said.startswith(f"attnpool: http://127.0.0.1:{port}/ shows {names[0]}"), said
    yield Served(f"http://127.0.0.1:{port}/", process, root, names)  # type: ignore[arg-type]
    process.kill()
    process.wait()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The page; at the end nothing may have gone wrong in it, and nothing been asked of the network."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    wrong, asked = list[str](), list[str]()
    opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(served.url)
    opened.wait_for_selector("#upload input[type=file]", state="attached")
    yield opened
    context.close()
    assert wrong == []
    assert {url.partition(":")[0] if url[:4] != "http" else url[: len(served.url)] for url in asked} <= {
        served.url,
        "data",
        "blob",
    }


def drop(page: Page, file: Path) -> None:
    """Drop an image in, and wait for both views."""
    page.set_input_files("#upload input[type=file]", file)
    for side in (0, 1):
        page.wait_for_selector(f"#view{side} article")
    settle(page)


def settle(page: Page) -> None:
    """Wait until nothing is worked on."""
    expect(page.locator(".generating, .pending, .translucent")).to_have_count(0, timeout=PATIENCE)


def choose(page: Page, where: str, what: str) -> None:
    page.click(f"{where} input")
    page.get_by_role("option", name=what, exact=True).click()


def pictures(page: Page, side: int, name: str) -> list[str]:
    """The maps of a view whose caption begins with a word."""
    found = page.locator(f"#view{side} figure", has=page.locator("strong", has_text=name)).locator("img")
    return [str(found.nth(i).get_attribute("src")) for i in range(found.count())]


def test_it_says_what_predict_says(page: Page, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    drop(page, served.root / "cat.png")
    for side in (0, 1):
        foretold = attnpool.predict(served.names[side], [str(served.root / "cat.png")])
        (likeliest,) = foretold.images.values()
        name, probability = likeliest[0]
        assert page.inner_text(f"#view{side} h2") == f"{name}, {probability:.1%}"
        assert page.locator(f"#view{side} meter").count() == 3
    assert "<b>cow</b>" in page.inner_text("#view0 .said")  # as text
    assert page.locator("#view0 .said b").count() == 0
    sections = page.locator("#view0 h3").all_inner_texts()
    assert sections[0] == "Class activation"
    assert sections[1].startswith("Pool 1 (maxpool): Max pooling")
    assert sum("Self-attentive pooling" in section for section in sections) == 3
    assert pictures(page, 1, "attention") == []


def test_a_click_on_a_map_shows_what_that_place_attends_to(page: Page, served: Served) -> None:
    drop(page, served.root / "cat.png")
    before, activation = pictures(page, 0, "attention"), pictures(page, 0, "Grad-CAM")
    assert len(before) == 6  # two heads of three pools
    target = page.locator("#view0 figure.image [data-map]")
    box = target.bounding_box()
    assert box is not None
    target.click(position={"x": box["width"] * 0.8, "y": box["height"] * 0.2})
    page.wait_for_function("!document.querySelector('#view0 .query').style.left.startsWith('50')")
    page.wait_for_function("!document.querySelector('#view1 .query').style.left.startsWith('50')")
    settle(page)
    x, y = map(float, page.input_value("#place textarea, #place input").split(","))
    assert (x, y) == pytest.approx((0.8, 0.2), abs=0.01)
    after = pictures(page, 0, "attention")
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert pictures(page, 0, "Grad-CAM") == activation
    marks = page.locator("#view0 .mark")
    left, top = (float(marks.first.evaluate(f"e => parseFloat(e.style.{edge})")) for edge in ("left", "top"))
    assert left <= 80 < left + 12.5
    assert top <= 20 < top + 12.5
    page.fill("#place textarea, #place input", "0.5,0.5")  # the same by keyboard
    page.press("#place textarea, #place input", "Enter")
    page.wait_for_function("document.querySelector('#view0 .query').style.left.startsWith('50')")
    settle(page)
    assert pictures(page, 0, "attention") == before


def test_checkpoints_are_switched_and_compared(page: Page, served: Served) -> None:
    drop(page, served.root / "dog.jpg")
    assert "resnet18-maxp-1222" in page.inner_text("#view1 article")
    choose(page, "#network1", served.names[2])
    expect(page.locator("#view1 article")).to_contain_text("ssd:resnet18-lip-1222")
    expect(page.locator("#view1 h2")).to_contain_text("with a score of 0.5 or more")
    choose(page, "#network0", served.names[1])
    expect(page.locator("#view0 article")).to_contain_text("resnet18-maxp-1222")
    choose(page, "#network1", "none")
    expect(page.locator("#view1 article")).to_have_count(0)


def test_class_activation_of_a_chosen_class_and_method(page: Page, served: Served) -> None:
    drop(page, served.root / "cat.png")
    choose(page, "#target", "dog")
    expect(page.locator("#view0 figure", has_text="Grad-CAM")).to_contain_text("dog,")
    choose(page, "#method", "layercam")
    expect(page.locator("#view0 figure", has_text="Layer-CAM")).to_have_count(1)
    choose(page, "#method", "none")
    expect(page.locator("#view0 h3", has_text="Class activation")).to_have_count(0)


def test_what_is_no_image_is_refused_in_words_and_the_page_goes_on(page: Page, served: Served) -> None:
    broken, postscript = served.root / "broken.png", served.root / "postscript.png"
    broken.write_text("not an image")
    Image.new("RGB", (8, 8)).save(served.root / "page.eps")
    postscript.write_bytes((served.root / "page.eps").read_bytes())  # Pillow would run Ghostscript for it
    for file in (broken, postscript):
        page.set_input_files("#upload input[type=file]", file)
        for side in (0, 1):
            said = page.locator(f"#view{side} [role=alert]")
            expect(said).to_contain_text("the file has to be an image of the kinds JPEG", timeout=PATIENCE)
        page.click("#upload [aria-label=Clear]")
    drop(page, served.root / "cat.png")
    expect(page.locator("[role=alert]")).to_have_count(0)
    page.fill("#place textarea, #place input", "2,<i>0</i>")
    page.press("#place textarea, #place input", "Enter")
    said = page.locator("#view0 [role=alert]")
    expect(said).to_contain_text("query has to be x,y as parts of the image", timeout=PATIENCE)
    expect(said).to_contain_text("2,<i>0</i>")  # as text


def test_a_burst_of_changes_ends_with_the_last_and_then_nothing_more_is_asked(page: Page, served: Served) -> None:
    """Also after a mistake in the middle; two calls on one event asked for each other without end."""
    (served.root / "empty.png").write_text("not an image")
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url) if "queue/join" in request.url else None)
    for name in ("cat.png", "empty.png", "dog.jpg", "empty.png", "cat.png"):
        page.set_input_files("#upload input[type=file]", served.root / name)
        page.wait_for_timeout(150)
        page.click("#upload [aria-label=Clear]")
        page.fill("#place textarea, #place input", "0.1,0.9")
        page.press("#place textarea, #place input", "Enter")
    drop(page, served.root / "dog.jpg")
    choose(page, "#method", "none")
    for side in (0, 1):
        expect(page.locator(f"#view{side} h3", has_text="Class activation")).to_have_count(0)
        foretold = attnpool.predict(served.names[side], [str(served.root / "dog.jpg")])
        ((name, probability), *_) = foretold.images[next(iter(foretold.images))]
        expect(page.locator(f"#view{side} h2")).to_have_text(f"{name}, {probability:.1%}")
        expect(page.locator(f"#view{side} .query").first).to_have_attribute("style", re.compile("left: 10.00%"))
    settle(page)
    before = len(asked)
    page.wait_for_timeout(2_000)
    assert len(asked) == before


def test_large_files_and_images_are_refused(browser: Browser, served: Served) -> None:
    large = served.root / "large.bmp"
    Image.new("RGB", (400, 300)).save(large)  # 360 kB
    vast = served.root / "vast.png"
    Image.new("1", (8000, 8000)).save(vast)  # 8 kB, 192 MB unpacked
    opened = browser.new_page()
    for file, words in ((large, "File(s) exceed the maximum allowed size"), (vast, "50,000,000 pixels at most")):
        opened.goto(served.url)
        opened.wait_for_selector("#upload input[type=file]", state="attached")
        opened.set_input_files("#upload input[type=file]", file)
        expect(opened.get_by_text(words).first).to_be_visible(timeout=PATIENCE)
        assert opened.locator("article").count() == 0
    opened.close()


def test_only_this_machine_is_listened_to_and_nothing_is_left(served: Served, tmp_path: Path) -> None:
    listening = {c.laddr.ip for c in psutil.Process(served.process.pid).net_connections() if c.status == "LISTEN"}
    assert listening == {"127.0.0.1"}
    process = start(tmp_path, served.names[0])
    said = wait_for(tmp_path)
    assert ":78" in said or ":79" in said, said  # the first free port from 7860
    assert [path.name[:13] for path in (tmp_path / "temp").iterdir()] == ["attnpool-app-"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    for folder in ("home", "temp", "cwd"):
        assert [*(tmp_path / folder).rglob("*")] == []
    for folder in ("home", "cwd"):  # of the one that all the other tests used
        assert [*(served.root / folder).rglob("*")] == []


def test_ctrl_c_ends_it(served: Served, tmp_path: Path) -> None:
    process = start(tmp_path, served.names[0], "--port", str(free_port()))
    said = wait_for(tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert (tmp_path / "said.txt").read_text() == said + "attnpool: stopped\n"
    assert [*(tmp_path / "temp").iterdir()] == []


def test_mistakes_are_one_line(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, taken = served.names[0], served.url.rstrip("/").rpartition(":")[2]
    for words, said in (
        ([checkpoint, "--port", "70000"], "port has to be from 1 to 65535, but got 70000"),
        ([checkpoint, "--port", taken], f"port has to be free, but {taken} is taken"),
        ([checkpoint, "--host", "192.0.2.1"], "host has to be an address of this machine"),
        ([checkpoint, "--max-upload", "big"], "max_upload has to be a positive number"),
        ([checkpoint + "x"], "attentivex"),
    ):
        assert main(["app", *words]) == 2
        message = capsys.readouterr().err
        assert said in message
        assert message.count("\n") == 1
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "attnpool.jobs._app_page", raising=False)
    assert main(["app", checkpoint]) == 2
    assert "pip install attnpool[app]" in capsys.readouterr().err
