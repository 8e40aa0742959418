"""Model cards, and checkpoints that travel to and from the hub.

The hub is a stand-in (`hub.py`): a real HTTP server on this machine with the routes that are asked. What is ours and
the client of huggingface_hub run as they do elsewhere; the real hub is never asked.
"""

import json
import pickle
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hub
import pytest
import torch
import yaml
from huggingface_hub import ModelCard, constants
from PIL import Image

import attnpool
from attnpool.accounting.counts import count
from attnpool.accounting.profile import profile
from attnpool.cli import _parse, main
from attnpool.jobs import _card, _card_words
from attnpool.jobs._statistics import wilson
from attnpool.models.checkpoint import load, read_description, save

STRING = "resnet18-nlp_headfix2-1222"
TRAVELS = {"README.md", "model.json", "model.safetensors"}
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained checkpoint, in a folder whose name must not travel."""
    root = tmp_path_factory.mktemp("secret-home")
    for name, low in (("bright", 200), ("dark|er", 20)):
        (root / "photos" / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (40, 36), (low + i, low, low + 2 * i)).save(root / "photos" / name / f"{i}.png")
    words = ["train", STRING, "--data", f"folder:{root / 'photos'}", "--image-size", "32", "--width", "0.125"]
    words += ["--epochs", "2", "--workers", "0", "--no-progress", "--no-augment", "--batch-size", "8"]
    assert main([*words, "--output", str(root / "run")]) == 0
    return root / "run"


def point_to(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """What the variable HF_ENDPOINT does before huggingface_hub is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[hub.Hub]:
    """The stand-in, an empty cache, and a token for it."""
    with hub.running() as found:
        point_to(monkeypatch, found.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", hub.TOKEN)
        monkeypatch.chdir(tmp_path)
        yield found


def table(text: str) -> dict[str, list[str]]:
    """The rows of all tables of a card by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows}


def test_training_writes_a_card_that_says_what_was_measured(run: Path) -> None:
    card = ModelCard.load(run / "README.md")
    about, results = read_description(run), json.loads((run / "results.json").read_text())
    assert (card.data.library_name, card.data.pipeline_tag) == ("attnpool", "image-classification")
    assert card.data.license is None
    (found,) = card.data.eval_results
    assert found.metric_value == pytest.approx(results["test_accuracy"], abs=1e-6)
    assert found.dataset_name == "folder:photos"
    rows = table(card.text)
    n = about.metrics["test_images"]
    low, high = wilson(results["test_accuracy"], 8)
    assert n == 8
    interval = f"95 % interval {100 * low:.2f} % to {100 * high:.2f} %, n = 8 images"
    assert rows["test accuracy"] == [f"**{100 * results['test_accuracy']:.2f} %** ({interval})"]
    assert "Images: 28 trained on, 4 to choose the epoch by, 8 tested on, once" in card.text
    assert "`bright`, `dark|er`" in card.text
    assert "0.125 times its channels" in card.text
    assert "in stages 2, 3, 4 of 4 (strides 1222): `nlp_headfix2`. Self-attentive pooling" in card.text
    assert _card.NOT_STATED in card.text
    assert "secret-home" not in str(card)


def test_the_costs_are_those_of_profile(run: Path) -> None:
    rows = table((run / "README.md").read_text())
    whole, small = (profile(str(run), (3, 32, 32), dtype=d, latency=False, training=False) for d in ("float32", "int8"))
    for name, text in _card_words.CONVENTIONS.items():
        expected = [f"{getattr(found.memory, name) / 1e3:,.1f} kB" for found in (whole, small)]
        assert rows[text] == expected
    assert f"{whole.params:,} parameters; {whole.macs / 1e6:,.2f} million" in (run / "README.md").read_text()


@pytest.mark.parametrize("string", ["yolov3:resnet18-nlp-1222"])
def test_counts_are_those_of_profile(string: str) -> None:
    from attnpool.models.network import open_network

    with torch.device("meta"):
        model = open_network(string)
    found = count(model, (3, 64, 64))
    means = sum(2 * 2 * 2 * channels * side**2 for channels, side in ((128, 8), (256, 4), (512, 2)))  # of x * w, of w
    for dtype, memory in found.memory.items():
        real = profile(model, (3, 64, 64), dtype=dtype, latency=False, training=False)  # type: ignore[arg-type]
        macs = found.macs + (means if dtype == "int8" else 0)  # where they are convolutions
        assert (memory, macs, found.params) == (real.memory, real.macs, real.params)


def test_the_command_on_the_card_trains_the_same(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = re.findall(r"^attnpool (train .*)$", (run / "README.md").read_text(), re.MULTILINE)
    function, arguments = _parse(line.split())
    given = yaml.safe_load((run / "config.yaml").read_text())
    assert function is attnpool.train
    differs = {name for name, value in given.items() if value != arguments[name] and value != [*[arguments[name]]]}
    assert differs - {"scale"} == {"data", "output", "workers", "progress"}
    assert arguments["data"] == "folder:photos"


def test_wilson_is_that_of_scipy() -> None:
    from scipy.stats import binomtest

    for right, n in ((0, 1), (1, 1), (3, 8), (1734, 2000), (2000, 2000)):
        interval = binomtest(right, n).proportion_ci(method="wilson")
        assert wilson(right / n, n) == pytest.approx((interval.low, interval.high), abs=1e-12)
    with pytest.raises(ValueError, match=r"n positive, but got 0\.5 and 0"):
        wilson(0.5, 0)


def test_no_folder_of_the_machine_is_named() -> None:
    known = {
        "folder:/home/me/photos": "folder:photos",
        "folder:photos/": "folder:photos",
        "npz:/data/a b.npz": "npz:a b.npz",
        "coco:/a/images:/b/train.json": "coco:images:train.json",
        "wds//data/shards": "wds/shards",
        "hfds/owner/name": "hfds/owner/name",
        "fashion_mnist": "fashion_mnist",
    }
    assert {text: _card_words.portable(text) for text in known} == known


def test_pruning_writes_a_card_but_over_nobody_elses_text(run: Path, tmp_path: Path) -> None:
    words = ["prune", str(run), "--finetune-epochs", "0", "--workers", "0", "--no-progress"]
    assert main([*words, "--output", str(tmp_path / "pruned")]) == 0
    text = (tmp_path / "pruned" / "README.md").read_text()
    assert "Channels were removed at ratio 0.5 (all layers)." in text
    assert "attnpool prune run --finetune-epochs 0" in text
    assert "n = 8 images" in text
    assert "secret-home" not in text
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("# Mine\n")
    with pytest.warns(UserWarning, match="is no model card of attnpool: it stays"):
        _card.write_card(tmp_path / "mine")
    assert (tmp_path / "mine" / "README.md").read_text() == "# Mine\n"


def test_overwriting_takes_the_old_card_along_but_no_text_of_others(run: Path, tmp_path: Path) -> None:
    from attnpool.jobs._folder import clear_run

    for name, text in (("ours", (run / "README.md").read_text()), ("other", "---\nlicense: mit\n---\n# Mine\n")):
        shutil.copytree(run, tmp_path / name)
        (tmp_path / name / "README.md").write_text(text)
        clear_run(tmp_path / name, overwrite=True)
        assert (tmp_path / name / "README.md").exists() == (name == "other")


def test_a_card_that_cannot_be_written_is_a_warning(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "model.json", tmp_path)
    with pytest.warns(UserWarning, match=r"the model card .* is not written: checkpoint has to be a folder"):
        _card.write_card(tmp_path)
    assert not (tmp_path / "README.md").exists()


def test_a_checkpoint_without_measurements_says_so(run: Path, tmp_path: Path) -> None:
    model = load(run)
    save(model, replace(model.description, metrics={}, training={}), tmp_path)  # type: ignore[arg-type]
    text = _card.make_card(tmp_path)
    assert "Not measured: `attnpool evaluate CHECKPOINT --data SOURCE` does it." in text
    assert "Source: `not recorded`" in text


def test_a_checkpoint_comes_back_as_it_went(run: Path, server: hub.Hub, capsys: Captured) -> None:
    (run / "state.safetensors").write_bytes(b"of the optimiser")
    (run / "old.pth").write_bytes(b"a pickle")
    assert main(["push", str(run), "me/photos", "--licence", "mit"]) == 0
    (run / "state.safetensors").unlink()
    assert "everyone" in capsys.readouterr().out
    ((commit, files),) = server.repositories["me/photos"].commits
    assert files.keys() == TRAVELS
    assert not any(b"secret-home" in content for content in files.values())
    assert main(["pull", "me/photos", "-o", "theirs", "--revision", commit]) == 0
    assert commit in capsys.readouterr().out
    theirs, ours = attnpool.load("theirs"), attnpool.load(run)
    assert all(torch.equal(a, b) for a, b in zip(theirs.state_dict().values(), ours.state_dict().values(), strict=True))
    assert (theirs.spec, theirs.description.metrics) == (ours.spec, ours.description.metrics)
    assert theirs.description.training["data"] == "folder:photos"
    assert {file.name for file in Path("theirs").iterdir()} == {*TRAVELS, ".lock"}
    card = ModelCard.load("theirs/README.md")
    assert card.data.license == "mit"
    assert "## Licence\n\n`mit`" in card.text
    assert "attnpool pull me/photos --output checkpoint" in card.text
    assert main(["predict", "theirs", str(run.parent / "photos" / "bright" / "1.png")]) == 0


def test_a_second_push_is_another_commit_and_the_first_stays(run: Path, server: hub.Hub) -> None:
    first = attnpool.push(str(run), "me/photos", private=True)
    again = attnpool.push(str(run), "me/photos")
    assert first.private
    assert again.private  # as it is there
    assert len(server.repositories["me/photos"].commits) == 2
    pulled = attnpool.pull("me/photos", revision=first.commit)
    assert (pulled.commit, pulled.output) == (first.commit, "runs/photos")


def test_a_card_edited_by_hand_travels(run: Path, server: hub.Hub, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "edited")
    card = tmp_path / "edited" / "README.md"
    card.write_text(card.read_text().replace("## Data", "Seen in the rain, too.\n\n## Data"))
    attnpool.push(str(tmp_path / "edited"), "me/rain")
    (tmp_path / "edited" / "README.md").unlink()
    attnpool.push(str(tmp_path / "edited"), "me/sun")
    sent = [server.repositories[name].commits[-1][1]["README.md"].decode() for name in ("me/rain", "me/sun")]
    assert ["Seen in the rain" in text for text in sent] == [True, False]
    assert all(text.startswith("---\nlibrary_name: attnpool") for text in sent)


def test_replacing_needs_overwrite(run: Path, server: hub.Hub, capsys: Captured) -> None:
    attnpool.push(str(run), "me/photos")
    attnpool.pull("me/photos", output="out")
    before = Path("out/model.safetensors").stat().st_mtime_ns
    asked = len(server.asked)
    assert main(["pull", "me/photos", "-o", "out"]) == 2
    assert "out holds a checkpoint; or say --overwrite" in capsys.readouterr().err
    assert len(server.asked) == asked
    attnpool.pull("me/photos", output="out", overwrite=True)
    assert Path("out/model.safetensors").stat().st_mtime_ns > before


class Trap:
    """What would happen if anything were unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("sprung"),)  # type: ignore[return-value]


