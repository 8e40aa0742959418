"""Pascal VOC's format: an XML file beside each image, with its boxes."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from torchvision.datasets.folder import IMG_EXTENSIONS

from attnpool.data.source import DataError
from attnpool.detection.data.files import ImageFile, Mark, MarkedFiles
from attnpool.detection.data.source import BoxSource
from attnpool.registry import BOX_SOURCES, did_you_mean

Box = tuple[float, float, float, float]


class _Thing(NamedTuple):
    name: str
    box: Box
    difficult: bool


class _Scene(NamedTuple):
    filename: str
    width: int
    height: int
    things: list[_Thing]


@BOX_SOURCES.register("voc", paper="Everingham et al., IJCV 2010, doi 10.1007/s11263-009-0275-4")
def voc(directory: str, split: str = "") -> BoxSource:
    """Boxes of Pascal VOC: DIRECTORY/Annotations/*.xml with JPEGImages/*, or *.xml and images side by side.

    https://doi.org/10.1007/s11263-009-0275-4. With `split`, the images that ImageSets/Main/SPLIT.txt names, else all.
    The classes are the sorted names in all the XML files, so that every split has the same. The pixels of the files
    count from 1 and belong to the box: the edges are xmin - 1, ymin - 1, xmax and ymax. Image ids are positions in the
    sorted XML files. Boxes are clipped and left out as in `coco`.

    Objects marked difficult become crowds, which are neither trained on nor evaluated. Deviation: what is found counts
    as one of them by the part of it that they cover, as COCO's crowds have it, and not by VOC's overlap.

    Raises:
        DataError: Missing files, or an XML file that is not of VOC; it names the file.
    """
    root = Path(directory).expanduser()
    if not root.is_dir():
        fault = "is a file" if root.exists() else "does not exist"
        raise DataError(f"directory of a voc source has to be a folder, but {root} {fault}")
    notes, pictures = (root / name for name in ("Annotations", "JPEGImages"))
    if not notes.is_dir():
        notes = pictures = root
    files = {file.stem: file for file in sorted(notes.glob("*.xml"))}
    if not files:
        raise DataError(f"directory of a voc source has to hold XML files, but {notes} has none")
    chosen = _split(root, split, files) if split else list(files)
    for stem in chosen:
        if stem not in files:
            raise DataError(f"each image of {split} has to have an XML file, but {notes / stem}.xml does not exist")
    scenes = {stem: _scene(file) for stem, file in files.items()}
    classes = sorted({thing.name for scene in scenes.values() for thing in scene.things})
    if not classes:
        raise DataError(f"XML files of a voc source have to hold objects, but those of {notes} have none")
    labels = {name: label for label, name in enumerate(classes, 1)}
    numbers = {stem: number for number, stem in enumerate(files)}
    found = MarkedFiles(
        [
            ImageFile(_image(pictures, stem, scenes[stem]), scenes[stem].width, scenes[stem].height, numbers[stem])
            for stem in chosen
        ],
        [
            Mark(position, thing.box, labels[thing.name], thing.difficult)
            for position, stem in enumerate(chosen)
            for thing in scenes[stem].things
        ],
    )
    name = ":".join(["voc", str(root.resolve()), *([split] if split else [])])
    return BoxSource(name, found, tuple(classes), found.dropped)


def _split(root: Path, split: str, known: Collection[str]) -> list[str]:
    """The images that a list names, one a line; in VOC's lists of one class a line ends in 1, 0 or -1."""
    lists = root / "ImageSets" / "Main"
    file = lists / f"{split}.txt"
    if not file.is_file():
        others = sorted(path.stem for path in lists.glob("*.txt"))
        raise DataError(f"split {split!r} has to be a file {file}, which does not exist{did_you_mean(split, others)}")
    try:
        lines = [line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{file} has to name images, one a line, but is no text: {error}") from error
    if not lines:
        raise DataError(f"{file} has to name images, but is empty")
    return list(dict.fromkeys(line if line in known else re.sub(r"\s+(-?1|0)$", "", line) for line in lines))


def _image(folder: Path, stem: str, scene: _Scene) -> str:
    """The file that is named; some tools name none that is there, so that it may also be called as the XML file is."""
    names = [scene.filename, *(f"{stem}{end}" for suffix in IMG_EXTENSIONS for end in (suffix, suffix.upper()))]
    for name in names:
        if name and (folder / name).is_file():
            return str(folder / name)
    raise DataError(f"{stem}.xml has to name an image in {folder}, but {scene.filename!r} does not exist")


class _WithoutDoctype(ElementTree.TreeBuilder):
    """A declared document type could declare entities that grow without bounds or read other files."""

    def doctype(self, *_: object) -> None:
        """Refuse it; the parser calls this before it reads what is declared."""
        raise ValueError("it declares a DOCTYPE")


def _scene(file: Path) -> _Scene:
    try:
        root = ElementTree.fromstring(file.read_bytes(), ElementTree.XMLParser(target=_WithoutDoctype()))
        if root.tag != "annotation":
            raise ValueError(f"its root is {root.tag}")
        sides = _texts(root, ("size/width", "size/height"))
        width, height = (_whole(side) for side in sides)
        if min(width, height) < 1:
            raise ValueError(f"its size is {' x '.join(sides)}")
        things = [_thing(number, entry) for number, entry in enumerate(root.iterfind("object"), 1)]
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise DataError(f"{file} has to be annotations of Pascal VOC, but {error}") from error
    return _Scene(root.findtext("filename", "").strip(), width, height, things)


def _whole(text: str) -> int:
    """The number of a text such as 500 or, as some tools write it, 500.0; 0 if it is no whole number."""
    value = float(text)
    return int(value) if value.is_integer() else 0


def _thing(number: int, entry: ElementTree.Element) -> _Thing:
    (name,) = _texts(entry, ("name",))
    sides = _texts(entry, [f"bndbox/{side}" for side in ("xmin", "ymin", "xmax", "ymax")])
    left, top, right, bottom = (float(side) for side in sides)
    if not all(abs(side) < float("inf") for side in (left, top, right, bottom)):
        raise ValueError(f"the box of object {number} is {', '.join(sides)}")
    return _Thing(name, (left - 1, top - 1, right, bottom), entry.findtext("difficult", "0").strip() == "1")


def _texts(entry: ElementTree.Element, paths: Iterable[str]) -> list[str]:
    texts = {path: entry.findtext(path, "").strip() for path in paths}
    for path, text in texts.items():
        if not text:
            raise ValueError(f"it has no {entry.tag}/{path}")
    return list(texts.values())
