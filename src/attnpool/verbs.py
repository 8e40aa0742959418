"""The verbs of the command line: for each the function that does it, a line of help, and examples.

Nothing of them is imported before one is chosen, so that `attnpool --help` answers at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Verb:
    """One command.

    Args:
        home: MODULE:FUNCTION below `attnpool.jobs`; its signature and docstring are the command.
        help: What it does, in a few words.
        examples: Lines of the command line, without `attnpool`; the first is the plainest.
    """

    home: str
    help: str
    examples: tuple[str, ...]

    @property
    def function(self) -> Callable[..., Any]:
        """What does it, imported now."""
        return load(f"attnpool.jobs.{self.home}")


def load(home: str) -> Any:
    """What MODULE:NAME names.

    Raises:
        ImportError: if something that it needs is missing, or if torchvision does not fit torch.
    """
    module, _, name = home.partition(":")
    try:
        return getattr(import_module(module), name)
    except RuntimeError as error:  # e.g. a CPU-only torch beside a CUDA torchvision
        if "torchvision" not in str(error):
            raise
        raise ImportError(
            f"torchvision does not fit torch, install a matching pair of the two (attnpool doctor has more): {error}"
        ) from error


SCENES = "coco:scenes/images:scenes/{}.json"
GROUPS: dict[str, dict[str, Verb]] = {
    "networks": {
        "train": Verb(
            "train:train",
            "train a network, test it once, and write its checkpoint",
            (
                "train mobilenet_v2-nlp_headfix2-1222121 --data folder:photos --output runs/photos",
                "train mobilenet_v2-nlp_headfix2-1222121 --data folder:photos --output runs/photos --resume",
                "train resnet18-maxp-1222 --data cifar10 --preset cifar --seed 1",
            ),
        ),
        "evaluate": Verb(
            "evaluate:evaluate",
            "measure a checkpoint on the test split of a data source",
            ("evaluate runs/photos", "evaluate runs/photos --data folder:others"),
        ),
        "predict": Verb(
            "predict:predict",
            "name the likeliest classes of images",
            ("predict runs/photos cat.jpg dog.jpg", "predict runs/photos/export-onnx/model.onnx cat.jpg --top 1"),
        ),
        "visualise": Verb(
            "visualise:visualise",
            "draw what the pools weigh, attend to and keep",
            (
                "visualise runs/photos cat.jpg -o pictures",
                "visualise runs/photos cat.jpg --query 0.5,0.3 --cam gradcam layercam --target dog",
            ),
        ),
        "app": Verb(
            "app:app",
            "look into networks on a page: drop an image in, click it",
            ("app runs/photos", "app runs/photos runs/photos-pruned --port 8000"),
        ),
        "prune": Verb(
            "prune:prune",
            "remove the channels that weigh least, and train on",
            ("prune runs/photos --ratio 0.5", "prune runs/photos --where early --finetune-epochs 5"),
        ),
        "convert": Verb(
            "convert:convert",
            "make a checkpoint of weights of the published repository",
            ("convert best.pth runs/published --arch mobilenet_v2-nlp_headfix2-1222121 --data folder:photos",),
        ),
    },
    "object detectors": {
        "detect train": Verb(
            "detect.train:train",
            "train a detector on images with boxes",
            (f"detect train yolov3:resnet18-nlp-1222 --data {SCENES.format('train')} --image-size 128",),
        ),
        "detect evaluate": Verb(
            "detect.evaluate:evaluate",
            "measure it by COCO's average precision",
            (f"detect evaluate runs/scenes --data {SCENES.format('test')}",),
        ),
        "detect predict": Verb(
            "detect.predict:predict",
            "find objects in images, and draw their boxes",
            ("detect predict runs/scenes scenes/images/test/0000.jpg --threshold 0.3",),
        ),
        "detect anchors": Verb(
            "detect.anchors:anchors",
            "fit anchor boxes to the boxes of a data source",
            (f"detect anchors {SCENES.format('train')} --image-size 128",),
        ),
    },
    "costs and comparisons": {
        "profile": Verb(
            "profile:profile_",
            "count parameters, operations and memory; measure time",
            (
                "profile runs/photos --dtype int8 --picture memory.png",
                "profile mobilenet-nlp_headfix2-1222121 --input 3x96x96 --versus mobilenet-skip-1222121 --no-latency",
            ),
        ),
        "fit": Verb(
            "fit:fit",
            "search the networks that fit a budget of memory",
            (
                "fit --ram 256kB --flash 1MB --input 96",
                "fit --ram 128kB --flash 500kB --macs 20M --input 96 --data folder:photos --train-top 3",
            ),
        ),
        "compare": Verb(
            "compare:compare",
            "train every combination of methods, strides and seeds",
            (
                "compare --methods skip maxp nlp_headfix2 --backbones mobilenet_v2 --strides 1222121 --seeds 3",
                "compare --config examples/compare-demo.yaml",
            ),
        ),
        "report": Verb(
            "report:report",
            "make one page of the results of a comparison",
            (
                "report runs/compare -o report.html",
                'report runs/first runs/second -o report.html --baseline "max pooling"',
            ),
        ),
    },
    "everything else": {
        "export": Verb(
            "export:export",
            "write a file for ONNX Runtime, LiteRT or micro-controllers",
            ("export runs/photos --to onnx", "export runs/photos --to micro --ram 256kB"),
        ),
        "push": Verb(
            "push:push",
            "publish a checkpoint with its model card on the hub",
            ("push runs/photos me/photos --licence mit", "push runs/photos me/photos --private"),
        ),
        "pull": Verb(
            "pull:pull",
            "fetch a checkpoint from the hub",
            ("pull me/photos", "pull me/photos -o runs/theirs --revision v1"),
        ),
        "data scenes": Verb(
            "scenes:scenes",
            "make a small set of images with boxes",
            ("data scenes scenes --classes 5 --images 200",),
        ),
        "list": Verb(
            "list:list_",
            "list the pools, models, detectors or data sources",
            ("list pools", "list data"),
        ),
        "demo": Verb(
            "demo:demo",
            "see three ways of shrinking early side by side, in minutes",
            ("demo",),
        ),
        "doctor": Verb(
            "doctor:doctor",
            "check this installation, and say what is broken",
            ("doctor", "doctor --json doctor.json"),
        ),
    },
}
"""Title to its verbs, as `attnpool --help` shows them."""
ALIASES = {"visualize": "visualise"}
"""Other spellings of a first word, which help does not show."""
VERBS = {name: verb for verbs in GROUPS.values() for name, verb in verbs.items()}
"""All of them by their one or two words."""
SHOWN = ("train", "predict", "profile")
"""Verbs whose first example `attnpool --help` shows."""
