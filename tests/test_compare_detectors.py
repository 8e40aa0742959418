"""Comparisons of detectors: the same grid, checks and rows, of `detect train`; and a report of them."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from ray._private.utils import get_num_cpus

import attnpool
from attnpool.cli import main
from attnpool.jobs._grid import expand, labels
from attnpool.jobs._settings import differing, known_names
from attnpool.jobs._task import DETECTION

pytest.importorskip("pycocotools")
Captured = pytest.CaptureFixture[str]
STRING = "ssdlite:mobilenetv3_small-skip-12211111211"
SPLITS = {
    name: f"coco:scenes/images:scenes/{split}.json"
    for name, split in (("data", "train"), ("val_data", "val"), ("test_data", "test"))
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with 24 + 6 + 6 scenes of 64 x 64 pixels and three kinds of things."""
    folder = tmp_path_factory.mktemp("detectors")
    sizes = ["--images", "24", "--val", "6", "--test", "6", "--size", "64", "--classes", "3"]
    assert main(["data", "scenes", str(folder / "scenes"), *sizes]) == 0
    annotations = json.loads((folder / "scenes" / "test.json").read_text())
    (folder / "scenes" / "empty.json").write_text(json.dumps({**annotations, "annotations": []}))
    return folder


def test_a_grid_of_detectors_is_of_the_arguments_of_detect_train() -> None:
    common = {**SPLITS, "architecture": "ssd:{backbone}-{method}-{strides}", "epochs": 2, "image_size": 64}
    grid = {"method": ["skip", "nlp"], "backbone": ["resnet18"], "strides": [1222], "sizes": [[], 96]}
    trials, merged = expand(common, grid, [{"architecture": STRING, "anchors": "fit"}], 2)
    assert (len(trials), merged) == (10, 0)
    assert all(trial.settings.keys() == {*known_names(DETECTION)} for trial in trials)
    assert [trial.settings["sizes"] for trial in trials[:2]] == [[], [96]]  # one value is a list of it
    assert trials[0].settings["image_size"] == [64]
    assert differing(trials[0].settings) == {
        **SPLITS,
        "architecture": "ssd:resnet18-skip-1222",
        "epochs": 2,
        "image_size": [64],
    }
    assert trials[0].folder == f"ssd-resnet18-skip-1222-seed0-{trials[0].id}"


def test_names_are_those_of_a_kind_whatever_else_a_file_holds() -> None:
    detectors = expand({**SPLITS, "architecture": "ssd:resnet18-{method}-1222"}, {"method": ["skip", "nlp"]}, [], 1)[0]
    networks = expand({"architecture": "resnet18-{method}-1222"}, {"method": ["skip", "maxp"]}, [], 1)[0]
    names = labels(trial.settings for trial in [*detectors, *networks])
    assert [*names.values()] == ["skip", "nlp", "skip", "maxp"]
    assert names == labels(t.settings for t in detectors) | labels(t.settings for t in networks)


ALL_SPLITS = " ".join(f"--train.{name} {value}" for name, value in SPLITS.items())
LINES = {
    f"--architectures {STRING}": "data has to be given for all trials or in grid, but got none",
    f"--architectures {STRING} --data {SPLITS['data']}": "test_data has to be given for all trials or in grid",
    f"--architectures {STRING} resnet18-skip-1222": f"detectors only, or none, but got {STRING!r} and 'resnet18-skip",
    f"--architectures {STRING} --trials [{{architecture:resnet18-skip-1222}}]": "detectors only, or none",
    f"--architectures {STRING} {ALL_SPLITS} --trials [{{width:0.5}}]": "architecture has to be given for all trials or",
    f"--architectures {STRING} {ALL_SPLITS} --train.label_smoothing 0.1": "arguments of detect train, but",
    f"--architectures {STRING} {ALL_SPLITS} --train.achors fit": "did you mean 'anchors'",
    f"--architectures {STRING} {ALL_SPLITS} --grid.sizes [big]": "a whole number, or a list of such, but got 'big'",
    f"--architectures {STRING} {ALL_SPLITS} --image-size [1,2,3]": "image_size has to be one number or two",
    "--architectures resnet18-skip-1222 --image-size [64,96]": "image_size has to be a whole number or null, but got",
    f"--architectures sdd:resnet18-skip-1222 {ALL_SPLITS}": "did you mean 'ssd'",
    f"--architectures retinanet:resnet18-skip-1222 {ALL_SPLITS} --train.anchors fit": "anchors has to be published",
    f"--architectures {STRING} {ALL_SPLITS} --train.test_data coco:scenes/images:scenes/empty.json": "test_data has to "
    "have boxes that are no crowds",
    f"--architectures {STRING} {ALL_SPLITS} --data coco:scenes/images:scenes/none.json": "none.json",
    f"--architectures {STRING} {ALL_SPLITS} --train.classes Trousers": "did you mean 'Trouser'",
    f"--architectures {STRING} {ALL_SPLITS} --batch-size 1 --image-size 64": "batch_size has to be at least 2",
}


