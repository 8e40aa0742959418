"""Visual Wake Words: is there a person in the photograph? Made of COCO's annotations."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attnpool.data.folder import IMAGENET_MEAN, IMAGENET_STD, FolderImages, Sample
from attnpool.data.source import DataError, Source
from attnpool.registry import SOURCES

CLASSES = ("not-person", "person")
SMALLEST = 0.005  # part of the image's area that a person has to exceed
MINIVAL = "mscoco_minival_ids.txt"


@SOURCES.register("vww", paper="Chowdhery et al., 2019, arXiv 1906.05721")
def vww(coco_dir: str) -> Source:
    """Visual Wake Words: person if COCO marks one on more than 0.5 % of the image, else not-person.

    https://arxiv.org/abs/1906.05721. COCO_DIR holds annotations/instances_train2014.json and instances_val2014.json,
    and the photographs in train2014 and val2014; or the same of 2017. train is the training split, of which validation
    is a hold-out; val is the test split. With annotations/mscoco_minival_ids.txt (8,059 ids, one a line) beside the
    files of 2014 the splits are the published ones: these are the test split, and the rest of val is trained on, too.

    Deviations from the paper, as in the scripts that it is made with: the area is COCO's `area`, that of the outlined
    person, and not that of the box around it (which counts only where there is no `area`); crowds count as persons.

    Raises:
        DataError: Missing files, files that are no annotations of COCO, a photograph that is missing, or a split
            without one of the two classes.
    """
    root = Path(coco_dir).expanduser()
    year = _year(root)
    labels = {split: _labelled(root, f"{split}{year}") for split in ("train", "val")}
    ids = root / "annotations" / MINIVAL
    if year == "2014" and ids.is_file():
        minival = {*ids.read_text().split()}
        rest = {number: sample for number, sample in labels["val"].items() if number not in minival}
        labels["train"] |= rest
        labels["val"] = {number: sample for number, sample in labels["val"].items() if number in minival}
    train, test = (_images(root, split, labels[split].values()) for split in ("train", "val"))
    return Source(f"vww:{root.resolve()}", train, test, CLASSES, 3, IMAGENET_MEAN, IMAGENET_STD)


def _year(root: Path) -> str:
    for year in ("2014", "2017"):
        files = [root / "annotations" / f"instances_{split}{year}.json" for split in ("train", "val")]
        if all(file.is_file() for file in files):
            return year
    raise DataError(
        f"coco_dir of a vww source has to hold annotations/instances_train2014.json and instances_val2014.json (or "
        f"those of 2017), but {root} {'does not' if root.is_dir() else 'does not exist'}"
    )


def _labelled(root: Path, split: str) -> dict[str, Sample]:
    """File and label of every image, by its number."""
    file = root / "annotations" / f"instances_{split}.json"
    try:
        coco = json.loads(file.read_bytes())
        areas = {image["id"]: image["height"] * image["width"] for image in coco["images"]}
        (person,) = (category["id"] for category in coco["categories"] if category["name"] == "person")
        marks = [mark for mark in coco["annotations"] if mark["category_id"] == person]
        shown = {mark["image_id"] for mark in marks if _area(mark) / areas[mark["image_id"]] > SMALLEST}
        names = {image["id"]: str(root / split / image["file_name"]) for image in coco["images"]}
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise DataError(f"{file} has to be annotations of COCO, but {type(error).__name__}: {error}") from error
    return {str(number): (name, int(number in shown)) for number, name in names.items()}


def _area(mark: dict[str, Any]) -> float:
    _, _, width, height = mark["bbox"]
    return float(mark.get("area", width * height))


def _images(root: Path, split: str, samples: Iterable[Sample]) -> FolderImages:
    images = FolderImages([*samples])
    for file, _ in images.samples:
        if not Path(file).is_file():
            raise DataError(f"photographs of COCO have to lie in {root}, but {file} does not exist")
    for label, name in enumerate(CLASSES):
        if label not in images.targets:
            raise DataError(f"each split has to hold each class, but {split} of {root} has no image of {name!r}")
    return images
