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
from attnpool.jobs._reported import ACCURACY, PRECISION, Reported, is_detector
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
        open: Of all arguments: the data.
        check: Of all arguments, the data and this process's share of them: the spec of the network. It refuses, by a
            `ValueError`, what `train` would refuse before it trains.
        profiled: Of a spec: what is counted and timed, and (channels, height, width) of its image.
        measured: Of a result: what a row says of it.
        reported: What rows and reports say of it.
    """

    verb: str
    train: Callable[..., Any]
    needed: tuple[str, ...]
    open: Callable[[Mapping[str, Any]], Any]
    check: Callable[[Mapping[str, Any], Any, Share], Spec]
    profiled: Callable[[Any], Profiled]
    measured: Callable[[Any], dict[str, Any]]
    reported: Reported


def task_of(architecture: object) -> Task:
    """The task of an architecture string."""
    return DETECTION if is_detector(architecture) else CLASSIFICATION


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
    return open_splits(*(arguments[name] for name in PRECISION.data))


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


CLASSIFICATION = Task(
    verb="train",
    train=train,
    needed=("architecture",),
    open=_open_images,
    check=_check_classifier,
    profiled=_profiled_classifier,
    measured=_measured_accuracy,
    reported=ACCURACY,
)
DETECTION = Task(
    verb="detect train",
    train=train_detector,
    needed=("architecture", "data", "test_data"),
    open=_open_boxes,
    check=_check_detector,
    profiled=_profiled_detector,
    measured=_measured_precision,
    reported=PRECISION,
)
