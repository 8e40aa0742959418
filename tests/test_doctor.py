"""`attnpool doctor`: it finds what is broken, also where hardly anything can be imported."""

import json
import os
import subprocess
import sys
from importlib.metadata import metadata, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from attnpool.cli import main
from attnpool.jobs import doctor as module
from attnpool.jobs.doctor import doctor

Captured = pytest.CaptureFixture[str]


def test_a_whole_installation_is_found_well(tmp_path: Path, capsys: Captured) -> None:
    assert main(["doctor", "--json", str(tmp_path / "found.json")]) == 0
    shown = capsys.readouterr().out
    assert "All that attnpool needs works." in shown
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["attnpool"] == version("attnpool")
    assert found["problems"] == []
    said = {library["name"]: library["version"] for library in found["libraries"]}
    assert {"torch", "torchvision", "timm", "pytorch-lightning"} <= said.keys()
    assert all(version(name) == value and value in shown for name, value in said.items())
    assert [extra["name"] for extra in found["extras"]] == metadata("attnpool").get_all("Provides-Extra")
    assert "cpu" in found["devices"]
    assert found["threads"] == 1  # as conftest has it
    assert found["memory"] > 1e8


def diagnosed(folder: Path) -> tuple[int, dict, str]:  # type: ignore[type-arg]
    """What the command says where `folder` comes first among the modules: exit code, JSON, errors."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    words = [sys.executable, "-m", "attnpool", "doctor", "--json", str(folder / "found.json")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    return done.returncode, json.loads((folder / "found.json").read_text()), done.stderr


def test_a_torchvision_that_does_not_fit_torch_is_the_cause_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    stub = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    (tmp_path / "torchvision" / "__init__.py").write_text(stub)
    code, found, err = diagnosed(tmp_path)
    assert (code, err) == (1, "")
    (problem,) = found["problems"]
    builds = f"torchvision: torch {version('torch')} and torchvision {version('torchvision')} do not fit each other"
    assert problem.startswith(builds)
    assert "operator torchvision::nms does not exist" in problem
    assert "pip install --force-reinstall torch torchvision" in problem
    assert found["devices"][0] == "cpu"  # torch itself works


def test_a_torch_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libc10.so: cannot open shared object file')\n")
    code, found, err = diagnosed(tmp_path)
    assert (code, err) == (1, "")
    assert found["problems"] == ["torch: libc10.so: cannot open shared object file"]
    assert (found["devices"], found["threads"]) == ([], 0)


def test_what_is_missing_too_old_or_no_extra_of_this_system(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "no-such-library>=1",
        "numpy>=999",
        "torch>=2; python_version < '3'",
        "no-such-other>=2; extra == 'more'",
        "numpy>=1; extra == 'more'",
        "no-such-third>=2; python_version < '3' and extra == 'elsewhere'",
    ]
    monkeypatch.setattr(module, "requires", lambda name: lines if name == "attnpool" else None)
    monkeypatch.setattr(module, "TRIALS", {})
    found = doctor()
    assert found.exit_code == 1
    assert found.problems == (
        "no-such-library: it is not installed",
        f"numpy: it has to be >=999, but is {version('numpy')}",
    )
    more, elsewhere = module._extra("more"), module._extra("elsewhere")
    assert (more.missing, more.install, more.here) == (("no-such-other",), "pip install 'attnpool[more]'", True)
    assert (elsewhere.missing, elsewhere.install, elsewhere.here) == ((), "", False)


def test_a_pair_whose_versions_do_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "requires", lambda name: ["numpy", "torch==1.0.0"])
    assert module._partner() == " (this torchvision is for torch ==1.0.0)"
    assert module._fault(Requirement("torch==1.0.0")) == f"it has to be ==1.0.0, but is {version('torch')}"


def test_a_file_that_cannot_be_written_is_refused_before_the_trials(capsys: Captured) -> None:
    assert main(["doctor", "--json", "nowhere/found.json"]) == 2
    assert "json has to be a file in a folder that exists, but got 'nowhere/found.json'" in capsys.readouterr().err
