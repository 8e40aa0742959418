"""`attnpool detect train`: from a detector string to a trained, measured checkpoint."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from attnpool.data.loaders import Share
from attnpool.detection.builder import build_detector
from attnpool.detection.data.batches import BoxBatches, BoxLoaders
from attnpool.jobs._card import write_card
from attnpool.jobs._cluster import Processes, processes
from attnpool.jobs._fitting import Precision, trained
from attnpool.jobs._folder import earlier, finish
from attnpool.jobs._keeper import Keeper
from attnpool.jobs._learner import OptimizerName, ScheduleName
from attnpool.jobs._trainer import seeded
from attnpool.jobs.detect._data import ANCHORS, Splits, check_same_anchors, open_splits, write_anchors
from attnpool.jobs.detect._detector import Detector, check_batch, run_detector_test
from attnpool.jobs.detect._result import DetectionResult
from attnpool.jobs.detect._setup import check_settings, set_up
from attnpool.models.checkpoint import Description, load, save


def train(
    architecture: str,
    *,
    data: str,
    val_data: str | None = None,
    test_data: str | None = None,
    classes: list[str] = [],  # noqa: B006 - read only; the command line shows it
    output: str | None = None,
    epochs: int = 12,
    batch_size: int = 8,
    image_size: list[int] = [320],  # noqa: B006
    sizes: list[int] = [],  # noqa: B006
    anchors: str = "published",
    neck: int | None = None,
    width: float = 1.0,
    placement: Literal["before", "after_first", "end"] | None = None,
    attention: str = "",
    query_blocks: int | None = None,
    optimizer: OptimizerName = "sgd",
    lr: float | None = None,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    schedule: ScheduleName = "cosine",
    warmup_epochs: float = 1.0,
    clip_norm: float | None = 10.0,
    ema_decay: float | None = None,
    augment: bool = True,
    hflip: float = 0.5,
    crop: Literal["none", "iou"] = "none",
    zoom_out: float = 0.0,
    jitter: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    pretrained: bool = False,
    pretrained_file: str | None = None,
    freeze_backbone: int = 0,
    pool_lr: float = 1.0,
    val_fraction: float = 0.1,
    seed: int = 0,
    precision: Precision = "32-true",
    accelerator: str = "auto",
    accumulate: int = 1,
    sync_batchnorm: bool = False,
    workers: int | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> DetectionResult:
    """Train a detector, and test it once with the weights of its best validation epoch.

    The output folder gets what that of `attnpool train` gets; the best epoch is that of the highest average precision.

    Args:
        architecture: DETECTOR:ARCHITECTURE, e.g. yolov3:resnet18-nlp-1222; also faster_rcnn, retinanet, ssd, ssdlite.
        data: Images with boxes to train on: coco:IMAGES:ANNOTATIONS.json or voc:DIR.
        val_data: Those to choose the best epoch by; by default a part of the training images is held out.
        test_data: Those to test the best epoch on; by default there is no test.
        classes: Kinds of objects to learn, in the order of their labels; by default all. traffic alone is eight of
            COCO's: person, bicycle, car, motorcycle, bus, train, truck, traffic light (our reading of Chen et al., WACV
            2023).
        output: Folder for everything that the run writes; by default runs/DETECTOR-ARCHITECTURE.
        epochs: Passes over the training data.
        batch_size: Images a step, those of all processes and accumulated batches together.
        image_size: What images are resized to, in pixels: one side, or height and width. For faster_rcnn and retinanet
            the shortest side, or that and the longest at most.
        sizes: Further sides, one of which is drawn for each step (or image) of training.
        anchors: published; fit: to the boxes of the training data; or a file of `attnpool detect anchors`.
        neck: Channels of the pyramid of faster_rcnn and retinanet; by default 256.
        width: Factor on all channel numbers of the backbone.
        placement: Where a pool stands in a stage; by default as published for the backbone.
        attention: Subspace attention (ULSAM) in the backbone, as in `attnpool train`.
        query_blocks: Blocks of queries of attention when the detector is used and profiled.
        optimizer: Of the weights; sgd has momentum.
        lr: Peak learning rate; by default 0.02 for sgd, 0.001 for adam and adamw.
        momentum: Of sgd.
        weight_decay: On all weights but biases and norms.
        schedule: steps divides the learning rate by 5 at 60, 80 and 90 %; cosine falls to zero after a warm-up.
        warmup_epochs: Linear rise of the cosine schedule, in epochs.
        clip_norm: Largest norm of a step's gradient, above which it is scaled down; null: none.
        ema_decay: Decay, a step, of the average of the weights that is validated and kept; by default there is none.
        augment: Vary the training images at random, as the next five say.
        hflip: Probability of flipping left to right.
        crop: iou cuts out a part that overlaps with boxes, as SSD does.
        zoom_out: Probability of putting the image on a larger canvas, as SSD does.
        jitter: Probability of changing each of brightness, contrast, saturation, hue and the order of channels.
        scale: Smallest and largest factor by which the image is scaled around its middle.
        pretrained: Start from timm's weights of the backbone, from its hub or cache.
        pretrained_file: Start from timm's weights of the backbone in this file, .safetensors or .pth.
        freeze_backbone: Epochs at the start in which of the backbone only pools and attention learn.
        pool_lr: Factor on the learning rate of pools and attention.
        val_fraction: Part of the training images held out where there is no `val_data`.
        seed: Of weights, hold-out, order and augmentation; the same seed gives the same run on the same machine.
        precision: Of the arithmetic: 32-true, bf16-mixed or 16-mixed.
        accelerator: auto, cpu, gpu, ... as in Lightning.
        accumulate: Batches whose gradients are added up before a step.
        sync_batchnorm: Batch norms see the batch of all processes, not of one.
        workers: Processes that read images; by default up to 4.
        checkpoint_every: Steps after which the state is written too; by default after every epoch only.
        resume: Go on with the run in the output folder; start it if there is none, return its result if it is done.
        overwrite: Replace a result in the output folder.
        progress: Show a progress bar.

    Raises:
        ValueError: for an argument that breaks its rule, a string or data that cannot be used, a loss that is not
            finite, an output folder that another run is using, or other arguments than those of a run that goes on.
        FileExistsError: if the output folder holds a result, or a run to go on with, and neither `overwrite` nor
            `resume` is true.
        Stopped: (a KeyboardInterrupt) at Ctrl-C or SIGTERM, after the state was written.
    """
    arguments = dict(locals())
    spec = check_settings(arguments)
    folder, me = Path(output or f"runs/{architecture.replace(':', '-')}"), processes()
    if done := earlier(folder, arguments):
        return DetectionResult.from_json(done)
    source, val, test = splits = open_splits(data, val_data, test_data, classes)
    ready = set_up(spec, arguments, splits, Share(me.rank, me.count, accumulate))
    spec, loaders = ready.spec, ready.loaders
    training: dict[str, Any] = {
        "data": source.name,
        "val_data": val and val.name,
        "test_data": test and test.name,
        "seed": seed,
    }
    training = {**training, "val_fraction": val_fraction, "images": _sizes(splits, loaders)}
    keeper = Keeper(folder, Description(spec, source.classes, {}, training=training), "val_ap")
    with seeded(seed):
        model = build_detector(spec, pretrained=pretrained_file or pretrained)
        detector = Detector(model, source.classes, ready.recipe, seed)
        check_batch(model, loaders.order.batch_size)

        def prepare(goes_on: bool) -> None:
            if goes_on:
                check_same_anchors(folder, spec.anchors)
            elif me.writes:
                write_anchors(folder / ANCHORS, spec.anchors, spec.image_size)

        with trained(detector, loaders, keeper, arguments, me, prepare) as done:
            if done:
                return DetectionResult.from_json(done)
            return _conclude(keeper, loaders.test, accelerator, me, dict(source.dropped))


def _sizes(splits: Splits, loaders: BoxLoaders) -> dict[str, int]:
    """How many images each split has, whatever the processes and workers."""
    source, val, test = splits
    kept = loaders.order.images
    found = {"train": kept, "val": len(val.images) if val else len(source.images) - kept}
    return {**found, "test": len(test.images)} if test else found


def _conclude(
    keeper: Keeper, batches: BoxBatches | None, accelerator: str, me: Processes, dropped: dict[str, int]
) -> DetectionResult:
    """Test the best epoch's weights once, if there are images for it, and write what was measured beside them."""
    folder = keeper.output
    model: Any = load(folder)
    about: Description = model.description
    test = None if batches is None else run_detector_test(model, about.classes, batches, accelerator, me=me)
    result = DetectionResult(
        str(model.spec),
        str(folder),
        sum(p.numel() for p in model.parameters()),
        keeper.best_epoch,
        about.metrics["val_ap"],
        test,
        about.classes,
        dropped,
        keeper.seconds,
        keeper.history,
    )
    if me.writes:
        measured = {"test_ap": test.ap, "test_ap50": test.ap50} if test else {}
        known = {name: value for name, value in measured.items() if value is not None}
        save(model, replace(about, metrics={**about.metrics, **known}), folder)
        write_card(folder, asdict(result))
        finish(folder, asdict(result))
    return result
