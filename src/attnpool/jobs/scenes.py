"""`attnpool data scenes`: a small data set with boxes, made of what is installed."""

from dataclasses import dataclass

from rich.markup import escape
from rich.table import Column, Table

from attnpool.detection.data.scenes import make_scenes


@dataclass(frozen=True)
class Scenes:
    """What `data scenes` wrote.

    Args:
        folder: Where.
        sources: The splits, as `--data`, `--val-data` and `--test-data` of `detect train` take them.
    """

    folder: str
    sources: dict[str, str]

    def __rich__(self) -> Table:
        table = Table("option", Column("of attnpool detect train", overflow="fold"))
        for option, text in zip(("--data", "--val-data", "--test-data"), self.sources.values(), strict=True):
            table.add_row(option, escape(text))
        return table


def scenes(
    output: str,
    *,
    images: int = 600,
    val: int = 100,
    test: int = 100,
    size: int = 128,
    classes: int = 10,
    seed: int = 0,
) -> Scenes:
    """Make scenes to try detection with: embedded things of Fashion-MNIST, in colours, on parts of a photograph.

    Args:
        output: A new or an empty folder.
        images: Scenes to train on.
        val: For validation.
        test: To test on.
        size: Sides of a scene, in pixels.
        classes: Kinds of things, 3 to 10.
        seed: The same seed gives the same files.

    Raises:
        ValueError: for an argument that breaks its rule, or a folder that is not empty or cannot be made.
    """
    folder = make_scenes(output, images=images, val=val, test=test, size=size, classes=classes, seed=seed)
    splits = ("train", "val", "test")
    return Scenes(str(folder), {name: f"coco:{folder / 'images'}:{folder / name}.json" for name in splits})