def test_what_is_not_ours_is_refused_before_anything_is_written(
    run: Path, server: hub.Hub, capsys: Captured, tmp_path: Path
) -> None:
    whole = {name: (run / name).read_bytes() for name in TRAVELS}
    newer = json.dumps({**json.loads(whole["model.json"]), "format": 99}).encode()
    weights, has = "model.safetensors", "repository has to hold a checkpoint that attnpool push made, but me/x"
    cases = {
        "has no model.json": {"pytorch_model.bin": pickle.dumps(Trap()), weights: whole[weights]},
        "has no model.safetensors": {"model.json": whole["model.json"], "model.pth": pickle.dumps(Trap())},
        "does not: model.json was not written by attnpool": {weights: whole[weights], "model.json": b"{}"},
        "does not: model.json is not whole": {weights: whole[weights], "model.json": b"{"},
        "model.json has to be of format 1, but is of 99": {weights: whole[weights], "model.json": newer},
    }
    for says, files in cases.items():
        server.repositories["me/x"] = hub.Repository()
        server.repositories["me/x"].commit(files)
        for words in (["pull", "me/x", "-o", "out"], ["push", str(run), "me/x"]):
            assert main(words) == 2
            err = capsys.readouterr().err
            assert err.startswith(f"attnpool: error: {has} ")
            assert says in err
            assert len(err.splitlines()) == 1
        assert not any("GET" in line and weights in line for line in server.asked)
        assert len(server.repositories["me/x"].commits) == 1
    assert not Path("out").exists()
    assert not Path("sprung").exists()


