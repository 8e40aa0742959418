"""Figures in the docs come from results in the repository, and the results name every method."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from attnpool import create_model, profile
from attnpool.registry import POOLS

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "experiments" / "cifar10")]
import accounting  # noqa: E402
import accounting_page  # noqa: E402
import measure  # noqa: E402
import methods  # noqa: E402
import onnx_int8  # noqa: E402
import speed  # noqa: E402
import speed_page  # noqa: E402
import table as cifar10  # noqa: E402
from cases import CASES, WAYS, Case, remembered, work  # noqa: E402
from floors import floor  # noqa: E402


def test_the_page_of_methods_is_made_of_its_results() -> None:
    results = json.loads(methods.RESULTS.read_text())
    measured = methods.table(results, json.loads(methods.COUNTED.read_text()))
    assert methods.PAGE.read_text() == methods.put(methods.PAGE.read_text(), measured)
    assert f"{methods.BEGIN}{measured}{methods.END}" in methods.PAGE.read_text()
    assert [row["method"] for row in results["rows"]] == methods.methods() == list(POOLS)
    assert results["schema"] == "attnpool-methods-1"
    assert {"commit", "torch", "device", "threads"} <= results["environment"].keys()
    assert not results["environment"]["commit"].endswith("+")  # measured on a committed tree
    assert all(len(row["test_accuracy"]) == results["settings"]["seeds"] >= 3 for row in results["rows"])


def test_the_ways_to_int8_on_the_page_are_those_that_were_measured() -> None:
    results = json.loads(onnx_int8.RESULTS.read_text())
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert onnx_int8.table(results["rows"]) in page
    assert f"commit {results['environment']['commit']}." in page


def test_the_page_of_cifar10_is_made_of_its_rows() -> None:
    page = cifar10.PAGE.read_text(encoding="utf-8")
    for name, make in cifar10.SECTIONS.items():
        assert page == cifar10.put(page, name, make())
        assert f"<!-- {name} -->\n| method | seeds |" in page


def test_a_run_strays_by_what_seeds_and_networks_do_not_explain() -> None:
    rows = {("a", 0): 0.1, ("a", 1): 0.3, ("b", 0): 0.2, ("b", 1): 0.5, ("c", 1): 0.9}  # c lacks a seed
    found = cifar10.spread(
        [Alike({seed: rows[name, seed] for seed in (0, 1) if (name, seed) in rows}) for name in "abc"]
    )
    left = 2.5  # points: 10 and 30, 20 and 50, less the means of rows and columns, are -2.5 and 2.5, 2.5 and -2.5
    assert f"these 2 networks strays by {left * 4**0.5:.2f} points (standard deviation; 1 degrees" in found
    assert f"{12.7062 * left * 4**0.5:.2f} points on" in found  # t(0.975, 1) times the error times sqrt(2 / 2)


@dataclass
class Alike:
    """What `spread` needs of a configuration."""

    trials: dict[int, float]

    def values(self, quantity: object) -> dict[int, float]:
        return self.trials


def test_what_was_measured_is_what_is_there() -> None:
    for row in json.loads(methods.RESULTS.read_text())["rows"]:
        assert row["architecture"] == methods.string(row["method"])
        assert row["params"] == sum(p.numel() for p in methods.network(row["method"]).parameters())


def test_steps_are_timed_for_each_method() -> None:
    times = methods.step_times(["skip", "maxp"], rounds=2)
    assert [len(values) for values in times.values()] == [2, 2]
    assert all(value > 0 for values in times.values() for value in values)


TINY = Case("layer", (2, 8, 16, 16), {"infer": 1.0, "train": 1.0}, {"kernel_size": 2, "num_heads": 2})


def test_the_page_of_speed_is_made_of_its_results() -> None:
    results = json.loads(speed.RESULTS.read_text())
    assert speed.PAGE.read_text() == speed_page.page(results)
    assert results["schema"] == "attnpool-speed-1"
    assert not results["environment"]["commit"].endswith("+")
    for row, case in zip(results["cases"], CASES, strict=True):
        assert (row["name"], tuple(row["shape"]), row["bars"]) == (case.name, case.shape, case.bars)
        assert {*WAYS, "reference, step by step"} == row["infer"].keys()
        assert set(WAYS) - {"fused"} == row["train"].keys() == row["megabytes"]["train"].keys()
    bars = speed_page.bars(results)
    assert len(bars) == sum(len(case.bars) for case in CASES) + 2 * len(results["pooling"])
    assert speed.PAGE.read_text().count("**no**") == sum(not bar.holds for bar in bars)  # what was missed is told
    assert {row["side"] for row in results["scaling"]} == set(speed.SIDES)


def test_memory_grows_with_the_pixels_in_the_results() -> None:
    rows = [row for row in json.loads(speed.RESULTS.read_text())["scaling"] if row["way"] == "ours"]
    for row in rows:
        larger = [r for r in rows if (r["patch"], r["mode"]) == (row["patch"], row["mode"]) and r["side"] > row["side"]]
        if row["side"] // row["patch"] >= 32:  # below, the kernel's own memory is most of it
            assert all(r["megabytes"] <= 1.1 * row["megabytes"] * (r["side"] / row["side"]) ** 2 for r in larger)


def test_every_way_is_measured() -> None:
    best = measure.ceilings()
    assert min(best.values()) > 0
    for mode in ("infer", "train"):
        times = measure.alternate({way: work(TINY, way, mode) for way in WAYS}, limit=0, least=2)
        assert all(0 < low <= median <= high for low, median, high in times.values())
    parts = floor(TINY, best)
    assert [part["part"] for part in parts][-1] == "training step"
    ours = 2 * 2 * 256 * (5 * 8 * 8 + 2 * 256 * 8) + 2 * 2 * 256 * 8 * 8  # five products of d x d, attention, restoring
    assert sum(part["gflop"] for part in parts[:-1]) == pytest.approx(ours / 1e9)
    (megabytes,) = measure.in_fresh_processes(remembered, [(TINY, "ours", "train")], workers=1)
    assert 0 < megabytes < 50


def test_the_page_of_memory_is_made_of_its_results() -> None:
    results = json.loads(accounting.RESULTS.read_text())
    assert accounting.PAGE.read_text() == accounting_page.page(results)
    assert results["schema"] == "attnpool-accounting-1"
    assert not results["environment"]["commit"].endswith("+")
    rows = results["methods"]
    cases = {(row["placement"], row["side"], row["strides"]) for row in rows}
    assert len(cases) == len(accounting.PLACEMENTS) * len(accounting.SIDES) * len(accounting.STRIDES)
    assert {row["pool"] for row in rows} >= set(map(accounting.token, POOLS))
    assert len(rows) == len(cases) * (len(POOLS) + 1)
    assert [found["ram"] for found in results["fits"]] == ["96kB", "128kB", "256kB", "512kB"]
    for found in results["fits"]:
        assert found["confirmed"] == min(3, len(found["front"]))
        assert found["front"]


@pytest.mark.parametrize("index", [0, 9, 50, 110, 180, 263])
def test_counted_figures_are_those_of_this_tree(index: int) -> None:
    row = json.loads(accounting.RESULTS.read_text())["methods"][index]
    string, settings = f"mobilenet-{row['pool']}-{row['strides']}", {"placement": row["placement"]}
    found = accounting.costs(string, row["side"], **settings)
    assert found.items() <= row.items()


def test_what_fits_is_what_profile_says() -> None:
    for found in json.loads(accounting.RESULTS.read_text())["fits"]:
        best = found["front"][0]
        model = create_model(best["architecture"], **best["settings"])
        real = profile(model, (3, *best["settings"]["input_size"]), dtype="int8", latency=False, training=False)
        assert real.device is not None
        takes = (real.memory.peak, real.device.total, real.device.file, real.params, real.macs)
        assert takes == tuple(best[name] for name in ("peak", "arena", "file", "params", "macs"))
        assert real.device.total <= int(found["ram"].removesuffix("kB")) * 1000
