"""A grid of trainings: what it expands to, and that nothing is lost or done twice, whatever is killed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ray._private.utils import get_num_cpus
from rich.console import Console

import attnpool
from attnpool.cli import main
from attnpool.jobs._comparison import CompareResult
from attnpool.jobs._folder import locked
from attnpool.jobs._grid import Trial, digest, expand, labels
from attnpool.jobs._journal import Rows
from attnpool.jobs._leash import Leash
from attnpool.jobs._settings import differing, known_names
from attnpool.jobs._task import CLASSIFICATION
from attnpool.jobs.compare import compare

psutil: Any = pytest.importorskip("psutil")  # which Ray brings
Captured = pytest.CaptureFixture[str]
STRING = "resnet18-maxp-1222"
TEMPLATE = "resnet18-{method}-1222"


# What a grid expands to

AXES: dict[str, list[Any]] = {
    "method": ["maxp", "avgp", "nlp_headfix2"],
    "strides": [1222, 2221],
    "width": [0.25, 0.5, 1.0],
    "lr": [None, 0.01],
    "attention": ["", "after:layer2.1"],
}
a_grid = st.fixed_dictionaries(
    {axis: st.lists(st.sampled_from(values), min_size=1, unique=True) for axis, values in AXES.items()}
)


@given(grid=a_grid, seeds=st.integers(1, 3), data=st.data())
def test_a_grid_is_every_combination_once_and_known_by_what_it_is(
    grid: dict[str, list[Any]], seeds: int, data: st.DataObject
) -> None:
    common = {"epochs": 2, "architecture": "resnet18-{method}-{strides}"}
    trials, merged = expand(common, grid, [], seeds)
    assert merged == 0
    found = {
        (t.settings["architecture"], t.settings["width"], t.settings["lr"], t.settings["attention"]) for t in trials
    }
    strings = [f"resnet18-{m}-{s}" for m, s in product(grid["method"], grid["strides"])]
    assert found == {*product(strings, grid["width"], grid["lr"], grid["attention"])}
    assert len({t.id for t in trials}) == len(trials) == len(found) * seeds
    assert [t.seed for t in trials] == sorted(t.seed for t in trials)  # all configurations of a seed before the next
    assert all(t.settings["epochs"] == 2 and t.settings.keys() == {*known_names(CLASSIFICATION)} for t in trials)
    shuffled = {axis: data.draw(st.permutations(grid[axis])) for axis in data.draw(st.permutations(list(grid)))}
    larger, _ = expand(common, {**shuffled, "placement": [None, "end"]}, [], list(range(seeds + 1)))
    assert {t.id for t in trials} < {t.id for t in larger}  # whatever is around it
    names = labels(t.settings for t in trials)
    assert len({*names.values()}) == len(names) == len(found)
    assert all(names[t.configuration] for t in trials)


@given(values=st.lists(st.tuples(st.sampled_from(["maxp", "avgp"]), st.sampled_from(["maxp", "skip"])), min_size=1))
def test_labels_tell_prepools_apart(values: list[tuple[str, str]]) -> None:
    settings = [{"architecture": f"prepool-{a}-4-resnet18-{b}-1222", "width": 1.0} for a, b in values]
    assert len({*labels(settings).values()}) == len({*values})


def test_labels_are_short() -> None:
    trials, _ = expand({}, {"method": ["maxp", "nlp"], "strides": [1222, 2221], "backbone": ["resnet18"]}, [], 1)
    assert [*labels(t.settings for t in trials).values()] == ["maxp 1222", "maxp 2221", "nlp 1222", "nlp 2221"]
    trials, _ = expand({"architecture": STRING}, {"lr": [None, 0.1]}, [], 1)
    assert [*labels(t.settings for t in trials).values()] == ["lr=-", "lr=0.1"]
    assert [*labels([trials[0].settings]).values()] == [STRING]
    mixed = [{"architecture": STRING}, {"architecture": f"prepool-maxp-4-{STRING}"}]
    assert [*labels(mixed).values()] == [STRING, f"prepool-maxp-4-{STRING}"]


def test_equal_trials_are_trained_once() -> None:
    extra = [{"architecture": STRING, "width": 1}, {"architecture": STRING, "width": "1.0"}, {"architecture": STRING}]
    trials, merged = expand({"epochs": 3}, {"architecture": [TEMPLATE], "method": ["maxp"]}, extra, [7])
    assert (len(trials), merged) == (1, 3)
    assert trials[0].seed == 7
    assert len(trials[0].id) == 12
    assert trials[0].id == digest({"seed": 7, "settings": differing(trials[0].settings)})


LINES = {
    "": "methods, architectures, grid or trials",
    f"--architectures {STRING} --seeds 0": "seeds has to be how many",
    f"--architectures {STRING} --seeds [1,1]": "seeds has to be how many",
    f"--architectures {STRING} --epochs 0": "epochs has to be positive",
    f"--architectures {STRING} --lr 0": "lr has to be positive, but got 0.0",
    f"--architectures {STRING} --image-size 8": "image_size has to suit",
    f"--architectures {STRING} --batch-size 0": "batch_size has to be a positive",
    f"--architectures {STRING} --data fashion": "did you mean 'fashion_mnist'",
    f"--architectures {STRING} resnet18-nlq-1222": "did you mean 'nlp'",
    f"--architectures {TEMPLATE}": "none for 'method'",
    f"--architectures {STRING} --methods maxp": "'method' is none",
    "--architectures {": "names of axes in braces, but got '{'",
    "--methods maxp --backbones resnet18": "none for 'strides'",
    f"--architectures {STRING} --grid.widht [1,2]": "did you mean 'width'",
    f"--architectures {STRING} --grid {{width:1}}": "grid",
    f"--architectures {STRING} --grid {{width:[wide]}}": "width has to be a number, but got 'wide'",
    f"--architectures {STRING} --grid {{seed:[1]}}": "seed has to be left out of grid: seeds says which",
    f"--architectures {STRING} --grid {{workers:[1]}}": "workers has to be left out of grid",
    f"--architectures {STRING} --grid {{architecture:[a]}}": "leave out what is given beside it, but has architecture",
    f"--architectures {STRING} --train {{epohcs:1}}": "did you mean 'epochs'",
    f"--architectures {STRING} --train {{output:a}}": "output has to be left out of train",
    f"--architectures {STRING} --train {{augment:1}}": "augment has to be true or false, but got 1",
    f"--architectures {STRING} --train {{placement:ned}}": "one of before, after_first, end or null, but got 'ned'",
    f"--architectures {STRING} --train {{attention:null}}": "attention has to be text, but got None",
    f"--architectures {STRING} --train {{accelerator:abacus}}": "abacus",
    f"--architectures {STRING} --train {{data:cifar10,data_dir:nowhere,download:false}}": "nowhere",
    "--trials [{width:1}]": "architecture has to be given for all trials or in trials[0], but got none",
    f"--trials [{{architecture:{STRING},widht:1}}]": "trials[0] has to have arguments of train, but 'widht' is none",
    f"--architectures {STRING} --cpus-per-trial 0": "cpus_per_trial has to be positive",
    f"--architectures {STRING} --gpus-per-trial 2": "gpus_per_trial has to be from 0 to 1",
    f"--architectures {STRING} --retries -1": "retries has to be at least 0",
    f"--architectures {STRING} --output /dev/null/x": "/dev/null/x",
}


@pytest.mark.parametrize(("line", "says"), LINES.items())
def test_a_mistake_is_one_line_before_anything_runs(
    line: str, says: str, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word.replace(":", ": ") if "{" in word else word for word in line.split()]
    assert main(["compare", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert says in captured.err
    assert list(tmp_path.iterdir()) == []


def test_without_ray_the_extra_is_named(capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["compare", "--architectures", STRING, "--output", str(tmp_path / "out")]) == 2
    assert "pip install attnpool[sweep]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    assert main(["compare", "--architectures", STRING, "--output", str(tmp_path)]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


# Rows


def test_a_row_that_was_cut_off_anywhere_is_taken_away(tmp_path: Path) -> None:
    rows = [{"trial": str(i), "loss": float("nan"), "name": "ü\n"} for i in range(2)]
    file = tmp_path / "rows.jsonl"
    for row in rows:
        Rows(file, "trial").add(row)
    held = file.read_bytes()
    first = held.index(b"\n") + 1
    for cut in range(len(held) + 1):
        file.write_bytes(held[:cut])
        known = Rows(file, "trial").known
        assert [*known] == [str(i) for i in range((cut >= first) + (cut == len(held)))]
        assert file.read_bytes() == held[: first * (cut >= first) if cut < len(held) else cut]
    assert known["1"] == {"trial": "1", "loss": None, "name": "ü\n"}


def test_rows_are_replaced_in_one_step_and_only_if_they_differ(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.jsonl", "trial")
    for i in range(3):
        rows.add({"trial": str(i)})
    before = rows.file.stat().st_ino
    rows.replace([*rows.known.values()])
    assert rows.file.stat().st_ino == before
    rows.add({"trial": "0"})  # the later one counts, and the earlier one goes
    rows.replace([*rows.known.values()])
    assert len(rows.file.read_text().splitlines()) == 3
    rows.replace([{"trial": "2", "name": "new"}])
    assert Rows(rows.file, "trial").known == {"2": {"trial": "2", "name": "new"}}
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize("line", ["nothing\n", "[1]\n", '{"name": 1}\n'])
def test_a_whole_line_that_is_no_row_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"trial": "1"}\n' + line)
    with pytest.raises(ValueError, match=r"rows\.jsonl:2 has to be a row of JSON with 'trial'"):
        Rows(tmp_path / "rows.jsonl", "trial")
    assert (tmp_path / "rows.jsonl").read_text().endswith(line)


def test_the_table_has_a_row_for_each_configuration_and_says_what_failed() -> None:
    costs = {"memory": {"int8": {"peak": 12_345}}, "macs": 6_780_000}
    about = {**costs, "settings": {"architecture": STRING}, "status": "finished", "name": "maxp"}
    rows = [{**about, "seed": i, "test_accuracy": 0.5 + i / 10} for i in range(2)]
    failed = {"status": "failed", "name": "nlp [x]", "seed": 0, "error": "the loss is not finite"}
    result = CompareResult([*rows, failed], 1, 4, "out")
    console = Console(width=120)
    with console.capture() as shown:
        console.print(result)
    text = " ".join(shown.get().split())
    assert "maxp 2 55.00% 50.00% to 60.00% 12.3 6.78" in text
    assert "nlp [x] 0 of 1 failed" in text
    assert "failed: nlp [x], seed 0: the loss is not finite" in text
    assert "4 rows of other trials" in text
    assert "next: attnpool report out/results.jsonl" in text
    assert result.exit_code == 1
    assert CompareResult(rows, 0, 0, "out").exit_code == 0


# Real processes

DIVERGING = 1e30
WORDS = ["compare", "--config", "spec.yaml", "--output", "out"]


@pytest.mark.parametrize(
    ("common", "says"),
    [
        ({"accumulate": 3, "batch_size": 16}, "batch_size has to be a multiple of 3"),
        ({"workers": -3}, "workers has to be"),
        ({"pretrained_file": "nowhere.pth"}, "pretrained_file has to be a file, but nowhere.pth is none"),
        ({"scale": [0.9, 0.1]}, "scale has to be"),
    ],
)
def test_what_train_would_refuse_is_refused_before_anything_runs(
    tmp_path: Path, common: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        compare(architectures=(STRING,), train={"data": "fashion_mnist", **common}, output=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with 40 + 8 grey images of 32 x 32, bright and dark, and the specification of 3 trials that
    finish and one that cannot.
    """
    folder = tmp_path_factory.mktemp("compare")
    rng, arrays = np.random.default_rng(0), {}
    for name, count in (("train", 40), ("test", 8)):
        labels = np.arange(count) % 2
        arrays[f"x_{name}"] = (rng.integers(0, 100, (count, 32, 32)) + 100 * labels[:, None, None]).astype(np.uint8)
        arrays[f"y_{name}"] = labels
    np.savez(folder / "tiny.npz", **arrays)
    spec = {
        "architectures": [TEMPLATE],
        "methods": ["maxp"],
        "grid": {"lr": [DIVERGING, 0.01, 0.02, 0.03]},
        "cpus_per_trial": max(1, get_num_cpus() // 2),  # two at a time
        "data": "npz:tiny.npz",
        "train": {"epochs": 15, "batch_size": 16, "width": 0.125, "warmup_epochs": 0, "accelerator": "cpu"},
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    return folder


@pytest.fixture
def start(place: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts the command in a process of its own; what is left of it at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def run() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "attnpool", *WORDS, "--no-progress", "--retries", "0"]
        process = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files that no other process uses, with a name short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="c-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def until(what: Callable[[], Any], process: subprocess.Popen[str] | None = None, seconds: float = 100) -> Any:
    """What comes to be, waited for, while a process runs."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def rows_of(out: Path, status: str) -> dict[float, dict[str, Any]]:
    """The whole rows with a status, by learning rate."""
    text = (out / "results.jsonl").read_text() if (out / "results.jsonl").exists() else ""
    rows = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return {row["settings"]["lr"]: row for row in rows if row["status"] == status}


def family_of(pid: int) -> list[Any]:
    return list(psutil.Process(pid).children(recursive=True))


def training(pid: int, out: Path) -> dict[str, Any]:
    """Processes that train now, by the names of the folders that they have locked; none of those that diverge."""
    found = {}
    for worker in family_of(pid):
        try:
            locks = [Path(file.path) for file in worker.open_files() if file.path.endswith("/.lock")]
        except psutil.Error:
            continue
        found.update({lock.parent.name: worker for lock in locks if lock.parent.parent.name == "trials"})
    configs = {name: out / "trials" / name / "config.yaml" for name in found}
    begun = {name: file.read_text() for name, file in configs.items() if file.exists()}
    return {name: found[name] for name, text in begun.items() if yaml.safe_load(text)["lr"] != DIVERGING}


def gone(processes: list[Any]) -> bool:
    return not psutil.wait_procs(processes, timeout=10)[1]


def test_nothing_is_lost_or_done_twice_whatever_is_killed(
    place: Path,
    temporary: Path,
    start: Callable[[], subprocess.Popen[str]],
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    out = place / "out"

    with locked(out):  # as by another driver
        assert main(WORDS) == 2
    assert "output has to be a folder that no other run is using" in capsys.readouterr().err

    stopped = start()  # Ctrl-C once one trial is finished and one has failed
    until(lambda: rows_of(out, "finished") and rows_of(out, "failed"), stopped)
    family = family_of(stopped.pid)
    stopped.send_signal(signal.SIGINT)
    printed, said = stopped.communicate(timeout=60)
    done, failed = rows_of(out, "finished"), rows_of(out, "failed")[DIVERGING]
    assert stopped.returncode == 130
    assert printed == ""
    text = f"stopped; {len(done)} of 4 trials are finished, in out/results.jsonl; the same command goes on"
    assert said.splitlines() == [f"attnpool: {text}"]
    assert gone(family)

    killed = start()  # kill -9 in the middle of a training
    until(lambda: training(killed.pid, out), killed)
    family = family_of(killed.pid)
    assert len(list(temporary.glob("attnpool-ray-*"))) == 1
    with pytest.raises(ValueError, match="no other run is using"), locked(out):
        pass
    killed.kill()
    killed.communicate()
    assert gone(family)
    done |= rows_of(out, "finished")
    before = {file: file.stat().st_mtime_ns for file in out.glob("trials/*/results.json")}
    with (out / "results.jsonl").open("a") as stream:
        stream.write('{"status": "finished", "tri')

    environment, handlers = dict(os.environ), [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    victims: list[str] = []
    killer = threading.Thread(target=kill_one, args=(out, victims))  # in this process; kill -9 of a worker
    killer.start()
    assert main(WORDS) == 1
    killer.join()
    assert not ray.is_initialized()
    assert dict(os.environ) == environment
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert list(temporary.glob("attnpool-ray-*")) == []
    captured = capsys.readouterr()
    assert "the same command tries those that failed again" in captured.out
    assert "1 failed, 0 running)" in " ".join(captured.err.split())

    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert len(rows) == len({row["trial"] for row in rows}) == 4
    finished = rows_of(out, "finished")
    assert {*finished} == {0.01, 0.02, 0.03}
    assert {lr: finished[lr] for lr in done} == done
    assert {file: file.stat().st_mtime_ns for file in before} == before
    (retried,) = [row for row in rows if victims[0].endswith(row["trial"])]
    assert (retried["status"], retried["attempts"]) == ("finished", 2)
    again = rows_of(out, "failed")[DIVERGING]
    assert (again["attempts"], failed["attempts"]) == (2, 1)
    assert again["finished_at"] > failed["finished_at"]
    check_rows(out, rows)


def test_sigterm_ends_it_as_ctrl_c_does(
    place: Path, temporary: Path, start: Callable[[], subprocess.Popen[str]]
) -> None:
    shutil.rmtree(place / "out", ignore_errors=True)
    ended = start()
    until((place / "out" / "costs.jsonl").exists, ended)
    family = family_of(ended.pid)
    ended.send_signal(signal.SIGTERM)
    printed, said = ended.communicate(timeout=60)
    assert (ended.returncode, printed) == (143, "")
    assert re.fullmatch(r"attnpool: stopped; \d of 4 trials are finished, in .*; the same command goes on\n", said)
    assert gone(family)
    assert list(temporary.glob("attnpool-ray-*")) == []


def test_what_writes_into_rays_folder_is_ended_whoever_started_it_and_who_reads_there_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "ray"
    folder.mkdir()
    with (folder / "worker.out").open("w") as out:
        wait = [sys.executable, "-c", "import time; time.sleep(100)"]
        writer = subprocess.Popen(["setsid", "--fork", *wait], stdout=out)  # an orphan, as what starts while Ray dies
        writer.wait()
        started = until(lambda: [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == wait])
    with subprocess.Popen(["tail", "-f", folder / "worker.out"], stdout=subprocess.DEVNULL) as reader:
        until(lambda: psutil.Process(reader.pid).open_files())
        Leash(folder).release()
        assert not folder.exists()
        assert gone(started)
        assert reader.poll() is None
        reader.kill()


def test_an_identity_outlives_defaults_that_are_added() -> None:
    (trial,), _ = expand({"architecture": "resnet18-maxp-1222", "lr": 0.5}, {}, [{}], 1)
    assert differing(trial.settings) == {"architecture": "resnet18-maxp-1222", "lr": 0.5}
    assert trial.id == "7ccc9209e81f"
    written = json.loads(json.dumps(dict(trial.settings)))  # tuples are lists
    assert Trial(written, 0).id == trial.id


def kill_one(out: Path, victims: list[str]) -> None:
    """Kill the process of a trial that would finish."""
    name, worker = until(lambda: [*training(os.getpid(), out).items()])[0]
    worker.kill()
    victims.append(name)


def check_rows(out: Path, rows: list[dict[str, Any]]) -> None:
    """Rows say what the checkpoints and `attnpool.profile` say."""
    head = ["status", "trial", "name", "settings", "seed", "data", "spec"]
    tail = ["attempts", "error", "versions", "commit", "device", "finished_at"]
    for row in rows:
        assert digest({"settings": differing(row["settings"]), "seed": row["seed"]}) == row["trial"]
        assert row["settings"].keys() == {*known_names(CLASSIFICATION)}
        assert row["name"] == f"lr={row['settings']['lr']}"
        assert (row["data"], row["versions"]["attnpool"]) == ("npz:tiny.npz", attnpool.__version__)
        if row["status"] == "failed":
            assert [*row] == head + tail
            assert "the loss is not finite" in row["error"]
            continue
        folder = out / "trials" / f"{STRING}-seed0-{row['trial']}"
        said = json.loads((folder / "results.json").read_text())
        same = ("classes", "params", "best_epoch", "test_accuracy", "test_loss", "per_class", "history")
        assert {key: row[key] for key in same} == {key: said[key] for key in same}
        assert [*row][:7] == head
        assert [*row][-6:] == tail
        costs = attnpool.profile(str(folder), (1, 32, 32), dtype="int8", latency=False, training=False)
        assert row["memory"]["int8"] == costs.to_dict()["memory"]
        assert (row["macs"], row["weight_bytes"]["int8"]) == (costs.macs, costs.weight_bytes)
        assert row["memory"]["float32"]["peak"] == 4 * costs.memory.peak
        lower, upper = row["latency"]["quartiles_ms"]
        assert 0 < lower <= row["latency"]["median_ms"] <= upper
        assert row["latency"]["threads"] == 1
