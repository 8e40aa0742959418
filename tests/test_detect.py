"""`attnpool detect`: training that survives, figures, pictures, anchors, and clear errors."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

import attnpool
from attnpool.cli import _parse, main
from attnpool.data.source import DataError
from attnpool.detection.data import source as source_module
from attnpool.jobs._folder import STATE
from attnpool.jobs._presets import PRESETS, read_preset
from attnpool.jobs._survival import Stopped
from attnpool.jobs.detect import _data
from attnpool.jobs.detect._figure import detection_figure
from attnpool.jobs.detect.anchors import anchors
from attnpool.jobs.detect.evaluate import evaluate
from attnpool.jobs.detect.predict import predict
from attnpool.jobs.detect.train import train
from attnpool.jobs.scenes import scenes

ARCHITECTURE = "ssdlite:mobilenetv3_small-nlp_headfix2-12211111211"
SMALL: dict[str, Any] = {
    "image_size": [64],
    "epochs": 3,
    "batch_size": 8,
    "width": 0.5,
    "optimizer": "adamw",
    "crop": "iou",
    "zoom_out": 0.5,
    "jitter": 0.5,
    "ema_decay": 0.9,
    "workers": 0,
    "accelerator": "cpu",
    "progress": False,
}
"""An epoch takes three steps; everything that draws random numbers."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    made = scenes(str(tmp_path_factory.mktemp("data") / "scenes"), images=24, val=6, test=6, size=64, classes=3)
    return {"data": made.sources["train"], "val_data": made.sources["val"], "test_data": made.sources["test"]}


