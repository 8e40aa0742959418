"""The search under a budget: exact to the byte, resumed after a kill, and honest about what does not fit."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import accumulate
from math import prod
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attnpool
from attnpool.accounting import compute
from attnpool.accounting.budget import BYTES, NUMBERS, Budget, BudgetError, parse_amount, parse_sides
from attnpool.accounting.search import Candidate, Space, early_strides, evaluate, own_strides, pareto
from attnpool.jobs.fit import FitResult, _train, confirm, fit
from attnpool.models.stages import BACKBONES
from attnpool.registry import POOLS
from attnpool.spec import ModelSpec, parse

aten = torch.ops.aten
SMALL: dict[str, Any] = {
    "ram": "64kB",
    "flash": "600kB",
    "runtime": "any",
    "input": "64,96",
    "backbones": ("mobilenet",),
    "widths": (0.25, 0.5),
    "methods": ("skip", "nlp_headfix2"),
    "strides": ("1222121", "1422111"),
    "patches": (1, 4),
    "query_blocks": (1, 8),
    "progress": False,
}


@pytest.mark.parametrize(
    ("name", "own", "count"),
    [
        ("mobilenet", (1, 2, 2, 2, 1, 2, 1), 42),
        ("mobilenetv1", (1, 2, 2, 2, 2), 30),
        ("resnet18", (1, 2, 2, 2), 12),
        ("mobilenetv3_small", (2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1), 41),
    ],
)
def test_strides_shrink_as_much_and_nowhere_later(name: str, own: tuple[int, ...], count: int) -> None:
    assert own_strides(name) == own
    found = early_strides(own)
    assert own in found
    assert len(found) == len(set(found)) == count
    least = list(accumulate(own, mul))
    for digits in found:
        assert prod(digits) == prod(own)
        assert all(a >= b for a, b in zip(accumulate(digits, mul), least, strict=True))


def space(**changes: Any) -> Space:
    small = {key: SMALL[key] for key in ("backbones", "widths", "methods", "strides", "patches", "query_blocks")}
    return Space(**{**small, "placements": ("before",), "sides": (64, 96), **changes})


def test_a_space_is_all_combinations() -> None:
    networks = space().networks()
    tokens = {str(n.pool) for n in networks}
    assert tokens == {"skip", "nlp_headfix2", "nlp_headfix2_nowin_reduced0421010", "nlp_headfix2_nowin_reduced0411000"}
    assert len(networks) == len(set(networks)) == 2 * 2 * 3  # widths, strides, skip and two patches
    settings = {str(n.pool): space().settings(n) for n in networks}
    assert [s.query_blocks for s in settings["skip"]] == [None, None]
    assert {(s.input_size, s.query_blocks) for s in settings["nlp_headfix2"]} == {
        ((side, side), blocks) for side in (64, 96) for blocks in (1, 8)
    }


def test_every_backbone_can_be_searched() -> None:
    for name in BACKBONES:
        networks = space(backbones=(name,), strides=(), widths=(0.5,), methods=("maxp",)).networks()
        assert networks
        assert {n.width for n in networks} == ({0.5} if BACKBONES[name].scaled else {1.0})


@pytest.mark.parametrize(("backbone", "method"), [*(("resnet18", name) for name in POOLS), ("mobilenet", "nlp")])
def test_costs_are_those_of_profile_to_the_byte(method: str, backbone: str) -> None:
    strides = {"mobilenet": "1412121", "resnet18": "1222"}[backbone]
    searched = space(backbones=(backbone,), methods=(method,), strides=(strides,), widths=(0.35,), sides=(64, 90))
    found = [c for n in searched.networks() for c in evaluate(n, searched.settings(n), 10**9)]
    assert found
    assert not [c for c in found if isinstance(c, str)]
    last: Any = found[-1]
    confirm(last)


@pytest.mark.parametrize("cost", ["peak", "arena", "file", "macs"])
def test_costs_that_profile_does_not_find_are_refused(cost: str) -> None:
    searched = space(methods=("maxp",), strides=("1412121",), widths=(0.25,), sides=(64,))
    (found,) = evaluate(searched.networks()[0], searched.settings(searched.networks()[0]), 10**9)
    assert isinstance(found, Candidate)
    confirm(found)
    with pytest.raises(ValueError, match="search and profile have to agree"):
        confirm(replace(found, **{cost: getattr(found, cost) + 1}))


def test_candidates_come_back_from_json() -> None:
    spec = parse("mobilenet-nlp_headfix2-1222121", width=0.35, input_size=(96, 96), query_blocks=8, placement="before")
    candidate = Candidate(spec, 10, 20, 30, 40, 50)
    assert Candidate.from_dict(json.loads(json.dumps(candidate.to_dict()))) == candidate


def test_the_front_computes_the_most_in_its_memory() -> None:
    spec = parse("resnet18-skip-1222")
    large = parse("resnet18-skip-1222", input_size=(96, 96))

    def costing(memory: int, params: int, macs: int, spec: ModelSpec = spec) -> Candidate:
        return Candidate(spec, memory, 2 * memory, 2 * params, params, macs)

    small, middle, most = costing(10, 20, 10), costing(30, 90, 50), costing(40, 20, 60, large)
    beaten = [costing(11, 90, 10), costing(30, 90, 49), costing(30, 80, 50), costing(41, 90, 60)]
    more_blocks = costing(10, 20, 60, parse("resnet18-nlp-1222", query_blocks=8))
    fewer_blocks = costing(10, 20, 60, parse("resnet18-nlp-1222", query_blocks=1))
    for memory in (Budget(1, 1).memory, Budget(1, 1, runtime="any").memory):
        assert pareto([*beaten, middle, small, most], memory) == [most, middle, small]
        assert pareto([more_blocks, fewer_blocks], memory) == [fewer_blocks]
    keeps_much = replace(small, arena=80)  # at the peak it takes less than any other
    assert pareto([keeps_much, middle], Budget(1, 1).memory) == [middle]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[FitResult, Path]:
    folder = tmp_path_factory.mktemp("fit")
    return fit(**SMALL, output=str(folder)), folder


def test_what_is_found_fits_and_is_written(searched: tuple[FitResult, Path]) -> None:
    result, folder = searched
    assert 0 < len(result.front) <= result.fitting < result.searched
    assert all(c.peak <= 64_000 and c.params <= 600_000 for c in result.front)
    assert result.confirmed >= 1
    said = json.loads((folder / "fit.json").read_text())
    assert [row["peak"] for row in said["front"]] == [c.peak for c in result.front]
    assert said["budget"] == {"ram": 64_000, "flash": 600_000, "macs": None, "runtime": "any"}
    assert said["space"]["backbones"] == ["mobilenet"]
    assert (folder / "front.png").stat().st_size > 10_000
    for row in said["front"]:  # as a reader of the file would build it
        model = attnpool.create_model(row["architecture"], **row["settings"])
        assert sum(p.numel() for p in model.parameters()) == row["params"]


def test_another_budget_goes_on_from_what_is_known(searched: tuple[FitResult, Path]) -> None:
    result, folder = searched
    before = (folder / "candidates.jsonl").read_bytes()
    again = fit(**{**SMALL, "ram": "56kB", "macs": "6M"}, output=str(folder))
    assert again.per_second is None
    assert (folder / "candidates.jsonl").read_bytes() == before
    assert all(c.peak <= 56_000 and c.macs <= 6_000_000 for c in again.front)
    assert again.fitting < result.fitting


def test_a_budget_that_nothing_fits_says_what_would(searched: tuple[FitResult, Path]) -> None:
    _, folder = searched
    with pytest.raises(BudgetError, match=r"ram has to be at least [0-9,]+ B, the peak of mobilenet") as said:
        fit(**{**SMALL, "ram": "9kB"}, output=str(folder))
    least = str(said.value).split("at least ")[1].split(" B")[0].replace(",", "")
    assert fit(**{**SMALL, "ram": least}, output=str(folder)).front[0].peak == int(least)
    with pytest.raises(BudgetError, match="macs has to be at least"):
        fit(**{**SMALL, "macs": "1k"}, output=str(folder))
    with pytest.raises(BudgetError, match="flash has to hold the weights"):
        fit(**{**SMALL, "flash": "1kB"}, output=str(folder))


def test_on_a_micro_controller_what_the_runtime_keeps_counts(searched: tuple[FitResult, Path]) -> None:
    _, folder = searched
    options = {**SMALL, "runtime": "micro", "ram": "128kB"}
    result = fit(**options, output=str(folder))
    assert all(c.peak < c.arena <= 128_000 and c.params < c.file <= 600_000 for c in result.front)
    assert json.loads((folder / "fit.json").read_text())["front"][0]["arena"] == result.front[0].arena
    with pytest.raises(BudgetError, match=r"ram has to be at least [0-9,]+ B, the arena of mobilenet"):
        fit(**{**options, "ram": "9kB"}, output=str(folder))
    with pytest.raises(BudgetError, match="flash has to hold the file of a network, but all in the space take more"):
        fit(**{**options, "flash": "1kB"}, output=str(folder))


def test_a_killed_search_goes_on(searched: tuple[FitResult, Path], tmp_path: Path) -> None:
    whole, _ = searched
    words = [
        sys.executable,
        "-c",
        "import sys; from attnpool.cli import main; sys.exit(main())",
        "fit",
        "--no-progress",
    ]
    for key, value in SMALL.items():
        if key != "progress":
            words += [f"--{key.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
    words += ["--output", str(tmp_path)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file = tmp_path / "candidates.jsonl"
    while not (file.exists() and file.read_text().count("\n") >= 4) and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    known = file.read_text().count("\n")
    assert known < whole.searched + 20
    with file.open("a") as stream:
        stream.write('{"architecture": "mobilenet-sk')  # a line that was cut off
    assert not (tmp_path / "fit.json").exists()
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert "confirmed by profile" in done.stdout
    front = [(c.to_dict()["architecture"], c.peak, c.macs) for c in whole.front]
    said = json.loads((tmp_path / "fit.json").read_text())["front"]
    assert [(row["architecture"], row["peak"], row["macs"]) for row in said] == front


def test_the_best_are_trained_and_ranked(searched: tuple[FitResult, Path], tmp_path: Path) -> None:
    rng, data = np.random.default_rng(0), tmp_path / "data.npz"
    images = rng.integers(0, 255, (48, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(48) % 2
    images[labels == 1] //= 4
    np.savez(data, x_train=images, y_train=labels, x_test=images[:16], y_test=labels[:16])
    options = {**SMALL, "input": "32", "strides": ("1222121",), "flash": "2MB", "train_top": 2, "epochs": 1}
    result = fit(**options, data=f"npz:{data}", output=str(tmp_path / "fit"))
    accuracy = [row["val_accuracy"] for row in result.trained]
    assert len(accuracy) == 2
    assert accuracy == sorted(accuracy, reverse=True)
    for row in result.trained:
        spec: Any = attnpool.load(row["checkpoint"])
        assert spec.spec.num_classes == 2
        assert (
            attnpool.profile(spec, (3, 32, 32), dtype="int8", latency=False, training=False).memory.peak == row["peak"]
        )
    said = json.loads((tmp_path / "fit" / "fit.json").read_text())["trained"]
    assert [row["val_accuracy"] for row in said] == accuracy


@pytest.mark.parametrize(
    ("text", "value"), [("256kB", 256_000), ("256KiB", 262_144), ("1MB", 10**6), ("1.5 MB", 1_500_000), ("77", 77)]
)
def test_amounts(text: str, value: int) -> None:
    assert parse_amount("ram", text, BYTES) == value


def test_budgets_and_sides() -> None:
    assert Budget.parse("1kB", "2kB", "60M") == Budget(1000, 2000, 60_000_000, "micro")
    with pytest.raises(ValueError, match="runtime has to be one of micro, any, but got 'onnx'"):
        Budget.parse("1kB", "2kB", None, "onnx")  # type: ignore[arg-type]
    assert parse_amount("macs", "1.5G", NUMBERS) == 1_500_000_000
    assert parse_sides("96..160") == (96, 128, 160)
    assert parse_sides("96,100") == (96, 100)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ram", "lots"], "ram has to be a positive number with nothing or B, kB"),
        (["--ram", "0kB"], "ram has to be"),
        (["--macs", "5kB"], "macs has to be a positive number with nothing or k, M, G behind it, but got '5kB'"),
        (["--input", "96..32"], "input has to be sides in pixels"),
        (["--backbones", "mobilnet"], "mobilenet"),
        (["--methods", "skp"], "skip"),
        (["--widths", "wide"], "widths"),
        (["--strides", "12"], "strides has to fit a backbone"),
        (["--train-top", "2"], "data has to be given to train on"),
        (["--placements", "behind"], "placement has to be one of before"),
        (["--limit", "0"], "limit has to be positive, but got 0"),
        (["--train-top", "-1"], "train_top has to be at least 0, but got -1"),
        (["--epochs", "0"], "epochs has to be positive, but got 0"),
        (["--patches", "0"], "patches has to be positive numbers, but got (0,)"),
        (["--widths", "-1"], "widths has to be positive"),
        (["--ram", "0.1"], "ram has to be a positive number"),
    ],
)
def test_mistakes_on_the_command_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from attnpool.cli import main

    assert main(["fit", "--no-progress", "--output", str(tmp_path), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="output has to be a new folder or one of fit"):
        fit(**SMALL, output=str(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("change", ['"peak": 5', '"peak": "x"', '"peak": -1'])
def test_candidates_that_were_changed_are_refused(
    change: str, searched: tuple[FitResult, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from attnpool.cli import main

    result, folder = searched
    text = (folder / "candidates.jsonl").read_text().replace(f'"peak": {result.front[0].peak}', change)
    (tmp_path / "candidates.jsonl").write_text(text)
    words = ["fit", "--no-progress", "--output", str(tmp_path)]
    for key, value in SMALL.items():
        if key != "progress":
            words += [f"--{key}", *map(str, value if isinstance(value, tuple) else (value,))]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "candidates.jsonl" in error
    assert error.count("\n") == 1
    assert (tmp_path / "candidates.jsonl").read_text() == text


def test_candidates_of_another_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "candidates.jsonl").write_text('{"schema": "attnpool-candidates-0"}\n')
    with pytest.raises(ValueError, match="another version"):
        fit(**SMALL, output=str(tmp_path))


def test_networks_that_cannot_run_are_told(tmp_path: Path) -> None:
    options = {
        **SMALL,
        "input": "16,128",
        "methods": ("maxp",),
        "strides": ("4441111",),
        "widths": (0.25,),
        "ram": "1MB",
    }
    result = fit(**options, output=str(tmp_path))
    assert result.refused[0] == 1
    assert "too small" in result.refused[1]
    assert {c.side for c in result.front} == {128}
    with pytest.raises(ValueError, match="input has to be images that the networks do not shrink to nothing"):
        fit(**{**options, "input": "16"}, output=str(tmp_path))


def test_an_operation_without_a_formula_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "WITHOUT_PRODUCTS", compute.WITHOUT_PRODUCTS - {aten.max_pool2d_with_indices})
    searched = space(methods=("maxp",))
    with pytest.raises(compute.UncountedError, match="max_pool2d_with_indices"):
        list(evaluate(searched.networks()[0], searched.settings(searched.networks()[0]), 10**9))


def test_another_training_is_another_result(tmp_path: Path) -> None:
    spec = parse("mobilenet-skip-1222121", width=0.25, input_size=(32, 32), num_classes=2)
    rng = np.random.default_rng(0)
    how = {"epochs": 1, "seed": 0, "progress": False}
    found = []
    for name in ("one", "two"):
        images, labels = rng.integers(0, 255, (40, 32, 32, 3), dtype=np.uint8), np.arange(40) % 2
        np.savez(tmp_path / name, x_train=images, y_train=labels, x_test=images[:8], y_test=labels[:8])
        how["data"] = f"npz:{tmp_path / name}.npz"
        found.append(_train(Candidate(spec, 1, 1, 1, 1, 1), tmp_path, **how))
    ended = _train(Candidate(replace(spec, placement="end"), 1, 1, 1, 1, 1), tmp_path, **how)
    assert len({row["checkpoint"] for row in [*found, ended]}) == 3
    assert _train(Candidate(spec, 1, 1, 1, 1, 1), tmp_path, **how) == found[1]
