"""COCO's format: a folder of images, and one JSON file with the boxes of all of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnpool.data.source import DataError
from attnpool.detection.data.files import ImageFile, Mark, MarkedFiles
from attnpool.detection.data.source import BoxSource
from attnpool.registry import BOX_SOURCES

LARGEST = 2**63
Entries = Mapping[int, Mapping[str, Any]]


@BOX_SOURCES.register("coco", paper="Lin et al., ECCV 2014, arXiv 1405.0312")
def coco(images: str, annotations: str) -> BoxSource:
    """Boxes of a file of COCO: `images` is the folder that its file names start from, `annotations` the JSON file.

    https://arxiv.org/abs/1405.0312. The classes are in the order of the category ids. Boxes that are marked `iscrowd`
    are crowds. A box is clipped to its image; what has no width or height, or lies outside, is left out and counted.
    Images without boxes stay.

    Raises:
        DataError: A missing file, a file that is not of COCO, or an entry that breaks its rules; it names the entry.
    """
    folder, file = Path(images).expanduser(), Path(annotations).expanduser()
    content = _read(file)
    categories, pictures, marks = (_entries(file, content, key) for key in ("categories", "images", "annotations"))
    for key, entries in {"categories": categories, "images": pictures}.items():
        if not entries:
            raise DataError(f"{key} of {file} has to hold at least one, but is empty")
    classes = {number: _name(file, number, categories[number]) for number in sorted(categories)}
    if len({*classes.values()}) < len(classes):
        raise DataError(f"categories of {file} have to have different names, but got {', '.join(classes.values())}")
    places = {number: position for position, number in enumerate(pictures)}
    labels = {number: label for label, number in enumerate(classes, 1)}
    found = MarkedFiles(
        [_image(file, folder, number, entry) for number, entry in pictures.items()],
        [_mark(file, number, entry, places, labels) for number, entry in marks.items()],
    )
    return BoxSource(f"coco:{folder.resolve()}:{file.resolve()}", found, tuple(classes.values()), found.dropped)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} has to be annotations of COCO, but {type(error).__name__}: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{file} has to be annotations of COCO, an object, but is {type(content).__name__}")
    return content


def _entries(file: Path, content: Mapping[str, Any], key: str) -> Entries:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{file} has to be annotations of COCO, but has no list of {key}")
    numbered: dict[int, Mapping[str, Any]] = {}
    for position, entry in enumerate(entries):
        number = entry.get("id")
        if type(number) is not int or abs(number) >= LARGEST:
            raise DataError(f"id of {key} has to be an integer, but that of entry {position} in {file} is {number!r}")
        if number in numbered:
            raise DataError(f"id of {key} has to be different for each, but {number} is twice in {file}")
        numbered[number] = entry
    return numbered


def _name(file: Path, number: int, entry: Mapping[str, Any]) -> str:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise DataError(f"name has to be a text, but that of category {number} in {file} is {name!r}")
    return name


def _image(file: Path, folder: Path, number: int, entry: Mapping[str, Any]) -> ImageFile:
    name, width, height = (entry.get(key) for key in ("file_name", "width", "height"))
    if not isinstance(name, str):
        raise DataError(f"file_name has to be a text, but that of image {number} in {file} is {name!r}")
    if type(width) is not int or type(height) is not int or not 1 <= min(width, height) <= max(width, height) < 2**31:
        raise DataError(
            f"width and height have to be positive integers, but those of image {number} in {file} are {width!r} and "
            f"{height!r}"
        )
    path = folder / name
    if not path.is_file():
        fault = "is no file" if path.exists() else "does not exist"
        raise DataError(f"images of {file} have to lie in {folder}, but {path} (image {number}) {fault}")
    return ImageFile(str(path), width, height, number)


def _mark(
    file: Path, number: int, entry: Mapping[str, Any], places: Mapping[int, int], labels: Mapping[int, int]
) -> Mark:
    for key, list_name, known in (("image_id", "images", places), ("category_id", "categories", labels)):
        if type(entry.get(key)) is not int or entry[key] not in known:
            raise DataError(
                f"{key} has to be an id of {list_name}, but that of annotation {number} in {file} is {entry.get(key)!r}"
            )
    bbox, area = entry.get("bbox"), entry.get("area")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_finite, bbox)):
        raise DataError(f"bbox has to be 4 finite numbers, but that of annotation {number} in {file} is {bbox!r}")
    if area is not None and (not _finite(area) or area < 0):
        raise DataError(
            f"area has to be a finite number of at least 0, but that of annotation {number} in {file} is {area!r}"
        )
    x, y, width, height = bbox
    box = (x, y, x + width, y + height)
    if entry.get("iscrowd", 0) not in (0, 1):  # which true and false are
        raise DataError(f"iscrowd has to be 0 or 1, but that of annotation {number} in {file} is {entry['iscrowd']!r}")
    return Mark(places[entry["image_id"]], box, labels[entry["category_id"]], bool(entry.get("iscrowd")), area)


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < LARGEST  # which NaN and infinity are not
