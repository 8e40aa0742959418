"""The kinds of training that can be compared: what trains, what checks it beforehand, and what is measured of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from attnpool.data.loaders import Share
from attnpool.data.source import DataError, Source, open_source
from attnpool.detection.builder import build_detector
from attnpool.detection.data.batches import has_boxes
from attnpool.detection.mean_ap import MeanAP
from attnpool.detection.spec import DetectionSpec
from attnpool.jobs import _setup
from attnpool.jobs._quantities import Quantity
from attnpool.jobs._size import check_size
from attnpool.jobs._trained import TrainResult
from attnpool.jobs.detect import _setup as _detector_setup
from attnpool.jobs.detect._data import Splits, open_splits
from attnpool.jobs.detect._detector import check_batch
from attnpool.jobs.detect._result import DetectionResult
from attnpool.jobs.detect.train import train as train_detector
from attnpool.jobs.train import train
from attnpool.models.build import build
from attnpool.spec import ModelSpec

Spec = ModelSpec | DetectionSpec
Profiled = tuple[nn.Module, tuple[int, int, int]]


@dataclass(frozen=True)
class Task:
    """A kind of training.

    Args:
        verb: Its command.
        train: Its function.
        needed: Arguments of it that a comparison cannot do without.
        data: Those that say which data there are.
        open: Of all arguments: the data.
        check: Of all arguments, the data and this process's share of them: the spec of the network. It refuses, by a
            `ValueError`, what `train` would refuse before it trains.
        profiled: Of a spec: what is counted and timed, and (channels, height, width) of its image.
        measured: Of a result: what a row says of it.
        measures: How good a trial is. Comparisons are by the first one.
        shown: How many of them the table of `compare` has.
        curves: What `history` has, by epoch.
        note: What a reader has to know of all this.
    """

    verb: str
    train: Callable[..., Any]
    needed: tuple[str, ...]
    data: tuple[str, ...]
    open: Callable[[Mapping[str, Any]], Any]
    check: Callable[[Mapping[str, Any], Any, Share], Spec]
    profiled: Callable[[Any], Profiled]
    measured: Callable[[Any], dict[str, Any]]
    measures: tuple[Quantity, ...]
    shown: int
    curves: tuple[Quantity, ...]
    note: str = ""

    @property
    def goodness(self) -> str:
        """What the first measure is called on any split."""
        return self.measures[0].label.removeprefix("test ")


def task_of(architecture: object) -> Task:
    """The task of an architecture string: a detector's has a colon."""
    return DETECTION if ":" in str(architecture) else CLASSIFICATION


def _open_images(arguments: Mapping[str, Any]) -> Source:
    where = {name: arguments[name] for name in ("data_dir", "download") if name in arguments}
    return open_source(arguments["data"], **where)


def _check_classifier(arguments: Mapping[str, Any], source: Source, share: Share) -> ModelSpec:
    spec = _setup.set_up(_setup.check_settings(arguments), arguments, source, share).spec
    assert spec.input_size is not None
    with torch.device("meta"), torch.random.fork_rng(devices=()):
        check_size(build(spec), spec.input_size)
    return spec


def _profiled_classifier(spec: ModelSpec) -> Profiled:
    assert spec.input_size is not None
    return build(spec), (spec.in_channels, *spec.input_size)


def _measured_accuracy(result: TrainResult) -> dict[str, Any]:
    names = ("best_epoch", "val_accuracy", "test_accuracy", "test_loss", "per_class", "seconds", "history")
    return {name: getattr(result, name) for name in names}


def _open_boxes(arguments: Mapping[str, Any]) -> Splits:
    return open_splits(*(arguments[name] for name in DETECTION.data))


def _check_detector(arguments: Mapping[str, Any], splits: Splits, share: Share) -> DetectionSpec:
    ready = _detector_setup.set_up(_detector_setup.check_settings(arguments), arguments, splits, share)
    MeanAP(splits[0].classes)  # asks for pycocotools
    test = splits[2]
    assert test is not None
    if not any(has_boxes(test, index) for index in range(len(test.images))):
        raise DataError(f"test_data has to have boxes that are no crowds, but {test.name} has none")
    images = ready.loaders.order.batch_size
    with torch.device("meta" if images > 1 else "cpu"), torch.random.fork_rng(devices=()):
        check_batch(build_detector(ready.spec), images)
    return ready.spec


def _profiled_detector(spec: DetectionSpec) -> Profiled:
    detector: Any = build_detector(spec)
    return detector.raw(), (3, *spec.image_size)


def _measured_precision(result: DetectionResult) -> dict[str, Any]:
    found = result.test
    assert found is not None  # `test_data` is needed
    return {
        "best_epoch": result.best_epoch,
        "val_ap": result.val_ap,
        "test_ap": found.ap,
        "test_ap50": found.ap50,
        "test_ap75": found.ap75,
        "test_ap_small": found.small,
        "test_ap_medium": found.medium,
        "test_ap_large": found.large,
        "per_class": [found.class_ap[name] for name in result.classes],
        "seconds": result.seconds,
        "history": result.history,
    }


def _percent(key: str, label: str, optional: bool = False) -> Quantity:
    return Quantity(key, label, "%", 100, 2, (key,), higher_is_better=True, optional=optional)


def _loss(key: str, label: str) -> Quantity:
    return Quantity(key, label, "", 1, 4, (key,))


CLASSIFICATION = Task(
    verb="train",
    train=train,
    needed=("architecture",),
    data=("data",),
    open=_open_images,
    check=_check_classifier,
    profiled=_profiled_classifier,
    measured=_measured_accuracy,
    measures=(
        _percent("test_accuracy", "test accuracy"),
        _percent("val_accuracy", "validation accuracy"),
        _loss("test_loss", "test loss"),
    ),
    shown=1,
    curves=(
        _percent("val_accuracy", "validation accuracy"),
        _loss("val_loss", "validation loss"),
        _percent("train_accuracy", "training accuracy"),
        _loss("train_loss", "training loss"),
    ),
)
DETECTION = Task(
    verb="detect train",
    train=train_detector,
    needed=("architecture", "data", "test_data"),
    data=("data", "val_data", "test_data", "classes"),
    open=_open_boxes,
    check=_check_detector,
    profiled=_profiled_detector,
    measured=_measured_precision,
    measures=(
        _percent("test_ap", "test AP"),
        _percent("test_ap50", "test AP50"),
        _percent("test_ap75", "test AP75"),
        _percent("test_ap_small", "test AP, small", optional=True),
        _percent("test_ap_medium", "test AP, medium", optional=True),
        _percent("test_ap_large", "test AP, large", optional=True),
        _percent("val_ap", "validation AP"),
    ),
    shown=2,
    curves=(
        _percent("val_ap", "validation AP"),
        _percent("val_ap50", "validation AP50"),
        _loss("train_loss", "training loss"),
    ),
    note="AP is COCO's average precision, the mean over overlaps from 0.5 to 0.95 and over the classes; AP50 and AP75 "
    "are at one overlap; small objects have up to 32 x 32 pixels, large ones more than 96 x 96. What the test images "
    "hold none of has no value. Operations, memory and latency of a detector are those of its layers, without the "
    "decoding and picking of boxes after them.",
)