def test_weights_that_do_not_belong_there_are_refused(run: Path, server: hub.Hub, capsys: Captured) -> None:
    whole = {name: (run / name).read_bytes() for name in TRAVELS}
    server.repositories["me/x"] = hub.Repository()
    for weights, says in (
        (pickle.dumps(Trap()), "not a whole safetensors file"),
        (b"", "not a whole safetensors file"),
    ):
        server.repositories["me/x"].commit({**whole, "model.safetensors": weights})
        assert main(["pull", "me/x", "-o", "out"]) == 2
        err = capsys.readouterr().err
        assert "repository has to hold a whole checkpoint, but me/x does not: model.safetensors is" in err
        assert says in err
        assert len(err.splitlines()) == 1
    edited = whole["model.json"].replace(b"bright", b"blight")
    server.repositories["me/x"].commit({**whole, "model.json": edited})
    assert main(["pull", "me/x", "-o", "out"]) == 2
    assert "do not belong together: one was edited" in capsys.readouterr().err
    assert not Path("out").exists()
    assert not Path("sprung").exists()


def refused(words: list[str], capsys: Captured) -> str:
    """The one line that is said of a mistake."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err.removeprefix("attnpool: error: ").strip()


def test_what_the_hub_has_not_or_does_not_allow_is_one_line(
    run: Path, server: hub.Hub, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, url = str(run), server.url
    attnpool.push(checkpoint, "me/open")
    attnpool.push(checkpoint, "me/hidden", private=True)
    server.repositories["me/gated"] = hub.Repository(gated=True)
    assert f"one on {url} that you may read, but me/no is not" in refused(["pull", "me/no"], capsys)
    said = refused(["pull", "me/open", "--revision", "v9"], capsys)
    assert said == "revision has to be a branch, a tag or a commit of me/open, but got 'v9'"
    assert "me/gated is open to those only whom its owner admits" in refused(["pull", "me/gated"], capsys)
    said = refused(["push", checkpoint, "you/photos"], capsys)
    assert said == "the token has to allow writing to you/photos, but it does not"
    said = refused(["push", checkpoint, "me/open", "--private"], capsys)
    assert said == "private has to be false for me/open, which everyone sees; change that on the hub first"
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    assert f"one that {url} knows: hf auth login" in refused(["pull", "me/open"], capsys)
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "nowhere")
    assert f"a token has to be there to write to {url}: hf auth login" in refused(
        ["push", checkpoint, "me/new"], capsys
    )
    assert "me/hidden is not, or is private" in refused(["pull", "me/hidden"], capsys)
    assert len(server.repositories["me/open"].commits) == 1
    assert not Path("runs").exists()


def test_without_a_network(run: Path, server: hub.Hub, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    says = f"{server.url} has to be asked, but HF_HUB_OFFLINE forbids it"
    assert refused(["pull", "me/photos"], capsys) == says
    assert refused(["push", str(run), "me/photos"], capsys) == says
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_to(monkeypatch, "http://127.0.0.1:9")  # nobody listens there
    for words in (["pull", "me/photos"], ["push", str(run), "me/photos"]):
        assert refused(words, capsys).startswith("http://127.0.0.1:9 cannot be reached: ")


WRONG = {
    "pull photos": "repository has to be OWNER/NAME, e.g. me/photos, but got 'photos'",
    "pull me/../x": "repository has to be OWNER/NAME",
    "pull https://huggingface.co/me/x": "repository has to be OWNER/NAME",
    "push nowhere me/x": "but nowhere does not exist",
    "push nowhere me/x --licence MIT": "licence has to be a name of the hub, e.g. mit or apache-2.0, but got 'MIT'",
}


@pytest.mark.parametrize(("line", "says"), WRONG.items())
def test_a_mistake_is_one_line_without_the_hub(line: str, says: str, server: hub.Hub, capsys: Captured) -> None:
    assert says in refused(line.split(), capsys)
    assert server.asked == []
