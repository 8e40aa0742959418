"""`attnpool predict`: the likeliest classes of images."""

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.markup import escape
from rich.table import Column, Table

from attnpool.data.images import read_image
from attnpool.data.preprocessing import Preprocessing
from attnpool.export._arrays import Array
from attnpool.export.files import ENDINGS, ExportedNetwork, open_exported
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
        checkpoint: Folder of the checkpoint, or a file that `attnpool export` made of it.
        images: Image files of any kind that Pillow reads; photographs are turned upright as their EXIF says.
        top: Classes to name for each image.

    Raises:
        CheckpointError: for a checkpoint that cannot be read.
        ExportError: for a file that is not one of an export.
        DataError: for a file that is not an image, named.
        ValueError: if `top` is below 1.
    """
    if top < 1:
        raise ValueError(f"top has to be positive, but got {top}")
    network = open_exported(checkpoint) if Path(checkpoint).suffix in ENDINGS else _trained(checkpoint)
    transform = Preprocessing.from_dict(network.preprocessing).transform(augment=False)
    classes = network.classes
    found = {}
    for path in images:
        logits = torch.from_numpy(network.run(transform(read_image(path, upright=True)).unsqueeze(0).numpy()))
        likely = logits.softmax(1)[0].topk(min(top, len(classes)))
        values = zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
        found[str(path)] = [(classes[index], value) for index, value in values]
    return Predictions(found)


def _trained(checkpoint: str) -> ExportedNetwork:
    """The network of a checkpoint, used as the file of an export is."""
    model = load_classifier(checkpoint)

    def run(images: Array) -> Array:
        with torch.inference_mode():
            logits: Array = model(torch.from_numpy(images)).numpy()
        return logits

    return ExportedNetwork(model.description.classes, model.description.preprocessing, run)
