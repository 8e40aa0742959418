"""`attnpool predict`: the likeliest classes of images."""

from dataclasses import dataclass

import torch
from rich.markup import escape
from rich.table import Column, Table

from attnpool.data.images import read_image
from attnpool.data.preprocessing import Preprocessing
from attnpool.jobs._checkpoint import load_classifier


@dataclass(frozen=True)
class Predictions:
    """The likeliest classes of each image, the likeliest first, as (name, probability)."""

    images: dict[str, list[tuple[str, float]]]

    def __rich__(self) -> Table:
        table = Table(Column("image", overflow="fold"), "class", "probability")
        for image, classes in self.images.items():
            for i, (name, probability) in enumerate(classes):
                table.add_row(escape(image) if i == 0 else "", escape(name), f"{probability:.2%}")
            table.add_section()
        return table


def predict(checkpoint: str, images: list[str], *, top: int = 3) -> Predictions:
    """Name the likeliest classes of images, prepared as the training images were.

    Args:
        checkpoint: Folder of the checkpoint.
        images: Image files of any kind that Pillow reads; photographs are turned upright as their EXIF says.
        top: Classes to name for each image.

    Raises:
        CheckpointError: for a checkpoint that cannot be read.
        DataError: for a file that is not an image, named.
        ValueError: if `top` is below 1.
    """
    if top < 1:
        raise ValueError(f"top has to be positive, but got {top}")
    model = load_classifier(checkpoint)
    transform = Preprocessing.from_dict(model.description.preprocessing).transform(augment=False)
    classes = model.description.classes
    found = {}
    for path in images:
        with torch.inference_mode():
            likely = (
                model(transform(read_image(path, upright=True)).unsqueeze(0)).softmax(1)[0].topk(min(top, len(classes)))
            )
        values = zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
        found[str(path)] = [(classes[index], value) for index, value in values]
    return Predictions(found)
