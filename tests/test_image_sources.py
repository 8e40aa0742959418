"""ImageNet and Visual Wake Words: real image files, laid out as they are distributed."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from attnpool.data.source import DataError, open_source


def save_image(file: Path, red: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (red, 0, 0)).save(file, "JPEG")


# imagenet:PATH


def save_imagenet(root: Path, *wnids: str) -> Path:
    for number, wnid in enumerate(wnids):
        for split, count in {"train": 4, "val": 2}.items():
            for i in range(count):
                save_image(root / split / wnid / f"{wnid}_{i}.JPEG", number)
    return root


def test_imagenet_has_the_usual_order_and_english_names(tmp_path: Path) -> None:
    save_imagenet(tmp_path, "n03126707", "n01440764", "n02012849", "n04399382")
    (tmp_path / "test").mkdir()
    save_image(tmp_path / "test" / "ILSVRC2012_test_00000001.JPEG")
    source = open_source(f"imagenet:{tmp_path}")
    names = ("tench, Tinca tinca", "crane (n02012849)", "crane (n03126707)", "teddy, teddy bear")
    assert source.classes == names
    assert (len(source.train), source.val, len(source.test)) == (16, None, 8)
    assert (source.image_size, source.name) == ((224, 224), f"imagenet:{tmp_path}")
    image, label = source.test[2]
    assert (image.size, label) == ((12, 10), 1)


def test_imagenet_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has to hold a folder train, but .*/train does not exist"):
        open_source(f"imagenet:{tmp_path}")
    save_imagenet(tmp_path, "n01440764", "cats")
    with pytest.raises(DataError, match=r"WordNet ids such as n01440764, but got 'cats'"):
        open_source(f"imagenet:{tmp_path}")
    (tmp_path / "val" / "cats").rename(tmp_path / "val" / "n02012849")
    with pytest.raises(DataError, match=r"'cats' is in .*train and not in .*val"):
        open_source(f"imagenet:{tmp_path}")
    save_image(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(DataError, match=r"one folder a class, named by its WordNet id, but .*val has none"):
        open_source(f"imagenet:{tmp_path}")


# vww:COCO_DIR

PERSON, DOG = 1, 18


def mark(image: int, area: float | None, category: int = PERSON, crowd: int = 0, **changed: Any) -> dict[str, Any]:
    made = {"image_id": image, "category_id": category, "iscrowd": crowd, "bbox": [0, 0, 50, 50]}
    return {**made, **({} if area is None else {"area": area}), **changed}


def save_coco(root: Path, split: str, marks: list[dict[str, Any]], images: int = 8, first: int = 0) -> None:
    """Images of 200 x 100 pixels, of which 100 are 0.5 %."""
    numbers = range(first, first + images)
    names = {number: f"COCO_{split}_{number:012}.jpg" for number in numbers}
    for name in names.values():
        save_image(root / split / name)
    coco = {
        "images": [{"id": n, "file_name": names[n], "width": 200, "height": 100} for n in numbers],
        "categories": [{"id": PERSON, "name": "person"}, {"id": DOG, "name": "dog"}],
        "annotations": marks,
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(coco))


MARKS = [
    mark(0, 100.0),  # exactly 0.5 %: too small
    mark(1, 100.001),
    mark(2, 5000.0, DOG),
    mark(3, 60.0),
    mark(3, 60.0),  # two small persons are none
    mark(4, 3000.0, crowd=1),
    mark(5, None),  # 50 x 50
    mark(6, None, bbox=[0, 0, 10, 10]),
    mark(7, 20.0, DOG),
    mark(7, 200.0),
]
LABELS = [0, 1, 0, 0, 1, 1, 0, 1]


@pytest.mark.parametrize("year", ["2014", "2017"])
def test_vww_by_the_published_rule(year: str, tmp_path: Path) -> None:
    save_coco(tmp_path, f"train{year}", MARKS)
    save_coco(tmp_path, f"val{year}", [mark(2, 101.0)], images=3)
    source = open_source(f"vww:{tmp_path}")
    assert list(source.train.targets) == LABELS
    assert list(source.test.targets) == [0, 0, 1]
    assert (source.classes, source.channels, source.val) == (("not-person", "person"), 3, None)
    image, label = source.train[1]
    assert (image.size, label) == ((12, 10), 1)


def test_vww_with_the_published_minival(tmp_path: Path) -> None:
    save_coco(tmp_path, "train2014", MARKS)
    save_coco(tmp_path, "val2014", [mark(n, 500.0) for n in (102, 103)], images=4, first=100)
    (tmp_path / "annotations" / "mscoco_minival_ids.txt").write_text("101\n103\n")
    source = open_source(f"vww:{tmp_path}")
    assert list(source.train.targets) == [*LABELS, 0, 1]
    assert list(source.test.targets) == [0, 1]


def test_vww_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has to hold annotations/instances_train2014.json .*/nowhere does not exist"):
        open_source(f"vww:{tmp_path / 'nowhere'}")
    save_coco(tmp_path, "train2014", MARKS)
    with pytest.raises(DataError, match=f"but {tmp_path} does not$"):
        open_source(f"vww:{tmp_path}")
    save_coco(tmp_path, "val2014", [])
    with pytest.raises(DataError, match=r"each split has to hold each class, but val of .* has no image of 'person'"):
        open_source(f"vww:{tmp_path}")
    save_coco(tmp_path, "val2014", [mark(99, 1.0)])
    with pytest.raises(DataError, match=r"instances_val2014.json has to be annotations of COCO, but KeyError: 99"):
        open_source(f"vww:{tmp_path}")
    (tmp_path / "annotations" / "instances_val2014.json").write_text("{")
    with pytest.raises(DataError, match=r"instances_val2014.json has to be annotations of COCO, but JSONDecodeError"):
        open_source(f"vww:{tmp_path}")
    save_coco(tmp_path, "val2014", MARKS)
    (tmp_path / "val2014" / "COCO_val2014_000000000003.jpg").unlink()
    with pytest.raises(DataError, match=r"COCO_val2014_000000000003.jpg does not exist"):
        open_source(f"vww:{tmp_path}")
