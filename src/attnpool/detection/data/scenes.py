"""The built-in scenes: things of Fashion-MNIST on parts of a photograph, written in COCO's format."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from attnpool.data.arrays import ArrayImages
from attnpool.data.fashion_mnist import CLASSES, fashion_mnist

DARKEST = 24  # of 255: grey level of a thing; up to it is its background
FLOOR = 60  # of 255: what black becomes
FACE = (130, 80, 390, 340)  # left, top, right and bottom of the part of the photograph that is left in peace
PARTS = (64, 200)  # of the photograph that become a background: smallest and largest side, in pixels
COVERED = 0.3  # largest part of a thing that others may cover
SIDES = (0.2, 0.5)  # of a thing, in sides of the scene
TRIES = 20  # places that are tried for a thing before it is left out
QUALITY = 90  # of the JPEG files
Array = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class Item(NamedTuple):
    """A thing on a scene: its class, counted from 0, and the pixels that it takes, those that others cover included."""

    label: int
    mask: Mask

    @property
    def bbox(self) -> list[int]:
        """Its tight box, as COCO has it: left, top, width and height."""
        y, x = np.nonzero(self.mask)
        left, top = int(x.min()), int(y.min())
        return [left, top, int(x.max()) + 1 - left, int(y.max()) + 1 - top]


@dataclass(frozen=True)
class _Drawer:
    """What scenes are drawn from and how: see `make_scenes`."""

    things: ArrayImages
    labels: tuple[int, ...]
    photo: Image.Image
    size: int
    objects: tuple[int, int]

    def scene(self, random: np.random.Generator) -> tuple[Image.Image, list[Item]]:
        """A scene and the things on it."""
        canvas = background(self.photo, self.size, random)
        items: list[Item] = []
        visible: list[Mask] = []
        for _ in range(random.integers(self.objects[0], self.objects[1] + 1)):
            label, thing, outline = self._thing(random)
            for _ in range(TRIES):
                place = self._place(outline, random)
                mask = np.zeros((self.size, self.size), np.bool_)
                mask[place] = np.asarray(outline) > 127
                if mask.any() and self._shown(items, [seen & ~mask for seen in visible]):
                    canvas.paste(thing, (place[1].start, place[0].start), outline)
                    visible = [*(seen & ~mask for seen in visible), mask]
                    items.append(Item(label, mask))
                    break
        return canvas, items

    def _shown(self, items: Sequence[Item], visible: Sequence[Mask]) -> bool:
        parts = (seen.sum() / item.mask.sum() for item, seen in zip(items, visible, strict=True))
        return all(part >= 1 - COVERED for part in parts)

    def _thing(self, random: np.random.Generator) -> tuple[int, Image.Image, Image.Image]:
        """The class of a thing, its picture in one colour at a random scale, and its outline from 0 to 255."""
        label = int(random.choice(self.labels))
        members = np.nonzero(np.array(self.things.targets) == label)[0]
        pixels = self.things.images[random.choice(members)]
        if random.random() < 0.5:
            pixels = pixels[:, ::-1]
        side = round(self.size * float(random.uniform(*SIDES)))
        grey = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))
        outline = Image.fromarray(silhouette(pixels)).resize((side, side), Image.Resampling.BICUBIC)
        colour = random.uniform(0.3, 1, 3)
        coloured = FLOOR + grey[..., None] * colour * (1 - FLOOR / 255)
        return label, Image.fromarray(coloured.astype(np.uint8)), outline

    def _place(self, outline: Image.Image, random: np.random.Generator) -> tuple[slice, slice]:
        x, y = (int(random.integers(0, self.size - side + 1)) for side in outline.size)
        return slice(y, y + outline.height), slice(x, x + outline.width)


def make_scenes(
    folder: str | Path,
    *,
    images: int = 600,
    val: int = 100,
    test: int = 100,
    size: int = 128,
    classes: int = 10,
    objects: tuple[int, int] = (1, 4),
    seed: int = 0,
) -> Path:
    """Write FOLDER/images/{train,val,test}/NNNN.jpg and FOLDER/{train,val,test}.json, which `coco` opens.

    Each scene shows embedded things of Fashion-MNIST, coloured, some of them flipped, a fifth to half of the scene
    wide, on a random part of the photograph that comes with matplotlib (U.S. Navy, public domain), but not of the face
    on it, turned and with other colours. Boxes are tight around the whole outline of a thing, of which others cover at
    most 30 %; `area` is that within the outline. Things on the training scenes are training images, those on the others
    test images.

    Everything is written in a hidden folder, beside `folder` or in it if it is there, and moved when it is whole. A
    process that is killed leaves that one behind, and no half data set.

    Args:
        folder: A new or an empty folder.
        images, val, test: Scenes of each split.
        size: Sides of a scene, in pixels.
        classes: The first so many of the classes of Fashion-MNIST, 3 to 10.
        objects: Fewest and most things on a scene. One for which no place is found is left out.
        seed: The same seed gives the same files; each scene depends on it, its split and its number only.

    Returns:
        The folder.

    Raises:
        ValueError: An argument that breaks its rule, or a folder that is not empty or cannot be made.
    """
    root = Path(folder).expanduser()
    _check({"images": images, "val": val, "test": test}, size, classes, objects, seed)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"output has to be a new or an empty folder, but {root} exists and is not empty")
    source, photo = fashion_mnist(), _photo()
    with _in_one_move(root) as made:
        for split, (name, count) in enumerate({"train": images, "val": val, "test": test}.items()):
            things = source.train if name == "train" else source.test
            assert isinstance(things, ArrayImages)
            drawer = _Drawer(things, tuple(range(classes)), photo, size, objects)
            _write(made, name, count, drawer, (seed, split))
    return root


@contextmanager
def _in_one_move(root: Path) -> Iterator[Path]:
    """A folder to write in, which becomes `root` at the end of the block, or is removed at an error.

    If `root` is there (an empty folder, perhaps a mounted one or the one that a shell is in), the parts are moved into
    it, and what training needs last.
    """
    there = root.exists()
    try:
        place = root if there else root.parent
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{root.name}-", dir=place) as beside:
            made = Path(beside) / "scenes"
            made.mkdir()
            yield made
            if not there:
                made.rename(root)
                return
            for part in sorted(made.iterdir(), key=lambda part: (part.is_file(), part.name == "train.json")):
                part.rename(root / part.name)
    except OSError as error:
        raise ValueError(
            f"output has to be a folder that can be written, but {root}: {error.strerror or error}"
        ) from error


def silhouette(pixels: Array) -> Array:
    """255 where a thing on black is, holes in it included, else 0; twice as high and wide as the thing."""
    height, width = pixels.shape
    fine = Image.fromarray(pixels).resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
    bright = np.where(np.pad(np.asarray(fine), 1) > DARKEST, 255, 0).astype(np.uint8)
    ground = Image.fromarray(bright).copy()  # an image that shares an array is not filled
    ImageDraw.floodfill(ground, (0, 0), 128)
    return np.where(np.asarray(ground)[1:-1, 1:-1] == 128, 0, 255).astype(np.uint8)


def background(photo: Image.Image, size: int, random: np.random.Generator) -> Image.Image:
    """A square part of the photograph beside the face, turned and with other colours."""
    while True:
        side = int(random.integers(PARTS[0], PARTS[1] + 1))
        left, top = (int(random.integers(0, whole - side + 1)) for whole in photo.size)
        if left >= FACE[2] or left + side <= FACE[0] or top >= FACE[3] or top + side <= FACE[1]:
            break
    part = photo.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    pixels = np.rot90(np.asarray(part), int(random.integers(4)))
    pixels = pixels[:, :: random.choice((-1, 1)), random.permutation(3)]
    changed = pixels * random.uniform(0.4, 1, 3) + random.uniform(0, 120)
    return Image.fromarray(changed.clip(0, 255).astype(np.uint8))


def _check(counts: dict[str, int], size: int, classes: int, objects: Sequence[int], seed: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} has to be positive, but got {count}")
    if size < 32:
        raise ValueError(f"size has to be at least 32, but got {size}")
    if not 3 <= classes <= len(CLASSES):
        raise ValueError(f"classes has to be from 3 to {len(CLASSES)}, but got {classes}")
    if len(objects) != 2 or not 1 <= objects[0] <= objects[1]:
        raise ValueError(f"objects has to be two positive integers, the smaller first, but got {objects}")
    if seed < 0:
        raise ValueError(f"seed has to be at least 0, but got {seed}")


def _photo() -> Image.Image:
    from matplotlib.cbook import get_sample_data

    with Image.open(str(get_sample_data("grace_hopper.jpg", asfileobj=False))) as photo:
        return photo.convert("RGB")


def _write(root: Path, name: str, count: int, drawer: _Drawer, numbers: tuple[int, int]) -> None:
    (root / "images" / name).mkdir(parents=True)
    pictures: list[dict[str, Any]] = []
    marks: list[dict[str, Any]] = []
    for number in range(count):
        scene, items = drawer.scene(np.random.default_rng((*numbers, number)))
        file = f"{name}/{number:04}.jpg"
        scene.save(root / "images" / file, quality=QUALITY)
        pictures.append({"id": number + 1, "file_name": file, "width": drawer.size, "height": drawer.size})
        for item in items:
            marks.append(
                {
                    "id": len(marks) + 1,
                    "image_id": number + 1,
                    "category_id": item.label + 1,
                    "bbox": item.bbox,
                    "area": int(item.mask.sum()),
                    "iscrowd": 0,
                }
            )
    content = {
        "info": {"description": f"scenes of Fashion-MNIST by attnpool, split {name}, seed {numbers[0]}"},
        "images": pictures,
        "annotations": marks,
        "categories": [{"id": label + 1, "name": CLASSES[label]} for label in drawer.labels],
    }
    (root / f"{name}.json").write_text(json.dumps(content))