@pytest.fixture(scope="module")
def whole(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run that was never stopped."""
    return train(ARCHITECTURE, output=str(tmp_path_factory.mktemp("whole") / "run"), **data, **SMALL)


def test_a_training_leaves_what_the_next_verbs_need(whole: Any, data: dict[str, str], tmp_path: Path) -> None:
    folder = Path(whole.output)
    assert {"model.safetensors", "model.json", "config.yaml", "results.json", "last", "logs"} <= {*os.listdir(folder)}
    assert not (folder / STATE).exists()
    written = json.loads((folder / "results.json").read_text())
    assert written["test"]["ap50"] == whole.test.ap50
    card = (folder / "README.md").read_text()
    assert f"| test AP50 | **{100 * whole.test.ap50:.2f} %** (n = 6 images; no interval) |" in card
    assert "Images: 24 trained on, 6 to choose the epoch by, 6 tested on, once" in card
    (line,) = re.findall(r"^attnpool (detect train .*)$", card, re.MULTILINE)
    arguments = _parse(shlex.split(line))[1]
    decides = {name: value for name, value in SMALL.items() if name not in ("workers", "accelerator", "progress")}
    assert {name: arguments[name] for name in decides} == decides
    assert arguments["data"] == "coco:images:train.json"
    assert "pipeline_tag: object-detection" in card
    assert str(folder.parent) not in card
    assert len(whole.history) == 3
    assert {"train_loss", "val_ap", "val_ap50", "epoch", "step"} <= whole.history[0].keys()
    assert whole.val_ap == max(row["val_ap"] for row in whole.history)
    again = evaluate(whole.output, progress=False, workers=0)
    assert again.found == whole.test
    assert again.images == 6
    images = [str(file) for file in sorted((Path(data["data"].split(":")[1]) / "test").iterdir())[:2]]
    found = predict(whole.output, images, threshold=0.0, output=str(tmp_path / "found"), progress=False)
    assert [*found.images] == images
    listed = json.loads((tmp_path / "found/detections.json").read_text())
    assert len(listed[images[0]]) == len(found.images[images[0]]) > 0
    scores = [each.score for each in found.images[images[0]]]
    assert scores == sorted(scores, reverse=True)
    assert all(each.label in whole.classes for each in found.images[images[0]])
    pictures = sorted((tmp_path / "found").glob("*.png"))
    assert len(pictures) == 2
    with Image.open(pictures[0]) as picture:
        assert picture.size == (960, 960)


def test_a_photograph_is_turned_upright_before_things_are_found(
    whole: Any, data: dict[str, str], tmp_path: Path
) -> None:
    turned = Image.Exif()
    turned[0x112] = 6
    with Image.open(Path(data["data"].split(":")[1]) / "test/0000.jpg") as image:
        shown = image.crop((0, 0, 60, 40))
    shown.save(tmp_path / "shown.png")
    shown.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "stored.png", exif=turned)
    images = [str(tmp_path / f"{name}.png") for name in ("shown", "stored")]
    found = predict(whole.output, images, threshold=0.0, output=str(tmp_path), progress=False).images
    assert found[images[0]] == found[images[1]] != []
    with Image.open(tmp_path / "0001-stored.png") as picture:
        assert picture.size == (960, 640)


class Watched:
    """Images of which the `count`-th that is read calls `then`."""

    def __init__(self, images: Any, count: int, then: Any) -> None:
        self.images, self.left, self.then = images, count, then
        self.annotations, self.file, self.size = images.annotations, images.file, images.size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        self.left -= 1
        if self.left == 0:
            self.then()
        return self.images[index]


def test_a_run_that_is_stopped_in_mid_epoch_goes_on_to_the_same_weights(
    whole: Any, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    real = source_module.open_boxes

    def watched(text: str, **options: Any) -> Any:
        found = real(text, **options)
        stop = lambda: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
        return replace(found, images=Watched(found.images, 34, stop)) if text == data["data"] else found

    with monkeypatch.context() as patch:
        patch.setattr(_data, "open_boxes", watched)
        with pytest.raises(Stopped, match="stopped; the checkpoint of epoch 1"):
            train(ARCHITECTURE, output=str(output), **data, **SMALL)
    assert (output / STATE).exists()
    result = train(ARCHITECTURE, output=str(output), resume=True, **data, **SMALL)
    for part in ("last", "."):
        ours, theirs = (attnpool.load(folder / part).state_dict() for folder in (output, Path(whole.output)))
        assert all(torch.equal(value, ours[name]) for name, value in theirs.items())
    untimed = [[{**row, "seconds": 0} for row in each.history] for each in (result, whole)]
    assert untimed[0] == untimed[1]
    assert result.test == whole.test
    assert train(ARCHITECTURE, output=str(output), resume=True, **data, **SMALL).test == whole.test  # it is done


def test_two_processes_see_what_one_would(data: dict[str, str], tmp_path: Path) -> None:
    """Under torchrun, at the same global batch, with the norms of all: losses but for SSD's mean over found boxes."""
    options = {**SMALL, "epochs": 1, "ema_decay": None, "sync_batchnorm": True}
    alone = train(ARCHITECTURE, output=str(tmp_path / "one"), **data, **options)
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump({"architecture": ARCHITECTURE, **data, **options, "output": str(tmp_path / "two")})
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "attnpool"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "detect", "train", "--config", str(config)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    together = json.loads((tmp_path / "two/results.json").read_text())
    assert together["history"][0]["train_loss"] == pytest.approx(alone.history[0]["train_loss"], rel=0.05)


@pytest.mark.parametrize("detector", ["yolov3", "ssd"])
def test_fitted_anchors_are_those_of_the_detector(detector: Any, data: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "anchors.json"
    found = anchors(
        data["data"],
        detector=detector,
        image_size=[96],
        output=str(file),
        **({"count": 18} if detector == "ssd" else {}),
    )
    assert 0.6 < found.mean_iou <= 1
    with pytest.raises(FileExistsError, match="output has to be a new file"):
        anchors(data["data"], output=str(file))
    options = {**SMALL, "epochs": 1, "image_size": [96]}
    run = train(
        f"{detector}:mobilenetv3_small-skip-12211111211",
        output=str(tmp_path / "run"),
        anchors=str(file),
        **data,
        **options,
    )
    spec: Any = attnpool.load(run.output).spec
    assert spec.anchors == tuple(tuple(pair) for pair in found.anchors)


def say(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a mistake gets."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("attnpool: error: ")
    assert err.count("\n") == 1
    return err


def test_mistakes_are_one_line(
    whole: Any, data: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_words = ("detect", "train", ARCHITECTURE, "--data", data["data"], "--output", str(tmp_path / "x"))
    assert "did you mean 'train'" in say(capsys, "detect", "trian")
    assert "detect train has no option --epoch (did you mean" in say(capsys, *train_words, "--epoch", "3")
    assert "detector has to be written" in say(capsys, "detect", "train", "resnet18-skip-1222", "--data", "coco:a:b")
    assert "image_size has to be one number or two" in say(capsys, *train_words, "--image-size", "1", "2", "3")
    assert "anchors has to be published, fit, or a file" in say(capsys, *train_words, "--anchors", "none.json")
    other = say(capsys, *train_words, "--anchors", data["data"].split(":")[2])
    assert "train.json: KeyError: 'image_size'" in other
    assert "image_size element 1: expected int. Got value: 6.5" in say(capsys, *train_words, "--image-size", "6.5")
    many = ("detect", "anchors", data["data"], "--count", "600", "--detector", "ssd", "--output", str(tmp_path / "x"))
    assert f"data has to suit 600 anchors, but {data['data']} does not: shapes has to have at least" in say(
        capsys, *many
    )
    retina = ("detect", "train", "retinanet:resnet18-skip-1222", "--data", data["data"], "--anchors", "fit")
    assert "anchors has to be published for retinanet" in say(capsys, *retina)
    assert "epochs has to be positive" in say(capsys, *train_words, "--epochs", "0")
    assert "did you mean 'Trouser'" in say(capsys, *train_words, "--classes", "Trousers")
    assert "is of ssdlite:" in say(capsys, "evaluate", whole.output)
    assert "is of ssdlite:" in say(capsys, "predict", whole.output, "x.jpg")
    assert "threshold has to be from 0 to 1" in say(
        capsys, "detect", "predict", whole.output, "x.jpg", "--threshold", "2"
    )
    assert "cannot read the image" in say(capsys, "detect", "predict", whole.output, "x.jpg", "--no-progress")
    assert "checkpoint has to be a folder" in say(capsys, "detect", "evaluate", str(tmp_path))
    assert "new or an empty folder" in say(capsys, "data", "scenes", whole.output)
    assert not (tmp_path / "x").exists()


def test_what_would_fail_is_refused_before_anything_is_replaced(
    whole: Any, data: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole.output, folder)
    before = (folder / "model.safetensors").read_bytes()
    images, file = data["data"].split(":")[1:]
    content = json.loads(Path(file).read_text())
    for name, crowd in (("none", []), ("crowds", [{**each, "iscrowd": 1} for each in content["annotations"]])):
        (tmp_path / f"{name}.json").write_text(json.dumps({**content, "annotations": crowd}))
    words = ("detect", "train", ARCHITECTURE, "--width", "0.5", "--image-size", "64", "--workers", "0", "--overwrite")
    start = (*words, "--output", str(folder), "--data")
    alone = say(capsys, *start, data["data"], "--batch-size", "1")
    assert "batch_size has to be at least 2 for each process and accumulated batch" in alone
    for name in ("none", "crowds"):
        bad = f"coco:{images}:{tmp_path / name}.json"
        assert "val_data has to have boxes" in say(capsys, *start, data["data"], "--val-data", bad)
        assert "data has to have" in say(capsys, *start, bad, "--val-data", data["val_data"])
    assert "scale has to be two numbers" in say(capsys, *start, data["data"], "--scale", "0.5")
    assert "hflip has to be from 0 to 1" in say(capsys, *start, data["data"], "--no-augment", "--hflip", "7")
    sizes = tmp_path / "anchors.json"
    anchors(data["data"], detector="ssdlite", image_size=[96], count=18, output=str(sizes))
    wrong = say(capsys, *start, data["data"], "--anchors", str(sizes))
    assert "anchors has to be a file for images of (64, 64), but" in wrong
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_class_that_the_test_data_lacks_has_no_boxes_there(whole: Any, data: dict[str, str], tmp_path: Path) -> None:
    images, file = data["test_data"].split(":")[1:]
    content = json.loads(Path(file).read_text())
    content["categories"] = content["categories"][:2]
    content["annotations"] = [each for each in content["annotations"] if each["category_id"] in (1, 2)]
    assert [each["id"] for each in content["categories"]] == [1, 2]
    (tmp_path / "few.json").write_text(json.dumps(content))
    found = evaluate(
        whole.output, data=f"coco:{images}:{tmp_path}/few.json", output=str(tmp_path), progress=False, workers=0
    )
    assert found.found.class_ap[whole.classes[2]] is None
    content["categories"] = [{"id": 1, "name": "tree"}, {"id": 2, "name": "house"}]
    (tmp_path / "others.json").write_text(json.dumps(content))
    with pytest.raises(
        DataError, match=r"others.json has to have some of the classes T-shirt/top, .*, but has tree, house"
    ):
        evaluate(whole.output, data=f"coco:{images}:{tmp_path}/others.json", progress=False)


def test_a_box_at_the_top_keeps_its_name_and_dollars_are_text(tmp_path: Path) -> None:
    figure = detection_figure(
        torch.zeros(3, 64, 64, dtype=torch.uint8), [((4, 0, 30, 30), "a $\\foo$ 0.9", "a")], ["a"]
    )
    figure.savefig(tmp_path / "picture.png")
    (text,) = figure.axes[0].texts
    inside = text.get_window_extent()
    assert inside.y1 <= figure.bbox.height + 2


def test_the_help_names_the_classes_that_traffic_stands_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["detect", "train", "--help"])
    assert f"COCO's: {', '.join(_data.SUBSETS['traffic'])} (our reading" in " ".join(capsys.readouterr().out.split())
    page = " ".join((Path(__file__).parents[1] / "docs/detection.md").read_text().split())
    assert f"COCO's: {', '.join(_data.SUBSETS['traffic'][:-1])} and traffic light." in page


@pytest.mark.parametrize("name", PRESETS["detect", "train"])
def test_presets_are_arguments_and_say_where_they_come_from(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    values = read_preset(name, ("detect", "train"))
    assert PRESETS["detect", "train"][name].read_text().startswith("# ")
    assert main(["detect", "train", "ssd:resnet18-skip-1222", "--preset", name, "--data", "coco:a:b"]) == 2
    said = capsys.readouterr().err  # all of it was understood: the data is missing, or SSD has no several sizes
    assert "has to be annotations of COCO" in said or ("sizes has to be left out" in said and "sizes" in values)


def test_profile_takes_detectors(whole: Any, tmp_path: Path) -> None:
    file = tmp_path / "cost.json"
    words = ("--no-latency", "--no-training", "--json", str(file))
    assert main(["profile", whole.output, *words]) == 0
    assert json.loads(file.read_text())["input_size"] == [3, 64, 64]
    assert main(["profile", "yolov3:resnet18-skip-1222", "--input", "3x96x96", *words]) == 0
    assert json.loads(file.read_text())["name"] == "yolov3:resnet18-skip-1222"
