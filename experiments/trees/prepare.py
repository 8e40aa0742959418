"""The annotated aerial images of the package deepforest 2.1.0 as tiles in COCO's format, for detectors.

    pip download --no-deps deepforest==2.1.0
    python experiments/trees/prepare.py deepforest-2.1.0-py3-none-any.whl trees

Writes trees/images and trees/{train,val,test}.json. Trees of every kind are one class. Training tiles are of
2019_YELL...crop2, of which every fourth row of tiles is for validation; test tiles are of the other three images. Tiles
of training overlap by half, the others do not. A tree of which less than half is on a tile becomes a crowd there: it
need not be found, and is not wrong to be found.
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

from PIL import Image

from attnpool.detection.data.source import BoxSource, open_boxes

SIDE = 256
TRAIN = "2019_YELL_2_528000_4978000_image_crop2"
TEST = ("2019_YELL_2_541000_4977000_image_crop", "OSBS_029", "SOAP_061")
VISIBLE = 0.5
HELD = 4


def main(wheel: str, output: str) -> None:
    """Unpack, tile and write."""
    folder = Path(output)
    (folder / "images").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as unpacked, zipfile.ZipFile(wheel) as archive:
        splits: dict[str, list[tuple[str, int, int]]] = {"train": [], "val": [], "test": []}
        for name in (TRAIN, *TEST):
            for ending in ("png", "xml"):
                source = Path(unpacked, name, f"{name}.{ending}")
                source.parent.mkdir(exist_ok=True)
                source.write_bytes(archive.read(f"deepforest/data/{name}.{ending}"))
            text = Path(unpacked, name, f"{name}.xml")
            text.write_text(text.read_text().replace(f"{name}.tif", f"{name}.png"))
        sources = {name: open_boxes(f"voc:{Path(unpacked, name)}") for name in (TRAIN, *TEST)}
        band = SIDE * HELD
        height, width = sources[TRAIN].images.size(0)
        for top in range(0, height - SIDE + 1, SIDE // 2):
            held = top % band >= band - SIDE  # no training tile reaches into a band that is held
            crosses = (top + SIDE - 1) % band >= band - SIDE and not held
            for left in range(0, width - SIDE + 1, SIDE // 2):
                if held and top % SIDE == 0 and left % SIDE == 0:
                    splits["val"].append((TRAIN, left, top))
                elif not held and not crosses:
                    splits["train"].append((TRAIN, left, top))
        for name in TEST:
            height, width = sources[name].images.size(0)
            splits["test"] += [(name, left, top) for top in range(0, height, SIDE) for left in range(0, width, SIDE)]
        for split, tiles in splits.items():
            write(folder, split, tiles, sources)


def write(folder: Path, split: str, tiles: list[tuple[str, int, int]], sources: dict[str, BoxSource]) -> None:
    """The tiles of a split, and its JSON."""
    images, annotations = [], []
    pictures = {name: source.images[0] for name, source in sources.items()}
    for name, left, top in tiles:
        picture, trees = pictures[name]
        right, bottom = min(left + SIDE, picture.width), min(top + SIDE, picture.height)
        file = f"{name}-{left}-{top}.png"
        tile: Image.Image = picture.crop((left, top, right, bottom))
        tile.save(folder / "images" / file)
        images.append({"id": len(images) + 1, "file_name": file, "width": tile.width, "height": tile.height})
        for x1, y1, x2, y2 in trees.boxes.tolist():
            inside = (max(x1, left), max(y1, top), min(x2, right), min(y2, bottom))
            width, height = inside[2] - inside[0], inside[3] - inside[1]
            if min(width, height) < 1:
                continue
            part = width * height / ((x2 - x1) * (y2 - y1))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": 1,
                    "bbox": [inside[0] - left, inside[1] - top, width, height],
                    "area": width * height,
                    "iscrowd": int(part < VISIBLE),
                }
            )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "Tree"}]}
    (folder / f"{split}.json").write_text(json.dumps(content))
    kept = sum(not each["iscrowd"] for each in annotations)
    print(f"{split}: {len(images)} tiles, {kept} trees, {len(annotations) - kept} that are cut")


if __name__ == "__main__":
    main(*sys.argv[1:])
