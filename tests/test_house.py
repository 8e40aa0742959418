"""The house plan, held: imports go one way, files are small, nothing prints or unpickles, and the core stands alone."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "attnpool"
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = {
    "cli": 6,
    "arguments": 6,
    "completion": 6,
    "verbs": 6,
    "__main__": 6,
    "jobs": 5,
    "detection": 4,
    "export": 4,
    "visualise": 4,
    "data": 3,
    "accounting": 3,
    "spec": 2,
    "attentionspec": 2,
    "poolspec": 2,
    "models": 2,
    "pools": 1,
    "layers": 1,
    "colours": 0,
    "registry": 0,
}
"""Room to floor: a file imports from its own floor and those below. The package's `__init__` shows all of it."""
ALLOWED_PRINTS = {"cli.py"}


def room(parts: tuple[str, ...]) -> str:
    return parts[1] if len(parts) > 1 else "__init__"


def imported(tree: ast.AST) -> list[str]:
    """The modules of this package that a file imports, with dots."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return [name for name in names if name.split(".")[0] == "attnpool"]


each_file = pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))


@each_file
def test_imports_go_one_way(file: Path) -> None:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    here = room(parts)
    if here == "__init__":
        return
    for name in imported(ast.parse(file.read_text())):
        there = room(tuple(name.split(".")))
        assert there in FLOORS or (there == "__init__" and here == "cli"), name
        assert there == "__init__" or FLOORS[there] <= FLOORS[here], f"{here} imports {name}"


@each_file
def test_files_are_small_and_say_what_they_are_for(file: Path) -> None:
    text = file.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert len(text.splitlines()) <= (150 if file.parent.name == "pools" else 300)


@each_file
def test_only_the_command_line_writes_to_the_terminal_and_nothing_unpickles(file: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    names = {ast.unparse(call.func) for call in calls}
    assert file.name in ALLOWED_PRINTS or not names & {"print", "Console"}
    assert not names & {"pickle.load", "pickle.loads", "eval", "exec", "torch.set_default_tensor_type"}
    loads = [call for call in calls if ast.unparse(call.func) == "torch.load"]
    assert all("weights_only=True" in map(ast.unparse, call.keywords) for call in loads)
    if "np.load" in names:
        assert "allow_pickle=False" in file.read_text()


@each_file
def test_every_public_thing_is_documented(file: Path) -> None:
    tree = ast.parse(file.read_text())
    public = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and not n.name.startswith("_")]
    assert not [node.name for node in public if not ast.get_docstring(node)]


def test_only_jobs_know_lightning_and_of_these_the_ones_that_train_or_test() -> None:
    code = (
        "import sys, attnpool, attnpool.models.build, attnpool.data.source; attnpool.visualise.weight_maps\n"
        "assert not {'pytorch_lightning', 'jsonargparse', 'matplotlib', 'rich', 'pytorch_grad_cam'} & set(sys.modules)"
        "\nfrom attnpool.jobs import convert, export, fit, predict, profile, pull, push, visualise\n"
        "assert not {'pytorch_lightning', 'torchmetrics'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_a_report_is_made_without_torch() -> None:
    code = "import sys; from attnpool.jobs import report; assert not {'torch', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_changes_no_random_state_and_prints_nothing() -> None:
    code = (
        "import torch; a = torch.get_rng_state(); d = torch.get_default_dtype(); import attnpool; "
        "assert torch.equal(a, torch.get_rng_state()) and d == torch.get_default_dtype(); "
        "assert all(callable(getattr(attnpool, name)) for name in attnpool.__all__)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout + done.stderr == ""


def test_the_wheel_holds_the_data_and_the_licences(tmp_path: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    embedded = ("embedded/fashion_mnist.npz", "embedded/LICENSE", "embedded/README.md")
    page = [f"jobs/report_page/{name}" for name in ("page.html", "page.css", "page.js", "charts.js")]
    for wanted in (*embedded, *page, "attnpool/cli.py"):
        assert any(name.endswith(wanted) for name in names), wanted
    assert any("dist-info/licenses/LICENSE" in name for name in names)
    assert wheel.stat().st_size < 8e6
