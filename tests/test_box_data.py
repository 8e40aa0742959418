"""Images with boxes: COCO's JSON and Pascal VOC's XML, as they are and as they should not be."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from attnpool.data.images import BrokenImageError
from attnpool.data.source import DataError
from attnpool.detection.data.source import Boxes, BoxSource, open_boxes
from attnpool.registry import BOX_SOURCES, import_all

SIZE = (40, 30)


def save_image(file: Path, size: tuple[int, int] = SIZE) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 90).save(file)


def listed(boxes: Boxes) -> list[tuple[list[float], int, bool, float]]:
    rows = zip(boxes.boxes.tolist(), boxes.labels.tolist(), boxes.crowd.tolist(), boxes.area.tolist(), strict=True)
    return [*rows]


def test_file_stem_is_the_registered_name() -> None:
    import_all("attnpool.detection.data")
    assert {*BOX_SOURCES} == {"coco", "voc"}
    for name, entry in BOX_SOURCES.items():
        assert entry.target.__module__ == f"attnpool.detection.data.{name}"
        assert entry.summary
        assert entry.paper


# coco:IMAGES:ANNOTATIONS


def mark(number: int, image: int, bbox: Any, category: Any = 3, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, **more}


def save_coco(root: Path, marks: list[dict[str, Any]], **changed: Any) -> str:
    for number in (5, 2, 9):
        save_image(root / "images" / f"{number}.png")
    content = {
        "info": {},
        "images": [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in (5, 2, 9)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 90, "name": "red fox"}],
        "annotations": marks,
        **changed,
    }
    (root / "boxes.json").write_text(json.dumps(content))
    return f"coco:{root / 'images'}:{root / 'boxes.json'}"


MARKS = [
    mark(11, 9, [1, 2, 10, 20], area=55.5),
    mark(12, 5, [30.5, 0, 20, 30], 7, iscrowd=1, area=600, segmentation=[]),  # leaves the image on the right
    mark(13, 9, [-4, -5, 10, 20], 90),  # leaves it on the left and above
    mark(14, 9, [3, 3, 0, 5]),
    mark(15, 9, [3, 3, 5, -1]),
    mark(16, 9, [40, 0, 5, 5]),  # begins where the image ends
]


def test_coco_labels_clips_and_counts(tmp_path: Path) -> None:
    source = open_boxes(save_coco(tmp_path, MARKS))
    assert source.classes == ("cat", "dog", "red fox")  # by their ids
    assert source.name == f"coco:{tmp_path / 'images'}:{tmp_path / 'boxes.json'}"
    assert source.dropped == {"no width or height": 2, "outside the image": 1}
    assert [source.images.annotations(i).image_id for i in range(len(source.images))] == [5, 2, 9]
    assert listed(source.images.annotations(0)) == [([30.5, 0, 40, 30], 2, True, 600)]
    assert listed(source.images.annotations(1)) == []
    assert listed(source.images.annotations(2)) == [([1, 2, 11, 22], 1, False, 55.5), ([0, 0, 6, 15], 3, False, 90)]
    assert source.images.annotations(1).boxes.shape == (0, 4)
    image, boxes = source.images[2]
    assert (image.mode, image.size, listed(boxes)) == ("RGB", SIZE, listed(source.images.annotations(2)))
    assert source.images.file(2) == str(tmp_path / "images" / "9.png")


def test_classes_are_picked_and_numbered_anew(tmp_path: Path) -> None:
    text = save_coco(tmp_path, MARKS)
    source = open_boxes(text, classes=["red fox", "dog"])
    assert (source.classes, len(source.images)) == (("red fox", "dog"), 3)
    assert listed(source.images.annotations(0)) == [([30.5, 0, 40, 30], 2, True, 600)]
    assert listed(source.images[2][1]) == [([0, 0, 6, 15], 1, False, 90)]
    assert source.images.file(0).endswith("5.png")
    assert listed(open_boxes(text, classes=["dog"]).images[2][1]) == []
    with pytest.raises(DataError, match=r"classes of coco:.*, but got 'red fix' \(did you mean 'red fox'\?\)"):
        open_boxes(text, classes=["dog", "red fix"])
    with pytest.raises(DataError, match="classes has to name each class once, but got 'dog' 2 times"):
        open_boxes(text, classes=["dog", "dog"])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (mark(1, 5, [0, 0, 5, 5], 99), "category_id .* annotation 1 in .*boxes.json is 99"),
        (mark(1, 5, [0, 0, 5, 5], []), r"category_id .* annotation 1 in .*boxes.json is \[\]"),
        (mark(1, 6, [0, 0, 5, 5]), "image_id has to be an id of images, .* annotation 1 in .*boxes.json is 6"),
        (mark(1, 5, [0, 0, 5]), r"bbox .* annotation 1 in .*boxes.json is \[0, 0, 5\]"),
        (mark(1, 5, [0, 0, float("nan"), 5]), "bbox has to be 4 finite numbers, .* annotation 1 in .*boxes.json"),
        (mark(1, 5, [0, 0, float("inf"), 5]), "bbox has to be 4 finite numbers, .* annotation 1 in .*boxes.json"),
        (mark(1, 5, [0, 0, "5", 5]), "bbox has to be 4 finite numbers, .* annotation 1 in .*boxes.json"),
        (mark(1, 5, None), "bbox has to be 4 finite numbers, .* annotation 1 in .*boxes.json is None"),
        (mark(1, 5, [0, 0, 5, 5], area=-2), "area .* annotation 1 in .*boxes.json is -2"),
        (mark("a", 5, [0, 0, 5, 5]), "id of annotations .* entry 0 in .*boxes.json is 'a'"),  # type: ignore[arg-type]
    ],
)
def test_coco_names_the_annotation_that_is_wrong(broken: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        open_boxes(save_coco(tmp_path, [broken]))


IMAGE = {"id": 5, "file_name": "5.png", "width": 40, "height": 30}
CAT = {"id": 3, "name": "cat"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"annotations": [MARKS[0], MARKS[0]]}, "id of annotations has to be different for each, but 11 is twice in"),
        ({"images": [IMAGE, IMAGE]}, "id of images has to be different for each, but 5 is twice in"),
        ({"categories": [CAT, CAT]}, "id of categories has to be different for each, but 3 is twice in"),
        ({"categories": [CAT, {**CAT, "id": 4}]}, "categories of .* different names, but got cat, cat"),
        ({"categories": [{"id": 3}]}, "name has to be a text, but that of category 3 in .* is None"),
        ({"images": [{**IMAGE, "width": 0}]}, "width and height .* image 5 in .* are 0 and 30"),
        ({"images": [{**IMAGE, "file_name": 5}]}, "file_name has to be a text, but that of image 5 in .* is 5"),
        ({"images": [{**IMAGE, "file_name": "6.png"}]}, r"images/6.png \(image 5\) does not exist"),
        ({"images": [{**IMAGE, "file_name": "."}]}, r"images \(image 5\) is no file"),
        ({"images": []}, "images of .*boxes.json has to hold at least one, but is empty"),
        ({"categories": []}, "categories of .*boxes.json has to hold at least one, but is empty"),
        ({"images": None}, "boxes.json has to be annotations of COCO, but has no list of images"),
        ({"annotations": [1]}, "boxes.json has to be annotations of COCO, but has no list of annotations"),
    ],
)
def test_coco_names_the_entry_that_is_wrong(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        open_boxes(save_coco(tmp_path, [], **changed))


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "COCO, but JSONDecodeError"), ("[]", "COCO, an object, but is list"), ("{}", "COCO, but has no list of cat")],
)
def test_other_json_is_refused(content: str, message: str, tmp_path: Path) -> None:
    text = save_coco(tmp_path, [])
    (tmp_path / "boxes.json").write_text(content)
    with pytest.raises(DataError, match=f"boxes.json has to be annotations of {message}"):
        open_boxes(text)


def test_boxes_are_on_the_pixels_as_they_are_stored(tmp_path: Path) -> None:
    source, turned = open_boxes(save_coco(tmp_path, MARKS)), Image.Exif()
    turned[0x112] = 6
    for number, size in {"5": SIZE, "2": SIZE[::-1]}.items():
        Image.new("L", size, 90).save(tmp_path / "images" / f"{number}.png", exif=turned)
    assert source.images[0][0].size == SIZE
    with pytest.raises(DataError, match=r"2.png has to be 40 x 30, .* but is 30 x 40 \(the pixels as stored: if EXIF"):
        source.images[1]


def test_images_that_are_not_as_announced(tmp_path: Path) -> None:
    source = open_boxes(save_coco(tmp_path, MARKS))
    save_image(tmp_path / "images" / "5.png", (30, 40))
    with pytest.raises(DataError, match=r"size of .*5.png has to be 40 x 30, .* but is 30 x 40"):
        source.images[0]
    (tmp_path / "images" / "2.png").write_bytes(b"no image")
    with pytest.raises(BrokenImageError, match=r"2.png"):
        source.images[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cocoa:a:b", r"unknown data source with boxes 'cocoa' \(did you mean 'coco'"),
        ("coco:a", "has to be written coco:IMAGES:ANNOTATIONS, without a colon inside .* but got 'coco:a'"),
        ("coco:a:", "has to be written coco:IMAGES:ANNOTATIONS"),
        (r"coco:C:\images:b.json", "nor that of a drive"),
        ("voc", "has to be written voc:DIRECTORY or voc:DIRECTORY:SPLIT, .* but got 'voc'"),
        ("voc:a:b:c", "has to be written voc:DIRECTORY or voc:DIRECTORY:SPLIT"),
        ("coco:a:nowhere.json", r"nowhere.json has to be annotations of COCO, but FileNotFoundError"),
    ],
)
def test_texts_that_name_no_source(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_boxes(text)


# voc:DIRECTORY[:SPLIT]


def thing(name: str, *box: object, more: str = "") -> str:
    sides = "".join(f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=False))
    return f"<object><name>{name}</name>{more}<bndbox>{sides}</bndbox></object>"


def save_xml(file: Path, *things: str, filename: str = "", size: str = "") -> None:
    size = size or "<width>40</width><height>30</height><depth>3</depth>"
    file.parent.mkdir(parents=True, exist_ok=True)
    content = f"<filename>{filename}</filename><size>{size}</size>{''.join(things)}"
    file.write_text(f"<annotation>{content}</annotation>")


def save_voc(root: Path) -> Path:
    """Three images: a with a cat and a difficult dog, b with nothing, c with a bird that leaves it."""
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    difficult = thing("dog", 11, 1, 20, 10, more="<difficult>1</difficult>")
    notes = root / "Annotations"
    save_xml(notes / "a.xml", thing("cat", 1, 1, 40, 30, more=part), difficult, filename="a.png")
    save_xml(notes / "b.xml", filename="b.png")
    save_xml(notes / "c.xml", thing("bird", 31.5, 21, 50, 60), thing("bird", 41, 1, 50, 2), filename="c.png")
    for name in "abc":
        save_image(root / "JPEGImages" / f"{name}.png")
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "val.txt").write_text("c 1\nb -1\n")
    return root


def test_voc_counts_from_one_and_knows_the_difficult(tmp_path: Path) -> None:
    source = open_boxes(f"voc:{save_voc(tmp_path)}")
    assert (source.classes, source.name) == (("bird", "cat", "dog"), f"voc:{tmp_path}")
    assert source.dropped == {"outside the image": 1}
    rows = [([0, 0, 40, 30], 2, False, 1200), ([10, 0, 20, 10], 3, True, 100)]
    assert [listed(source.images.annotations(i)) for i in range(3)] == [rows, [], [([30.5, 20, 40, 30], 1, False, 95)]]
    image, boxes = source.images[2]
    assert (image.size, boxes.image_id, source.images.file(2)) == (SIZE, 2, str(tmp_path / "JPEGImages" / "c.png"))


def test_splits_of_voc_have_the_same_classes_and_ids(tmp_path: Path) -> None:
    source = open_boxes(f"voc:{save_voc(tmp_path)}:val")
    assert (source.classes, source.name) == (("bird", "cat", "dog"), f"voc:{tmp_path}:val")
    assert [source.images.annotations(i).image_id for i in range(len(source.images))] == [2, 1]
    assert open_boxes(f"voc:{tmp_path}:val", classes=["cat", "bird"]).images.annotations(0).labels.tolist() == [2]


def test_names_with_spaces_and_sizes_with_a_point(tmp_path: Path) -> None:
    """As annotation tools write them; a line of a split may end in 1, 0 or -1, which a name may, too."""
    names = ["my cat", "my cat 1", "dog -1", "hen"]
    for name in names:
        save_xml(
            tmp_path / "Annotations" / f"{name}.xml",
            thing("cat", 1, 1, 2, 2),
            filename=f"{name}.png",
            size="<width>40.0</width><height>30.</height>",
        )
        save_image(tmp_path / "JPEGImages" / f"{name}.png")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "a.txt").write_text(
        "\ufeffmy cat\nmy cat 1\nhen  0\n dog -1 -1\n\nhen\n", "utf-8"
    )
    images = open_boxes(f"voc:{tmp_path}:a").images
    assert [Path(images.file(i)).stem for i in range(len(images))] == ["my cat", "my cat 1", "hen", "dog -1"]
    assert images.size(0) == (30, 40)
    (tmp_path / "ImageSets" / "Main" / "a.txt").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=r"a.txt has to name images, one a line, but is no text"):
        open_boxes(f"voc:{tmp_path}:a")


def test_voc_side_by_side(tmp_path: Path) -> None:
    save_xml(tmp_path / "tree.xml", thing("Tree", 5, 6, 7, 8), filename="elsewhere.tif")
    save_image(tmp_path / "tree.PNG")
    source: BoxSource = open_boxes(f"voc:{tmp_path}")
    assert (source.classes, source.images.file(0)) == (("Tree",), str(tmp_path / "tree.PNG"))
    assert listed(source.images[0][1]) == [([4, 5, 7, 8], 1, False, 9)]


BILLION = '<!DOCTYPE annotation [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BILLION, "it declares a DOCTYPE"),
        ("<annotation>", "no element found"),
        ("<html/>", "its root is html"),
        ("<annotation/>", "it has no annotation/size/width"),
        *(
            (
                f"<annotation><size><width>{side}</width><height>3</height></size></annotation>",
                f"its size is {side} x 3",
            )
            for side in ("40.5", "nan", "inf", "-4")
        ),
    ],
)
def test_xml_that_is_not_of_voc(content: str, message: str, tmp_path: Path) -> None:
    (save_voc(tmp_path) / "Annotations" / "b.xml").write_text(content)
    with pytest.raises(DataError, match=f"b.xml has to be annotations of Pascal VOC, but {message}"):
        open_boxes(f"voc:{tmp_path}")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (thing("cat", 1, 2, 3), "it has no object/bndbox/ymax"),
        (thing("", 1, 2, 3, 4), "it has no object/name"),
        (thing("cat", 1, 2, 3, "four"), "could not convert string to float: 'four'"),
        (thing("cat", 1, 2, 3, "nan"), "the box of object 1 is 1, 2, 3, nan"),
    ],
)
def test_things_that_are_wrong(broken: str, message: str, tmp_path: Path) -> None:
    save_xml(save_voc(tmp_path) / "Annotations" / "b.xml", broken)
    with pytest.raises(DataError, match=f"b.xml has to be annotations of Pascal VOC, but {message}"):
        open_boxes(f"voc:{tmp_path}")


def test_voc_that_is_incomplete(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"directory of a voc source has to be a folder, but .*nowhere does not exist"):
        open_boxes(f"voc:{tmp_path}/nowhere")
    with pytest.raises(DataError, match=f"directory .* has to hold XML files, but {tmp_path} has none"):
        open_boxes(f"voc:{tmp_path}")
    save_voc(tmp_path)
    with pytest.raises(DataError, match=r"split 'vla' has to be a file .*vla.txt, .* \(did you mean 'val'\?\)"):
        open_boxes(f"voc:{tmp_path}:vla")
    (tmp_path / "ImageSets" / "Main" / "none.txt").write_text("\n")
    with pytest.raises(DataError, match=r"none.txt has to name images, but is empty"):
        open_boxes(f"voc:{tmp_path}:none")
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("d\n")
    with pytest.raises(DataError, match=r"each image of test has to have an XML file, but .*d.xml does not exist"):
        open_boxes(f"voc:{tmp_path}:test")
    (tmp_path / "JPEGImages" / "b.png").unlink()
    with pytest.raises(DataError, match=r"b.xml has to name an image in .*JPEGImages, but 'b.png' does not exist"):
        open_boxes(f"voc:{tmp_path}")
    save_xml(tmp_path / "Annotations" / "b.xml", size="<width>0</width><height>3</height>")
    with pytest.raises(DataError, match=r"b.xml has to be annotations of Pascal VOC, but its size is 0 x 3"):
        open_boxes(f"voc:{tmp_path}")


def test_voc_without_a_thing(tmp_path: Path) -> None:
    save_xml(tmp_path / "a.xml")
    with pytest.raises(DataError, match=r"XML files of a voc source have to hold objects, but those of .* have none"):
        open_boxes(f"voc:{tmp_path}")
