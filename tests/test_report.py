"""The report: statistics against references, mistakes in one line, and the page in a real browser."""

import csv
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from playwright.sync_api import Browser, Page
from scipy import stats

import attnpool
from attnpool.cli import main
from attnpool.jobs._statistics import Estimate, estimate, front, paired
from attnpool.verbs import VERBS

RESULTS = Path(__file__).parent / "report" / "results.jsonl"
ROWS = [json.loads(line) for line in RESULTS.read_text().splitlines()]
FINISHED = [row for row in ROWS if row["status"] == "finished"]
NAMES = list(dict.fromkeys(row["name"] for row in FINISHED))
DETECTORS = [json.loads(line) for line in (RESULTS.parent / "detectors.jsonl").read_text().splitlines()]
Opener = Callable[..., Page]


def of(name: str, key: str) -> dict[int, float]:
    """A number of a configuration, by seed."""
    return {row["seed"]: row[key] for row in FINISHED if row["name"] == name}


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


# ---- statistics


def test_the_interval_is_students() -> None:
    found = estimate([1.0, 2.0, 3.0, 4.0])  # by hand: s = sqrt(5/3), t(0.975, 3) = 3.182446
    assert (found.mean, found.n) == (2.5, 4)
    assert found.half == pytest.approx(3.182446 * (5 / 3) ** 0.5 / 2, rel=1e-6)
    values = list(of("max pooling", "test_accuracy").values())
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = estimate(values)
    assert found.half is not None
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))


def test_one_seed_has_no_interval_and_none_is_an_error() -> None:
    assert estimate([0.5]) == Estimate(0.5, None, 1)
    assert not estimate([0.5]).excludes_zero
    with pytest.raises(ValueError, match="values has to hold at least one number"):
        estimate([])


def test_differences_are_paired_by_seed() -> None:
    these, those = of("max pooling", "test_accuracy"), of("self-attentive", "test_accuracy")
    found = paired(these, those)
    low, high = stats.ttest_rel(list(these.values()), list(those.values())).confidence_interval(0.95)
    assert found is not None
    assert found.half is not None
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))
    assert found.excludes_zero == (low > 0 or high < 0)
    some = paired({0: 1.0, 1: 5.0, 9: 100.0}, {1: 4.0, 0: 0.5, 7: -100.0})
    assert some == estimate([0.5, 1.0])
    assert paired({0: 1.0}, {1: 2.0}) is None


numbers = st.integers(0, 6).map(float)


@given(st.lists(st.tuples(st.none() | numbers, numbers), max_size=12), st.booleans())
def test_the_front_is_what_nothing_beats(points: list[tuple[float | None, float]], higher: bool) -> None:
    def beats(one: tuple[float | None, float], other: tuple[float | None, float]) -> bool:
        if one[0] is None or other[0] is None:
            return False
        no_worse = one[1] >= other[1] if higher else one[1] <= other[1]
        return one[0] <= other[0] and no_worse and one != other

    found = front([x for x, _ in points], [y for _, y in points], higher_is_better=higher)
    wanted = [i for i, p in enumerate(points) if p[0] is not None and not any(beats(other, p) for other in points)]
    assert sorted(found) == wanted
    assert all((points[a][0] or 0) <= (points[b][0] or 0) for a, b in pairwise(found))


# ---- files


