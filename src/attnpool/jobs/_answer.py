"""What a network says of one image, as a picture of it needs it: a classifier's classes, or a detector's boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from attnpool.data.preprocessing import Preprocessing
from attnpool.detection.spec import DetectionSpec
from attnpool.visualise._watch import Images
from attnpool.visualise.panels import Box

MOST = 5
"""Classes, or boxes, that are listed."""


@dataclass(frozen=True)
class Answer:
    """What is said of an image.

    Args:
        x: The image as the network takes it.
        image: The image as it is shown, (H, W, 3), 0 to 1: of a classifier what it sees, of a detector the file's.
        title: What is said, in short.
        measure: What the numbers are.
        said: Names and numbers, the surest first.
        likeliest: The class, counted from 0; None where nothing is found.
        explainable: The classes that class activation can be had for.
        arrays: All of it, by name.
        boxes: Of a detector: edges in pixels, text, and number of the kind.
    """

    x: Images
    image: Any
    title: str
    measure: str
    said: Sequence[tuple[str, float]]
    likeliest: int | None
    explainable: frozenset[int]
    arrays: dict[str, Any]
    boxes: Sequence[tuple[Box, str, int]] | None = None


def answer(model: Any, image: Image.Image, threshold: float) -> Answer:
    """What the network of a checkpoint says of an upright RGB image; `threshold` is the lowest score of a box."""
    if isinstance(model.spec, DetectionSpec):
        return _found(model, image, threshold)
    return _classified(model, image)


def _classified(model: Any, image: Image.Image) -> Answer:
    about = model.description
    preprocessing = Preprocessing.from_dict(about.preprocessing)
    x = preprocessing.transform(augment=False)(image).unsqueeze(0)  # (1, C, H, W)
    with torch.inference_mode():
        probabilities = model(x).softmax(1)[0]
    likely = probabilities.topk(min(MOST, len(probabilities)))
    said = [(about.classes[i], p) for i, p in zip(likely.indices.tolist(), likely.values.tolist(), strict=True)]
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    seen = (x[0] * std + mean).clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).numpy()  # (H, W, 3)
    return Answer(
        x,
        seen,
        f"{said[0][0]}, {said[0][1]:.1%}",
        "probability",
        said,
        int(likely.indices[0]),
        frozenset(range(len(probabilities))),
        {"image": seen, "classes": np.array(about.classes), "probabilities": probabilities.numpy()},
    )


def _found(model: Any, image: Image.Image, threshold: float) -> Answer:
    classes = model.description.classes
    pixels = v2.functional.to_dtype(v2.functional.to_image(image), torch.float32, scale=True).as_subclass(torch.Tensor)
    with torch.inference_mode():
        (found,) = model([pixels])
    found = {name: values[found["scores"].argsort(descending=True)].numpy() for name, values in found.items()}
    kinds = (found["labels"] - 1).tolist()
    rows = zip(found["boxes"].tolist(), kinds, found["scores"].tolist(), strict=True)
    sure = [(tuple(box), kind, score) for box, kind, score in rows if score >= threshold]
    seen = pixels.permute(1, 2, 0).numpy()
    return Answer(
        [pixels],
        seen,
        f"{len(sure) or 'no'} object{'s' * (len(sure) != 1)} with a score of {threshold:g} or more",
        "score",
        [(classes[kind], score) for _, kind, score in sure[:MOST]],
        kinds[0] if kinds else None,
        frozenset(kinds),
        {"image": seen, "classes": np.array(classes), **found},
        [(box, f"{classes[kind]} {score:.2f}", kind) for box, kind, score in sure],
    )
