"""The built-in scenes: what is written can be read by COCO's own tools, and is what the boxes say."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from attnpool.data.fashion_mnist import CLASSES
from attnpool.data.images import read_image
from attnpool.detection.data import scenes
from attnpool.detection.data.scenes import FACE, background, make_scenes, silhouette
from attnpool.detection.data.source import open_boxes


def files(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_scenes_are_coco(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_scenes(tmp_path / "scenes", images=12, val=3, test=2, size=64)
    for split, count in {"train": 12, "val": 3, "test": 2}.items():
        names = {file.name for file in (root / "images" / split).iterdir()}
        assert names == {f"{number:04}.jpg" for number in range(count)}
    coco = COCO(str(root / "train.json"))
    capsys.readouterr()
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == [*CLASSES]
    assert {"info", "images", "annotations", "categories"} == {*coco.dataset}
    source = open_boxes(f"coco:{root / 'images'}:{root / 'train.json'}")
    assert (source.classes, source.dropped, len(source.images)) == (CLASSES, {}, 12)
    for i in range(12):
        image, boxes = source.images[i]
        sides = boxes.boxes[:, 2:] - boxes.boxes[:, :2]
        assert image.size == (64, 64)
        assert 1 <= len(boxes.labels) <= 4
        assert not boxes.crowd.any()
        assert (boxes.area <= sides.prod(1)).all()
        assert (sides <= 33).all()  # half of the scene, and a pixel that rounding adds


def test_scenes_are_a_function_of_the_seed(tmp_path: Path) -> None:
    make_scenes(tmp_path / "a", images=4, val=1, test=1, size=48, seed=3)
    make_scenes(tmp_path / "b", images=4, val=1, test=1, size=48, seed=3)
    make_scenes(tmp_path / "c", images=2, val=1, test=1, size=48, seed=4)
    a, b, c = (files(tmp_path / name) for name in "abc")
    assert a == b
    assert len({a["images/train/0000.jpg"], a["images/val/0000.jpg"], a["images/test/0000.jpg"]}) == 3
    assert a["images/train/0000.jpg"] != c["images/train/0000.jpg"]


def test_boxes_are_tight_and_little_is_covered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a black ground every thing is seen; of one that others cover, at least 70 % is."""
    monkeypatch.setattr(scenes, "background", lambda photo, size, random: Image.new("RGB", (size, size)))
    monkeypatch.setattr(scenes, "QUALITY", 100)
    root = make_scenes(tmp_path / "scenes", images=60, val=1, test=1, objects=(1, 3))
    content = json.loads((root / "train.json").read_text())
    counts = Counter(mark["image_id"] for mark in content["annotations"])
    alone = 0
    for picture in content["images"]:
        seen = np.asarray(read_image(root / "images" / picture["file_name"])).max(2) > 35
        marks = [mark for mark in content["annotations"] if mark["image_id"] == picture["id"]]
        area = sum(mark["area"] for mark in marks)
        if counts[picture["id"]] == 1:
            alone += 1
            y, x = np.nonzero(seen)
            found = [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]
            assert np.abs(np.subtract(found, marks[0]["bbox"])).max() <= 3  # soft edges, and JPEG
            assert seen.sum() == pytest.approx(area, rel=0.15)
        else:
            assert seen.sum() > 0.7 * area
    assert alone >= 10


def test_few_classes_and_many_things(tmp_path: Path) -> None:
    root = make_scenes(tmp_path / "scenes", images=5, val=1, test=1, size=64, classes=3, objects=(9, 9))
    source = open_boxes(f"coco:{root / 'images'}:{root / 'train.json'}")
    assert source.classes == CLASSES[:3]
    counts = [len(source.images.annotations(i).labels) for i in range(5)]
    assert all(1 <= count <= 9 for count in counts)
    assert {label for i in range(5) for label in source.images.annotations(i).labels.tolist()} == {1, 2, 3}


def test_silhouettes_have_no_holes() -> None:
    ring = np.zeros((28, 28), np.uint8)
    ring[6:22, 6:22] = 200
    ring[10:18, 10:18] = 0
    outline = silhouette(ring)
    assert outline.shape == (56, 56)
    assert {*outline.flatten().tolist()} == {0, 255}
    assert (outline[14:42, 14:42] == 255).all()
    assert outline[:10].max() == outline[:, -10:].max() == 0


def test_backgrounds_leave_the_face_out() -> None:
    """On a photograph that is white on the face only, every background has one colour."""
    left, top, right, bottom = FACE
    photo = Image.new("RGB", (512, 600))
    photo.paste((255, 255, 255), (left + 3, top + 3, right - 3, bottom - 3))  # interpolation sees pixels nearby
    for seed in range(200):
        pixels = np.asarray(background(photo, 32, np.random.default_rng(seed)))
        assert pixels.shape == (32, 32, 3)
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "images has to be positive, but got 0"),
        ({"val": -1}, "val has to be positive, but got -1"),
        ({"test": 0}, "test has to be positive, but got 0"),
        ({"size": 16}, "size has to be at least 32, but got 16"),
        ({"classes": 2}, "classes has to be from 3 to 10, but got 2"),
        ({"classes": 11}, "classes has to be from 3 to 10, but got 11"),
        ({"objects": (3, 2)}, r"objects has to be two positive integers, the smaller first, but got \(3, 2\)"),
        ({"seed": -1}, "seed has to be at least 0, but got -1"),
    ],
)
def test_arguments_are_checked(options: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make_scenes(tmp_path / "scenes", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "scenes").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=f"output has to be a new or an empty folder, but {tmp_path} exists and is"):
        make_scenes(tmp_path, images=1, val=1, test=1)
    assert files(tmp_path) == {"mine.txt": b"mine"}
    with pytest.raises(ValueError, match="output has to be a new or an empty folder"):
        make_scenes(tmp_path / "mine.txt", images=1, val=1, test=1)


@pytest.mark.parametrize("there", [False, True])
def test_a_killed_run_leaves_nothing_that_looks_like_data(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    if there:
        folder.mkdir()
    module = "attnpool.detection.data.scenes"
    code = f"from {module} import make_scenes; make_scenes({str(folder)!r}, images=40, val=1, test=100000, size=32)"
    process = subprocess.Popen([sys.executable, "-c", code])
    while not [*tmp_path.rglob("test/0001.jpg")]:  # train.json is written by now
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert [*tmp_path.rglob("train.json")]
    assert {*tmp_path.glob("scenes/*")} == ({*folder.glob(".scenes-*")} if there else set())
    if not there:
        assert make_scenes(folder, images=1, val=1, test=1, size=32) == folder
        assert sorted(os.listdir(folder)) == ["images", "test.json", "train.json", "val.json"]


def test_an_empty_folder_is_filled_and_a_new_one_is_open_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    make_scenes(".", images=1, val=1, test=1, size=32)
    assert sorted(os.listdir()) == ["images", "test.json", "train.json", "val.json"]
    make_scenes(tmp_path / "deep" / "new", images=1, val=1, test=1, size=32)
    assert os.listdir(tmp_path / "deep") == ["new"]
    assert (tmp_path / "deep/new").stat().st_mode == (tmp_path / "empty").stat().st_mode
    assert files(tmp_path / "deep/new") == files(tmp_path / "empty")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"output has to be a folder that can be written, but .*file/new: "):
        make_scenes(tmp_path / "file" / "new", images=1, val=1, test=1, size=32)