@pytest.mark.parametrize(("line", "says"), LINES.items())
def test_a_mistake_is_one_line_before_anything_runs(
    line: str, says: str, place: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    words = [word.replace(":", ": ") if "{" in word else word for word in line.split()]
    assert main(["compare", *words, "--output", "refused"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (said,) = captured.err.splitlines()
    assert says in said
    assert not (place / "refused").exists()


def test_detectors_are_compared_and_reported(place: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    line = "--architectures ssdlite:{backbone}-{method}-{strides} --methods skip maxp --backbones mobilenetv3_small "
    line += "--strides 12211111211 --epochs 1 --image-size 64 --width 0.35 --batch-size 8 --workers 0 --no-progress "
    line += f"--train.anchors fit --train.accelerator cpu {ALL_SPLITS} --output out "
    line += f"--cpus-per-trial {max(1, get_num_cpus() // 2)}"
    assert main(["compare", *line.split()]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "configuration seeds AP range AP50 peak int8, kB MACs, M" in shown
    rows = [json.loads(text) for text in Path("out/results.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == ["skip", "maxp"]
    for row in rows:
        check_row(row)
        assert f"{row['name']} 1 {row['test_ap']:.2%} - {row['test_ap50']:.2%}" in shown
    assert attnpool.load(f"out/trials/{folder_of(rows[0])}").spec.anchors  # a checkpoint like any other

    before = Path("out/results.jsonl").read_bytes()
    assert main(["compare", *line.split()]) == 0  # nothing is left to do
    assert Path("out/results.jsonl").read_bytes() == before

    assert main(["report", "out", "-o", "r.html", "--figures", "figures"]) == 0
    assert "test AP with 95 % intervals" in " ".join(capsys.readouterr().out.split())
    with Path("figures/summary.csv").open() as stream:
        found = list(csv.DictReader(stream))
    assert [float(line["test_ap"]) for line in found] == [row["test_ap"] for row in rows]
    assert float(found[1]["difference"]) == rows[1]["test_ap"] - rows[0]["test_ap"]
    assert {line["test_ap_large"] for line in found} == {""}  # there are none on images of 64 pixels
    assert Path("r.html").stat().st_size > 1e6


def folder_of(row: dict[str, Any]) -> str:
    return f"{row['spec']['architecture'].replace(':', '-')}-seed{row['seed']}-{row['trial']}"


def check_row(row: dict[str, Any]) -> None:
    """It says what the checkpoint and `attnpool.profile` say."""
    folder = Path("out/trials") / folder_of(row)
    said = json.loads((folder / "results.json").read_text())
    assert (row["status"], row["error"], row["data"]) == ("finished", None, SPLITS["data"])
    assert row["settings"].keys() == {*known_names(DETECTION)}
    for key in ("classes", "params", "best_epoch", "val_ap", "history"):
        assert row[key] == said[key]
    for key in ("ap", "ap50", "ap75"):
        assert row[f"test_{key}"] == said["test"][key]
    for key in ("small", "medium", "large"):
        assert row[f"test_ap_{key}"] == said["test"][key]
    assert row["per_class"] == [*said["test"]["class_ap"].values()]
    costs = attnpool.profile(str(folder), (3, 64, 64), dtype="int8", latency=False, training=False)
    assert row["memory"]["int8"] == costs.to_dict()["memory"]
    assert (row["macs"], row["weight_bytes"]["int8"]) == (costs.macs, costs.weight_bytes)
    assert row["latency"]["median_ms"] > 0
