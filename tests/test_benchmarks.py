"""Figures in the docs come from results in the repository, and the results name every method."""

import json
import sys
from pathlib import Path

from attnpool.registry import POOLS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import methods  # noqa: E402


def test_the_page_of_methods_is_made_of_its_results() -> None:
    results = json.loads(methods.RESULTS.read_text())
    assert methods.PAGE.read_text() == methods.page(results)
    assert [row["method"] for row in results["rows"]] == methods.methods() == list(POOLS)
    assert results["schema"] == "attnpool-methods-1"
    assert {"commit", "torch", "device", "threads"} <= results["environment"].keys()
    assert not results["environment"]["commit"].endswith("+")  # measured on a committed tree
    assert all(len(row["test_accuracy"]) == results["settings"]["seeds"] >= 3 for row in results["rows"])


def test_what_was_measured_is_what_is_there() -> None:
    for row in json.loads(methods.RESULTS.read_text())["rows"]:
        assert row["architecture"] == methods.string(row["method"])
        assert row["params"] == sum(p.numel() for p in methods.network(row["method"]).parameters())


def test_steps_are_timed_for_each_method() -> None:
    times = methods.step_times(["skip", "maxp"], rounds=2)
    assert [len(values) for values in times.values()] == [2, 2]
    assert all(value > 0 for values in times.values() for value in values)
