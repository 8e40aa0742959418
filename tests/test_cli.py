"""The command line: what it prints, and what it says of a mistake."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from attnpool.cli import main
from attnpool.jobs.predict import predict
from attnpool.models.checkpoint import read_description
from attnpool.registry import DETECTORS, POOLS, SOURCES

Captured = pytest.CaptureFixture[str]
STRING = "resnet18-maxp-1222"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 2 classes with 20 images each: bright and dark."""
    root = tmp_path_factory.mktemp("photos")
    for name, low in (("bright", 200), ("dark", 20)):
        (root / name).mkdir()
        for i in range(20):
            Image.new("RGB", (40, 36), (low + i, low, low + 2 * i)).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def checkpoint(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained on them from a YAML file, one value of it overruled on the command line."""
    folder = tmp_path_factory.mktemp("run")
    config = {"architecture": STRING, "data": f"folder:{photos}", "epochs": 9, "image_size": 32, "width": 0.125}
    (folder / "given.yaml").write_text(yaml.safe_dump({**config, "batch_size": 8, "progress": False, "workers": 0}))
    words = ["train", "--epochs", "3", "--output", str(folder / "out"), "--config", str(folder / "given.yaml")]
    assert main([*words, "--no-augment"]) == 0
    return folder / "out"


def test_the_command_line_overrules_the_file_and_the_resolved_configuration_is_saved(checkpoint: Path) -> None:
    saved = yaml.safe_load((checkpoint / "config.yaml").read_text())
    assert (saved["epochs"], saved["width"], saved["augment"], saved["optimizer"]) == (3, 0.125, False, "sgd")
    assert read_description(checkpoint / "last").training["epoch"] == 3


def test_the_saved_configuration_runs_again(checkpoint: Path, tmp_path: Path, capsys: Captured) -> None:
    words = ["train", "--config", str(checkpoint / "config.yaml"), "--output", str(tmp_path / "again")]
    assert main(words) == 0
    assert "test accuracy" in capsys.readouterr().out
    first, second = (json.loads((f / "results.json").read_text()) for f in (checkpoint, tmp_path / "again"))
    assert first["test_loss"] == second["test_loss"]


def test_evaluate(checkpoint: Path, photos: Path, tmp_path: Path, capsys: Captured) -> None:
    words = ["evaluate", str(checkpoint), "--data", f"folder:{photos}", "--output", str(tmp_path), "--workers", "0"]
    assert main([*words, "--no-progress"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("top-1", "loss", "bright", "dark"))
    assert "top-5" not in out  # of two classes
    report = json.loads((tmp_path / "evaluation.json").read_text())["report"]
    assert report["images"] == sum(map(sum, report["confusion"])) == 8
    right = [row[i] for i, row in enumerate(report["confusion"])]
    assert report["top1"] == pytest.approx(sum(right) / 8)
    assert report["per_class"] == pytest.approx([r / 4 for r in right])
    assert report["top5"] == 1.0
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 200


def test_evaluate_refuses_other_classes(checkpoint: Path, capsys: Captured) -> None:
    assert main(["evaluate", str(checkpoint), "--data", "fashion_mnist"]) == 2
    assert "classes" in capsys.readouterr().err


def test_predict(checkpoint: Path, photos: Path, capsys: Captured) -> None:
    files = [str(photos / name / "3.png") for name in ("bright", "dark")]
    assert main(["predict", str(checkpoint), *files, "--top", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("%") == 2
    assert re.search("bright|dark", out)


def test_predict_turns_a_photograph_upright(checkpoint: Path, tmp_path: Path) -> None:
    shown = Image.linear_gradient("L").resize((24, 24))
    turned = Image.Exif()
    turned[0x112] = 8
    shown.save(tmp_path / "shown.png")
    shown.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "stored.png", exif=turned)
    found = predict(str(checkpoint), [str(tmp_path / f"{name}.png") for name in ("shown", "stored")]).images
    first, second = found.values()
    assert first == second


@pytest.mark.parametrize(
    ("what", "names"), [("pools", POOLS), ("models", ["mobilenet_v2"]), ("detectors", DETECTORS), ("data", SOURCES)]
)
def test_list(what: str, names: list[str], capsys: Captured) -> None:
    assert main(["list", what]) == 0
    out = capsys.readouterr().out
    assert names
    assert all(re.search(rf"│ {name} +│", out) for name in names)


WRONG = {
    "train nope-nlp-1222": "'nope' at position 0 is not a backbone",
    "train resnet18-nlq-1222": "did you mean 'nlp'",
    "train resnet18-nlp-122": "4 digits from 1 to 9",
    "train resnet18-nlp_headfx2-1222": "did you mean 'headfixN'",
    f"train {STRING} --clip-norm 0": "clip_norm has to be positive",
    f"train {STRING} --attention after:nowhere": "attention has to name a block",
    f"train {STRING} --attention layer1": "after:BLOCK or replace:BLOCK",
    "convert nowhere.pth out": "required: arch",
    f"convert nowhere.pth out --arch {STRING}": "nowhere.pth cannot be read",
    "train": "required: architecture",
    f"train {STRING} --epochs x": "epochs: expected int. Got value: x",
    f"train {STRING} --epochs 0": "epochs has to be positive",
    f"train {STRING} --epohcs 3": "did you mean '--epochs'",
    f"train {STRING} --optimizer sdg": "'sgd', 'adam', 'adamw'",
    f"train {STRING} --data fashion": "did you mean 'fashion_mnist'",
    f"train {STRING} --data folder:nowhere": "nowhere does not exist",
    f"train {STRING} --data folder": "folder:PATH",
    f"train {STRING} --data npz:nowhere.npz": "nowhere.npz",
    f"train {STRING} --image-size 8": "image_size has to suit",
    f"train {STRING} --accelerator abacus": "abacus",
    f"train {STRING} --output /dev/null/run": "/dev/null/run",
    "train --config nowhere.yaml": "nowhere.yaml",
    "train --config train.yaml": "train.yaml",
    "tran resnet18-skip-1222": "one that attnpool --help lists (did you mean 'train'?), but got 'tran'",
    "data scene": "data has to be followed by one of scenes (did you mean 'scenes'?), but got 'scene'",
    "detect": "followed by one of train, evaluate, predict, anchors, but is followed by nothing",
    "detect-train": "lists (did you mean 'detect'",
    "--print-completion": "print-completion has to be a shell (known: bash, zsh, tcsh, fish, powershell), but got ''",
    "--print-completion bsh": "(did you mean 'bash'",
    "train yolov3:resnet18-nlp-1222": "is a detector's: attnpool detect train and attnpool.detection.build take",
    "convert x.pth out --arch yolov3:resnet18-nlp-1222": "is a detector's: attnpool detect train",
    "fit --ram 1kB --flash 1kB --backbones yolov3:mobilenet": "'yolov3:mobilenet' is a detector's: attnpool detect",
    "fit --ram 1kB --flash 1kB --backbones mobilnet": "'mobilnet' is not a backbone (did you mean 'mobilenet'",
    "prune yolov3:resnet18-nlp-1222": "is a detector's string, which attnpool detect train takes",
    "detect evaluate yolov3:resnet18-nlp-1222": "is a detector's string, which attnpool detect train takes",
    "detect train yolo:resnet18-nlp-1222 --data coco:a:b": "the name of a detector (did you mean 'yolov3'?), but got",
    "detect train zz:resnet18-nlp-1222 --data coco:a:b": "the name of a detector (known: faster_rcnn, retinanet, ssd,",
    "profile yolov4:resnet18-nlp-1222": "(did you mean 'yolov3'",
    "": "a command has to be given; attnpool --help lists them",
    "evaluate nowhere": "as attnpool train writes it, but nowhere does not exist",
    "predict nowhere cat.png": "but nowhere does not exist",
    "predict nowhere": "required: images",
    "prune nowhere": "but nowhere does not exist",
    "prune nowhere --where late": "'all', 'early'",
    "prune nowhere --lr 0": "lr has to be positive",
    "list pool": "'pools', 'models', 'detectors', 'data'",
}


@pytest.mark.parametrize(("line", "says"), WRONG.items())
def test_a_mistake_is_exit_code_2_and_one_line(
    line: str, says: str, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("attnpool: error: ")
    assert says in captured.err
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_a_broken_image_is_named(checkpoint: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert main(["predict", str(checkpoint), str(tmp_path / "broken.png")]) == 2
    assert "broken.png" in capsys.readouterr().err


def test_an_image_of_16_bits_is_refused_as_in_training(checkpoint: Path, tmp_path: Path, capsys: Captured) -> None:
    Image.new("I;16", (40, 40), 30000).save(tmp_path / "deep.png")
    assert main(["predict", str(checkpoint), str(tmp_path / "deep.png")]) == 2
    assert "more than 8 bits" in capsys.readouterr().err


def test_names_with_brackets_are_shown_as_they_are(checkpoint: Path, tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "[old]" / "a[/b].png"
    file.parent.mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(file)
    assert main(["predict", str(checkpoint), str(file)]) == 0
    assert "[old]" in "".join(capsys.readouterr().out.split())


def test_a_loss_that_is_not_finite_stops_the_run(photos: Path, tmp_path: Path, capsys: Captured) -> None:
    words = ["train", STRING, "--data", f"folder:{photos}", "--image-size", "32", "--width", "0.125", "--epochs", "2"]
    run = [*words, "--workers", "0", "--no-progress", "--lr", "1e30", "--batch-size", "8", "--warmup-epochs", "0"]
    assert main([*run, "--output", str(tmp_path / "run")]) == 2
    assert "not finite" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model.json").exists()


def test_overwriting_leaves_nothing_of_the_earlier_run(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(checkpoint, folder)
    words = ["train", STRING, "--data", f"folder:{photos}", "--image-size", "32", "--width", "0.125", "--epochs", "1"]
    assert main([*words, "--workers", "0", "--no-progress", "--output", str(folder), "--overwrite"]) == 0
    assert len(json.loads((folder / "results.json").read_text())["history"]) == 1
    assert len(list((folder / "logs" / "tensorboard").glob("events*"))) == 1


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="nope"):
        main(["train", "nope-nlp-1222", "--debug"])


def test_as_a_program(tmp_path: Path) -> None:
    environment = {**os.environ, "NO_COLOR": "1"}
    for words, code in ((["train", "nope-nlp-1222"], 2), (["list", "data"], 0), (["--version"], 0)):
        done = subprocess.run(
            [sys.executable, "-m", "attnpool", *words], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert done.returncode == code
        assert "Traceback" not in done.stderr + done.stdout
        assert len(done.stderr.splitlines()) == (code == 2)


def test_a_mismatched_torchvision_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    code = "from attnpool import create_model"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "ImportError: torchvision does not fit torch" in done.stderr
    words = [sys.executable, "-m", "attnpool", "list", "pools"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("attnpool: error: torchvision does not fit torch")
    assert len(done.stderr.splitlines()) == 1
