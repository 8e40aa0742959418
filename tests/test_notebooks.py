"""The notebooks run from an empty folder, and what they show is what they give."""

import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import notebooks  # noqa: E402

FILES = sorted(notebooks.FOLDER.glob("*.ipynb"))
LARGEST = 250_000
"""Bytes of a notebook, its pictures included."""

each_file = pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def exact(notebook: Any) -> dict[str, str]:
    """Of each cell whose figures are counted, not measured or trained: what it prints."""
    tagged = [cell for cell in code(notebook) if "exact" in cell.metadata.get("tags", ())]
    return {cell.id: "".join(output.text for output in cell.outputs) for cell in tagged}


def test_there_are_three() -> None:
    assert [file.stem for file in FILES] == ["first-look", "memory-budget", "own-network"]


@each_file
def test_it_was_run_in_order_and_shows_no_error_and_no_place(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    assert file.stat().st_size <= LARGEST
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert max(len(cell.source.splitlines()) for cell in code(notebook)) <= 12
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 2
    texts = [o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in outputs]
    assert not re.search(r"(?<![\w.:/])/\w+/|[A-Za-z]:\\", "".join(texts))
    assert not any("execution" in cell.metadata for cell in notebook.cells)  # the times at which it was run


@each_file
def test_it_runs_in_an_empty_folder_and_gives_what_it_shows(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, str(tmp_path / "of-jupyter"))
    (empty := tmp_path / "empty").mkdir()
    before = psutil.Process().children(recursive=True)
    committed, made = nbformat.read(file, as_version=4), notebooks.run(file, empty)
    assert psutil.Process().children(recursive=True) == before  # its kernel is gone
    assert [*empty.iterdir()] == []
    assert [cell.execution_count for cell in code(made)] == [cell.execution_count for cell in code(committed)]
    assert len(exact(made)) >= 3
    assert exact(made) == exact(committed)
    assert not [o for cell in code(made) for o in cell.outputs if o.get("name") == "stderr"]
    for mine, theirs in zip(code(made), code(committed), strict=True):
        assert [o.output_type for o in mine.outputs] == [o.output_type for o in theirs.outputs]
