"""What the command line says of itself: help that fits a screen, examples that parse, completion in a real shell."""

import ast
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

import attnpool
from attnpool.cli import _parse, main
from attnpool.verbs import SHOWN, VERBS

ROOT = Path(__file__).parents[1]
Captured = pytest.CaptureFixture[str]


def test_help_fits_a_screen_and_shows_three_examples(capsys: Captured) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("  attnpool ") for line in lines) == len(SHOWN) == 3
    for name, verb in VERBS.items():
        assert sum(line.split("  ")[1:2] == [name] and line.endswith(f"  {verb.help}") for line in lines) == 1, name


def test_help_of_a_group_shows_its_verbs(capsys: Captured) -> None:
    assert main(["detect", "-h"]) == 0
    shown = [line.split("  ")[1] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert [name for name in shown if name in VERBS] == [name for name in VERBS if name.startswith("detect ")]


def test_help_and_version_import_nothing_large() -> None:
    code = (
        "import sys; from attnpool.cli import main; assert main(['--help']) == main(['--version']) == 0; "
        "assert not {'torch', 'numpy', 'jsonargparse', 'rich', 'yaml', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.endswith(f"attnpool {attnpool.__version__}\n")


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_explains_every_option_and_shows_its_examples(name: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as done:
        main([*name.split(), "--help"])
    assert done.value.code == 0
    out = capsys.readouterr().out
    described = re.findall(r"(?<!\[)--([a-z-]+) [A-Z{][^ ]*( [A-Z]\w+)?", " ".join(out.split()))
    assert described or name == "list"
    assert "_" not in "".join(option for option, _ in described)
    assert all(f"  attnpool {example}\n" in out for example in VERBS[name].examples)


@pytest.mark.parametrize("name", VERBS)
def test_the_examples_of_a_verb_are_commands_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # one example names a file of the repository
    assert VERBS[name].examples
    for example in VERBS[name].examples:
        assert _parse(shlex.split(example))[0] is VERBS[name].function


def test_lightning_is_quiet_where_it_is_asked_to_be_and_its_log_as_before_afterwards(tmp_path: Path) -> None:
    code = (
        "import attnpool, logging; "
        "attnpool.train('resnet18-maxp-1222', output='run', width=0.125, epochs=1, progress=False); "
        "attnpool.evaluate('run', progress=False); "
        "assert logging.getLogger('pytorch_lightning').level == logging.INFO"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ctrl_c_while_libraries_are_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    words = [sys.executable, "-m", "attnpool", "list", "pools"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "attnpool: stopped\n")


@pytest.fixture(scope="module")
def completion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash, as a file."""
    file = tmp_path_factory.mktemp("completion") / "attnpool.bash"
    words = [sys.executable, "-m", "attnpool", "--print-completion", "bash"]
    file.write_text(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return file


def typed(keys: str, completion: Path) -> str:
    """What a bash in a terminal shows of a line, once it is completed: `keys` and TAB."""
    environment = {**os.environ, "PS1": "$ ", "TERM": "dumb", "HISTFILE": "", "INPUTRC": "/dev/null"}
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    os.write(ours, f"source {shlex.quote(str(completion))}; echo rea''dy\n".encode())
    try:
        shown_until(ours, lambda text: "ready" in text)
        os.write(ours, f"{keys}\t".encode())
        return shown_until(ours, lambda text: bool(re.search(rf"{re.escape(keys)}\S+ ", text)))
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def shown_until(terminal: int, done, seconds: float = 60.0) -> str:  # type: ignore[no-untyped-def]
    """What a terminal shows until that is enough, or the time is over."""
    text, end = "", time.monotonic() + seconds
    while not done(text) and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            text += os.read(terminal, 4096).decode(errors="replace")
    return text


@pytest.mark.parametrize(
    ("keys", "becomes"),
    [
        ("attnpool tr", "attnpool train "),
        ("attnpool detect ev", "attnpool detect evaluate "),
        ("attnpool train --val-f", "attnpool train --val-fraction "),
        ("attnpool train --optimizer sg", "attnpool train --optimizer sgd "),
        ("attnpool train --preset ci", "attnpool train --preset cifar "),
        ("attnpool prune runs --where ea", "attnpool prune runs --where early "),
    ],
)
def test_bash_completes(keys: str, becomes: str, completion: Path) -> None:
    assert becomes in typed(keys, completion)


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_there_is_a_script_for_other_shells(shell: str, capsys: Captured) -> None:
    assert main(["--print-completion", shell]) == 0
    assert "attnpool" in capsys.readouterr().out


def test_public_names_are_the_same_for_type_checkers() -> None:
    tree = ast.parse(Path(attnpool.__file__).read_text())
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]
    said = {(alias.asname, node.module) for node in checked.body for alias in node.names}  # type: ignore[attr-defined]
    homes = {(name, f"attnpool.{home}") for name, home in attnpool._HOMES.items()}
    assert said == {*homes, ("visualise", "attnpool")}
    assert set(attnpool.__all__) <= set(dir(attnpool))