def test_summary_and_pictures(tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    words = [str(RESULTS.parent), "-o", str(page), "--figures", str(tmp_path / "figures"), "--baseline", "max pooling"]
    assert main(["report", *words]) == 0
    with (tmp_path / "figures" / "summary.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == NAMES
    skip = rows[NAMES.index("strided convolution")]
    assert float(skip["test_accuracy"]) == pytest.approx(fmean(of("strided convolution", "test_accuracy").values()))
    theirs = (
        list(of("strided convolution", "test_accuracy").values()),
        list(of("max pooling", "test_accuracy").values()),
    )
    low, high = stats.ttest_rel(*theirs).confidence_interval(0.95)
    assert (float(skip["difference_low"]), float(skip["difference_high"])) == pytest.approx((low, high))
    assert skip["excludes_0"] == str(low > 0 or high < 0)
    single = rows[NAMES.index("average, at half width")]
    assert (single["seeds"], single["test_accuracy_low"], single["pairs"], single["difference_low"]) == (
        "1",
        "",
        "1",
        "",
    )
    for name in ("accuracy_memory.png", "learning_curves.png"):
        assert len(set(Image.open(tmp_path / "figures" / name).convert("RGB").getdata())) > 50
    assert page.stat().st_size > 1e6
    assert sorted(file.name for file in tmp_path.iterdir()) == ["figures", "r.html"]


def test_detectors_are_a_data_set_of_their_test_images_and_have_their_own_columns(tmp_path: Path) -> None:
    settings = {**DETECTORS[0]["settings"], "test_data": "coco:other:other.json"}
    other = {**DETECTORS[0], "trial": "0" * 12, "settings": settings}
    places = [str(RESULTS), write(tmp_path / "d.jsonl", [*DETECTORS, other])]
    result = attnpool.report(places, output=str(tmp_path / "r.html"), figures=str(tmp_path / "figures"))
    images, here, there = result.results.data
    assert here.name.endswith(f"test_data {DETECTORS[0]['settings']['test_data']})")
    assert there.name.endswith("test_data coco:other:other.json)")
    assert [len(c.trials) for c in (*here.configurations, *there.configurations)] == [2, 2, 1]
    with (tmp_path / "figures" / "summary.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    wanted = fmean(row["test_ap50"] for row in DETECTORS if row["name"] == "skip")
    assert float(rows[len(images.names)]["test_ap50"]) == pytest.approx(wanted)
    assert [row["test_ap50"] for row in rows[: len(images.names)]] == [""] * len(images.names)
    assert rows[-1]["test_accuracy"] == ""


def test_of_the_same_trial_twice_the_last_row_counts(tmp_path: Path) -> None:
    failed = {**FINISHED[0], "status": "failed", "error": "out of memory"}
    again = write(tmp_path / "again.jsonl", [failed, FINISHED[0], {**FINISHED[1], "test_accuracy": 0.5}])
    result = attnpool.report([str(RESULTS), again], output=str(tmp_path / "r.html"))
    (data,) = result.results.data
    assert [row["error"] for row in result.results.failed] == [
        row["error"] for row in ROWS if row["status"] == "failed"
    ]
    accuracy = {seed: row["test_accuracy"] for seed, row in data.configurations[0].trials.items()}
    assert accuracy == {**of(NAMES[0], "test_accuracy"), FINISHED[1]["seed"]: 0.5}


def test_equal_names_of_other_settings_say_what_differs(tmp_path: Path) -> None:
    other = {**FINISHED[0], "trial": "0" * 12, "settings": {**FINISHED[0]["settings"], "lr": 0.5}}
    result = attnpool.report([write(tmp_path / "r.jsonl", [FINISHED[0], other])], output=str(tmp_path / "r.html"))
    assert result.results.data[0].names == ["strided convolution (lr=0.05)", "strided convolution (lr=0.5)"]


def test_a_configuration_is_its_settings_whatever_its_name(tmp_path: Path) -> None:
    """`compare` names a configuration by what tells it from the others of its grid: in another folder, otherwise."""
    own = [row for row in FINISHED if row["name"] == NAMES[0]]
    files = [
        write(tmp_path / "a.jsonl", own[:2]),
        write(tmp_path / "b.jsonl", [{**row, "name": "elsewhere"} for row in own[2:]]),
    ]
    (data,) = attnpool.report(files, output=str(tmp_path / "r.html")).results.data
    assert [(c.name, len(c.trials)) for c in data.configurations] == [("elsewhere", 3)]


def test_output_answers_to_o_in_every_verb_that_has_it(capsys: Any) -> None:
    verbs = [name for name, verb in VERBS.items() if "output" in inspect.signature(verb.function).parameters]
    assert {"train", "evaluate", "fit", "report"} <= set(verbs)
    for verb in verbs:
        with pytest.raises(SystemExit):
            main([*verb.split(), "--help"])
        assert "-o OUTPUT, --output OUTPUT" in capsys.readouterr().out or verb in (
            "convert",
            "data scenes",
        )  # a word of its own there


NO_RESULT = [row for row in ROWS if row["status"] == "failed"]
WITHOUT = {key: value for key, value in FINISHED[0].items() if key != "memory"}
BAD = {
    "no JSON": ("{half", [], "bad.jsonl:1 has to be a JSON object, but got '{half'"),
    "no object": ("[1]", [], "bad.jsonl:1 has to be a JSON object"),
    "nothing": ("", [], "has to hold a finished trial, but got none in"),
    "only failed": (json.dumps(NO_RESULT[0]), [], "got as far as 1 that failed"),
    "no memory": (json.dumps(WITHOUT), [], "bad.jsonl:1: memory has to be an object with int8 and float32"),
    "not a number": (json.dumps({**FINISHED[0], "params": None}), [], "bad.jsonl:1: params has to be a finite number"),
    "NaN": (
        json.dumps({**FINISHED[0], "test_loss": float("nan")}),
        [],
        "test_loss has to be a finite number, but got nan",
    ),
    "too few": (json.dumps({**FINISHED[0], "per_class": [1.0]}), [], "per_class has to have 10 numbers"),
    "status": (json.dumps({**FINISHED[0], "status": []}), [], "status has to be 'finished' or 'failed', but got []"),
    "history": (json.dumps({**FINISHED[0], "history": [{"epoch": 1}]}), [], "history: val_accuracy has to be"),
    "no AP": (json.dumps({**DETECTORS[0], "test_ap": None}), [], "bad.jsonl:1: test_ap has to be a finite number"),
    "no name for AP": (json.dumps({**DETECTORS[0], "per_class": ["x"]}), [], "per_class has to be a list of numbers"),
    "curve of AP": (json.dumps({**DETECTORS[0], "history": [{"epoch": 1}]}), [], "history: val_ap has to be a finite"),
    "second line": (json.dumps(FINISHED[0]) + "\n\n7", [], "bad.jsonl:3 has to be a JSON object, but got '7'"),
    "baseline": (json.dumps(FINISHED[0]), ["--baseline", "strided convolutoin"], "did you mean 'strided convolution'?"),
    "folder": (json.dumps(FINISHED[0]), ["-o", "nowhere/r.html"], "output has to be a file in a folder that exists"),
    "no folder": (
        json.dumps(FINISHED[0]),
        ["-o", "/dev/null/r.html"],
        "output has to be a file in a folder that exists",
    ),
    "itself": (json.dumps(FINISHED[0]), ["-o", "bad.jsonl", "--overwrite"], "output has to be another file"),
    "figures": (json.dumps(FINISHED[0]), ["--figures", "bad.jsonl"], "figures has to be a folder"),
}


@pytest.mark.parametrize(("text", "words", "says"), BAD.values(), ids=BAD)
def test_a_mistake_is_one_line_and_writes_nothing(
    text: str, words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.jsonl").write_text(text)
    assert main(["report", "bad.jsonl", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert [file.name for file in tmp_path.iterdir()] == ["bad.jsonl"]
    assert Path("bad.jsonl").read_text() == text


def test_missing_files_what_exists_and_missing_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", "nowhere.jsonl"]) == 2
    assert "nowhere.jsonl does not exist" in capsys.readouterr().err
    Path("report.html").write_text("mine")
    assert main(["report", str(RESULTS)]) == 2
    assert "report.html exists; or say --overwrite" in capsys.readouterr().err
    assert Path("report.html").read_text() == "mine"
    monkeypatch.setitem(sys.modules, "plotly", None)
    assert main(["report", str(RESULTS), "--overwrite"]) == 2
    assert "the report needs plotly: pip install attnpool[report]" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["report", str(RESULTS), "-o", str(tmp_path / "report.html"), "--overwrite"]) == 0


# ---- the page


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Opener]:
    """Opens a page as a file; at the end nothing may have gone wrong in it or been asked of a network."""
    contexts, wrong, asked = [], list[str](), list[str]()

    def opened(file: Path, width: int = 1100, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector("#curves .scatterlayer .trace", state="attached")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []
    assert all(url.startswith("file://") for url in asked)
    assert len(asked) == len(contexts)


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "r.html"
    attnpool.report([str(RESULTS)], output=str(file))
    return file


def column(page: Page, key: str) -> list[str]:
    """The texts of a column of the table."""
    place = page.eval_on_selector_all("#table thead button", "all => all.map(b => b.dataset.sort)").index(key)
    cells = page.locator(f"#table tbody tr > :nth-child({place + 1})")
    return [" ".join(text.split()) for text in cells.all_inner_texts()]


def test_the_summary_in_words(open_page: Opener, report_file: Path) -> None:
    page = open_page(report_file)
    text = page.inner_text(".summary")
    assert text.startswith("5 configurations (4 with 3 seeds, 1 with 1 seed) on fashion_mnist; 1 trial failed.")
    values = of("max pooling", "test_accuracy").values()
    half = stats.sem(list(values)) * stats.t.ppf(0.975, 2)
    assert f"max pooling ({100 * fmean(values):.2f} ± {100 * half:.2f} % in" in text
    failure = next(row for row in ROWS if row["status"] == "failed")
    assert failure["error"] in page.inner_text("section[aria-labelledby=failed]")
    about = page.inner_text("section[aria-labelledby=environment-title]")
    assert all(
        part in about for part in (FINISHED[0]["commit"], FINISHED[0]["device"], FINISHED[0]["versions"]["torch"])
    )


def test_sorting_by_mouse_and_keyboard(open_page: Opener, report_file: Path) -> None:
    page = open_page(report_file)
    peak = {name: next(row for row in FINISHED if row["name"] == name)["memory"]["int8"]["peak"] for name in NAMES}
    cheapest = sorted(NAMES, key=peak.__getitem__)
    page.click("[data-sort=int8_peak]")
    assert column(page, "name") == cheapest
    assert page.get_attribute("th:has([data-sort=int8_peak])", "aria-sort") == "ascending"
    page.keyboard.press("Enter")  # the button keeps the focus
    assert column(page, "name") == cheapest[::-1]
    assert page.get_attribute("th:has([data-sort=int8_peak])", "aria-sort") == "descending"
    assert page.locator("[aria-sort]").count() == 1
    page.focus("[data-sort=name]")
    page.keyboard.press("Space")
    assert column(page, "name") == sorted(NAMES, key=str.lower)
    page.select_option("#dtype", "float32")
    assert column(page, "float32_peak")[-1] == f"{4 * peak[sorted(NAMES, key=str.lower)[-1]] / 1000:,.1f}"


def test_axes_change_the_chart_and_its_front(open_page: Opener, report_file: Path) -> None:
    page = open_page(report_file)
    chart = "document.getElementById('scatter')"
    assert page.evaluate(f"{chart}.layout.xaxis.type") == "log"  # 3 to 280 kB
    for x, y, better in (("params", "test_loss", min), ("seconds", "val_accuracy", max)):
        page.select_option("#x", x)
        page.select_option("#y", y)
        points = {name: (fmean(of(name, x).values()), fmean(of(name, y).values())) for name in NAMES}
        nearer = {n: [p for p in points.values() if p[0] <= points[n][0]] for n in NAMES}
        wanted = [n for n in NAMES if points[n][1] == better(p[1] for p in nearer[n])]
        found = page.evaluate(f"{chart}.data[0].y.length")
        assert found == len(wanted)
        named = page.inner_text("#front").split(": ", 1)[1].split(". The dotted")[0]
        assert sorted(named.split(", ")) == sorted(", ".join(wanted).split(", "))
        assert y.split("_")[1] in page.evaluate(f"{chart}.layout.yaxis.title.text")
        drawn = page.evaluate(f"{chart}.data.slice(1).map(trace => trace.y[0])")
        scale = 1 if y == "test_loss" else 100
        assert drawn == pytest.approx([scale * points[n][1] for n in NAMES], abs=1e-4)
    page.uncheck("#log")
    assert page.evaluate(f"{chart}.layout.xaxis.type") == "linear"


def test_hovering_shows_the_numbers(open_page: Opener, report_file: Path) -> None:
    page = open_page(report_file)
    name = "self-attentive"
    page.locator("#scatter .scatterlayer .points path").nth(NAMES.index(name)).hover(force=True)
    page.wait_for_selector("#scatter .hovertext")
    text = page.evaluate(
        "[...document.querySelectorAll('#scatter .hovertext tspan')].map(t => t.textContent).join('\\n')"
    )
    row = next(row for row in FINISHED if row["name"] == name)
    values = list(of(name, "test_accuracy").values())
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    assert f"test accuracy: {100 * fmean(values):.2f} ± {100 * half:.2f} %" in text
    for dtype in ("int8", "float32"):
        for convention, value in row["memory"][dtype].items():
            assert f"memory, {convention.replace('in_out', 'in+out')}, {dtype}: {value / 1000:,.1f} kB" in text
    latency = fmean(row["latency"]["median_ms"] for row in FINISHED if row["name"] == name)
    for line in (f"parameters: {row['params']:,}", f"latency: {latency:.2f} ms", "seeds: 0, 1, 2", name):
        assert line in text


def test_the_baseline_decides_the_differences(open_page: Opener, report_file: Path) -> None:
    page = open_page(report_file)
    for base in ("SoftPool", "self-attentive"):
        page.select_option("#baseline", label=base)
        texts = dict(zip(column(page, "name"), column(page, "difference"), strict=True))
        assert texts[base] == "the baseline"
        assert texts["average, at half width"].endswith("1 pair: no interval")
        theirs = list(of("max pooling", "test_accuracy").values()), list(of(base, "test_accuracy").values())
        low, high = stats.ttest_rel(*theirs).confidence_interval(0.95)
        sure = low > 0 or high < 0
        said = f"{50 * (low + high):+.2f} ± {50 * (high - low):.2f} 3 pairs, {'excludes' if sure else 'holds'} 0"
        assert texts["max pooling"].removeprefix("▲ ") == said
        assert texts["max pooling"].startswith("▲") == sure
        page.select_option("#chosen", label="max pooling")
        own, other = ([row["per_class"] for row in FINISHED if row["name"] == n] for n in ("max pooling", base))
        wanted = [100 * (fmean(a) - fmean(b)) for a, b in zip(zip(*own), zip(*other))]  # noqa: B905
        assert page.evaluate("document.getElementById('classes').data[0].x") == pytest.approx(wanted, abs=1e-4)
        assert f"max pooling minus the baseline, {base}" in page.inner_text("#classes-note")


def test_learning_curves_and_their_buttons(open_page: Opener, report_file: Path) -> None:
    page = open_page(report_file)
    page.select_option("#curve", "val_loss")
    shown = "document.getElementById('curves').data.filter(t => t.name !== 'band').map(t => [t.name, t.y])"
    curves = dict(page.evaluate(shown))
    histories = [row["history"] for row in FINISHED if row["name"] == "SoftPool"]
    wanted = [fmean(history[epoch]["val_loss"] for history in histories) for epoch in range(3)]
    assert curves["SoftPool"] == pytest.approx(wanted, abs=1e-6)
    assert len(curves) == 5
    page.focus("#toggles button:has-text('SoftPool')")
    page.keyboard.press("Enter")
    assert "SoftPool" not in dict(page.evaluate(shown))
    assert page.get_attribute("#toggles button:focus", "aria-pressed") == "false"


def test_everything_is_reached_by_keyboard_and_shows_it(open_page: Opener, report_file: Path) -> None:
    page = open_page(report_file)
    reached, outlines = [], []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.dataset.sort || ''"))
        outlines.append(page.evaluate("getComputedStyle(document.activeElement).outlineStyle"))
    heads = page.eval_on_selector_all("#table thead button", "all => all.map(b => b.dataset.sort)")
    assert {"x", "y", "log", "baseline", "dtype", "chosen", "curve", *heads} <= set(reached)
    assert "none" not in [outline for name, outline in zip(reached, outlines, strict=True) if name]
    unlabelled = "all => all.filter(e => !e.labels.length).length"
    assert page.eval_on_selector_all("select, input", unlabelled) == 0


def test_a_phone_a_dark_room_and_paper(open_page: Opener, report_file: Path) -> None:
    phone = open_page(report_file, width=360)
    assert phone.evaluate("document.documentElement.scrollWidth") == 360
    assert phone.eval_on_selector(".scroll:has(#table)", "e => e.scrollWidth > e.clientWidth")
    page = open_page(report_file)
    assert inks(page) == [LIGHT_INK, LIGHT_INK]
    page.emulate_media(color_scheme="dark")
    settle(page)
    assert inks(page) == [DARK_INK, DARK_INK]
    page.emulate_media(media="print", color_scheme="dark")
    settle(page)
    assert inks(page) == [LIGHT_INK, LIGHT_INK]
    assert page.locator(".controls:visible").count() == 0
    assert page.evaluate("document.querySelector('#scatter .main-svg').getBoundingClientRect().width") == 660
    page.emulate_media(media="screen", color_scheme="light")
    settle(page)
    assert inks(page) == [LIGHT_INK, LIGHT_INK]
    assert page.locator(".controls:visible").count() == 4
    page.emulate_media(media="null")  # as a reader prints
    printed = page.pdf(prefer_css_page_size=True)
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) <= 5


LIGHT_INK, DARK_INK = "rgb(29, 35, 40)", "rgb(231, 234, 236)"


def settle(page: Page) -> None:
    """Until two frames are drawn, before the first of which the page is told of the change."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def inks(page: Page) -> list[str]:
    """Colours of the text of the page and of a chart."""
    of = "selector => getComputedStyle(document.querySelector(selector))"
    return [page.evaluate(f"({of})('body').color"), page.evaluate(f"({of})('#scatter .xtitle').fill")]


HOSTILE = "</script><script>window.bad = 1</script><img src=x onerror='window.bad = 1'>&lt;b&gt;${window.bad = 1}"


def test_hostile_names_are_text(open_page: Opener, tmp_path: Path) -> None:
    classes = [HOSTILE, "<!--", "{{ 7 * 7 }}", "<a href='javascript:window.bad = 1'>x</a>", *FINISHED[0]["classes"][4:]]
    changed = {"classes": classes, "data": f"folder:{HOSTILE}", "device": HOSTILE, "commit": None}
    names = {name: name for name in NAMES} | {NAMES[0]: HOSTILE, NAMES[1]: "<b>bold</b> $x^2$ %{y}"}
    rows = [{**row, **changed, "name": names[row["name"]]} for row in FINISHED]
    rows.append({**NO_RESULT[0], "name": HOSTILE, "error": HOSTILE})
    file = tmp_path / "r.html"
    result = attnpool.report([write(tmp_path / "r.jsonl", rows)], output=str(file), title=HOSTILE, baseline=HOSTILE)
    assert result.baselines == (HOSTILE,)
    page = open_page(file, width=360)
    assert page.title() == HOSTILE
    assert page.inner_text("h1") == HOSTILE
    assert sorted(column(page, "name")) == sorted(names.values())
    widths = page.eval_on_selector_all("#classes .points path", "all => all.map(p => p.getBoundingClientRect().width)")
    page.locator("#classes .points path").nth(widths.index(max(widths))).hover(force=True)
    page.wait_for_selector("#classes .hovertext")
    ticks = page.eval_on_selector_all("#classes .ytick text", "all => all.map(t => t.textContent)")
    assert ticks[1:3] == ["<!--", "{{ 7 * 7 }}"]
    page.locator("#scatter .scatterlayer .points path").nth(1).hover(force=True)
    page.wait_for_selector("#scatter .hovertext")
    assert "<b>bold</b> $x^2$ %{y}" in page.eval_on_selector(
        "#scatter .hovertext text.nums, #scatter .hovertext text", "t => t.textContent"
    )
    assert page.evaluate("window.bad") is None
    assert page.locator("main img, main a[href^=javascript]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_several_data_sets_and_a_lone_configuration(open_page: Opener, tmp_path: Path) -> None:
    other = [{**row, "data": "npz:other", "latency": None} for row in FINISHED[:3]]
    file = tmp_path / "r.html"
    result = attnpool.report(
        [str(RESULTS), write(tmp_path / "o.jsonl", other)], output=str(file), baseline="max pooling"
    )
    assert result.baselines == ("max pooling", NAMES[0])
    page = open_page(file)
    assert page.locator(".summary").count() == 2
    page.select_option("#data", label="npz:other")
    assert column(page, "name") == [NAMES[0]]
    assert column(page, "latency") == ["\N{EN DASH}"]
    assert "no other configuration" in page.inner_text("#classes-note")
    page.check("#log")
    page.select_option("#x", "latency")
    assert "not measured" in page.inner_text("#front")
    page.select_option("#data", label="fashion_mnist")
    assert len(column(page, "name")) == 5
    assert page.input_value("#baseline") == str(NAMES.index("max pooling"))


def test_networks_and_detectors_on_one_page(open_page: Opener, tmp_path: Path) -> None:
    rows = [{**row, "per_class": [row["per_class"][0], None, *row["per_class"][2:]]} for row in DETECTORS]
    data = rows[0]["data"]
    file = tmp_path / "r.html"
    attnpool.report([str(RESULTS), write(tmp_path / "d.jsonl", rows)], output=str(file))
    page = open_page(file)
    assert page.inner_text("h1") == f"Accuracy, AP and memory on fashion_mnist, {data}"
    assert page.inner_text("#scatter-title") == "Accuracy against cost"
    page.select_option("#data", label=data)
    assert page.inner_text("#scatter-title") == "AP against cost"
    assert page.input_value("#y") == "test_ap"
    assert page.eval_on_selector_all("#curve option", "all => all.map(o => o.value)") == [
        "val_ap",
        "val_ap50",
        "train_loss",
    ]
    names = column(page, "name")
    of_each = {n: [100 * row["test_ap"] for row in rows if row["name"] == n] for n in names}
    assert len(names) == 2
    assert names == sorted(of_each, key=lambda n: -fmean(of_each[n]))
    skip, other = (of_each[n] for n in ("skip", "nlp_headfix2"))
    half = stats.sem(skip) * stats.t.ppf(0.975, 1)
    assert column(page, "test_ap")[names.index("skip")] == f"{fmean(skip):.2f} ± {half:.2f}"
    low, high = stats.ttest_rel(other, skip).confidence_interval(0.95)
    said = f"{(low + high) / 2:+.2f} ± {(high - low) / 2:.2f} 2 pairs, {'excludes' if low * high > 0 else 'holds'} 0"
    assert column(page, "difference")[names.index("nlp_headfix2")].lstrip("▲▼ ") == said
    assert column(page, "test_ap_large") == ["\N{EN DASH}"] * 2  # none on images of 64 pixels
    assert "Differences in test AP are to skip" in page.inner_text("#table-note")
    assert page.eval_on_selector_all("#classes .ytick text", "all => all.map(t => t.textContent)") == [
        name for name in rows[0]["classes"] if name != rows[0]["classes"][1]
    ]
    assert "difference in AP, points" in page.inner_text("#classes")
    assert "Not in the test data, and left out: 1." in page.inner_text("#classes-note")
    page.locator("#scatter .scatterlayer .points path").first.hover(force=True)
    page.wait_for_selector("#scatter .hovertext")
    text = page.eval_on_selector("#scatter .hovertext", "t => t.textContent")
    assert "test AP50: " in text
    assert "test AP, large: not measured" in text
    page.click("[data-sort=test_ap75]")
    page.select_option("#y", "test_ap_large")
    assert "none, as it was not measured" in page.inner_text("#front")
    assert "average precision" in page.inner_text("section[aria-labelledby=reading-title]")
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))) <= 5
    page.select_option("#data", label="fashion_mnist")
    assert page.input_value("#y") == "test_accuracy"
    assert page.get_attribute("th:has([data-sort=test_accuracy])", "aria-sort") == "descending"
    assert len(column(page, "test_loss")) == 5
