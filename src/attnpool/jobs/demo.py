"""`attnpool demo`: strided convolution, max pooling and self-attentive pooling at the same strides, side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.markup import escape
from rich.table import Table

from attnpool.data.preprocessing import Preprocessing
from attnpool.data.source import Source, open_source
from attnpool.jobs._figures import accuracy_curves, weight_over_image
from attnpool.jobs.train import TrainResult, train
from attnpool.models.checkpoint import load

METHODS = {
    "strided convolution": "prepool-skip-4-resnet18-skip-1222",
    "max pooling": "prepool-maxp-4-resnet18-maxp-1222",
    "self-attentive pooling": "prepool-nlp_headfix2-4-resnet18-nlp_headfix2-1222",
}
WIDTH = 0.25


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured, by method, and the picture it drew."""

    results: dict[str, TrainResult]
    picture: str

    def __rich__(self) -> Table:
        table = Table(
            "method",
            "test accuracy",
            "parameters",
            "training",
            title="Fashion-MNIST, 32 x 32",
            caption=escape(f"picture: {self.picture}"),
        )
        for method, result in self.results.items():
            table.add_row(method, f"{result.test_accuracy:.1%}", f"{result.params:,}", f"{result.seconds:.0f} s")
        return table


def demo(*, output: str = "runs/demo", epochs: int = 5, progress: bool = True) -> DemoResult:
    """Train three ways of shrinking early, on the embedded data, and draw what they learned; a few minutes.

    A quarter-width ResNet-18 whose map is shrunk by 4 right after its first convolution: by that convolution's own
    stride, by max pooling, and by self-attentive pooling. The output folder gets a checkpoint of each and `demo.png`.

    Args:
        output: Folder for the checkpoints and the picture; an earlier demo there is replaced.
        epochs: Passes over the 9,000 training images.
        progress: Show progress bars.
    """
    folder = Path(output)
    results = {
        method: train(
            architecture,
            output=str(folder / architecture),
            epochs=epochs,
            width=WIDTH,
            batch_size=128,
            lr=0.05,
            augment=False,
            overwrite=True,
            progress=progress,
        )
        for method, architecture in METHODS.items()
    }
    picture = folder / "demo.png"
    demo_figure(results, open_source("fashion_mnist")).savefig(picture)
    return DemoResult(results, str(picture))


def demo_figure(results: dict[str, TrainResult], source: Source) -> Figure:
    """Accuracy curves above; below, a test image a class with the weights of the first self-attentive pool over it."""
    model: Any = load(results["self-attentive pooling"].output)
    transform = Preprocessing.from_dict(model.description.preprocessing).transform(augment=False)
    test: Any = source.test
    firsts = [test.targets.index(label) for label in range(len(source.classes))]
    images = torch.stack([transform(test[i][0]) for i in firsts])  # (10, 1, 32, 32)
    with torch.no_grad():
        stem = model.act1(model.bn1(model.conv1(images)))
        weights = model.maxpool.weight_map(stem).mean(1)  # (10, 32, 32)
    figure = Figure(figsize=(10, 7.5), dpi=120, layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    above, below = halves
    curves = above.subplots()
    accuracy_curves(curves, {method: result.history for method, result in results.items()})
    curves.set_title("Shrinking by 4 after the first convolution of a small ResNet-18")
    below.suptitle("What self-attentive pooling looks at: weights (mean over channels), yellow = high, blue = low")
    for axes, image, weight, name in zip(below.subplots(2, 5).flat, images, weights, source.classes, strict=True):
        weight_over_image(axes, image[0], weight, name)
    return figure
