"""`attnpool train`: from an architecture string to a trained, measured checkpoint."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from attnpool.data.augmentation import Crop
from attnpool.data.loaders import Batches, Share
from attnpool.data.preprocessing import Interpolation
from attnpool.jobs._card import write_card
from attnpool.jobs._classifier import Classifier
from attnpool.jobs._cluster import Processes, processes
from attnpool.jobs._fitting import Precision, trained
from attnpool.jobs._folder import earlier, finish
from attnpool.jobs._keeper import Keeper
from attnpool.jobs._learner import OptimizerName, ScheduleName
from attnpool.jobs._setup import check_settings, set_up
from attnpool.jobs._size import check_size
from attnpool.jobs._source import OnBadImage, open_data, sizes, write_skipped
from attnpool.jobs._trained import TrainResult
from attnpool.jobs._trainer import run_test, seeded
from attnpool.models.build import build
from attnpool.models.checkpoint import Description, load, save


def train(
    architecture: str,
    *,
    output: str | None = None,
    data: str = "fashion_mnist",
    data_dir: str | None = None,
    download: bool = True,
    on_bad_image: OnBadImage = "error",
    epochs: int = 10,
    batch_size: int = 64,
    image_size: int | None = None,
    width: float = 1.0,
    placement: Literal["before", "after_first", "end"] | None = None,
    dropout: float = 0.0,
    attention: str = "",
    query_blocks: int | None = None,
    optimizer: OptimizerName = "sgd",
    lr: float | None = None,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    schedule: ScheduleName = "cosine",
    warmup_epochs: float = 1.0,
    label_smoothing: float = 0.0,
    clip_norm: float | None = None,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    ema_decay: float | None = None,
    augment: bool = True,
    crop: Crop = "pad",
    scale: tuple[float, float] = (0.08, 1.0),
    hflip: float = 0.5,
    auto_augment: str = "",
    color_jitter: float = 0.0,
    reprob: float = 0.0,
    interpolation: Interpolation = "bilinear",
    crop_pct: float = 1.0,
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
    compile: bool = False,
    workers: int | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> TrainResult:
    """Train a network and test it once, with the weights of its best validation epoch.

    The output folder gets the checkpoint (`model.safetensors`, `model.json`), `last/` (the checkpoint of the last
    finished epoch), `config.yaml` (these arguments), `results.json`, `README.md` (a model card), and `logs/` (CSV and
    TensorBoard); and, until the run is finished, `state.safetensors`, from which it goes on with `resume`. On a CPU
    that gives the same weights, to the bit, as a run that never stopped. Started by torchrun or srun, the processes
    train one network together.

    Args:
        architecture: [prepool-POOL-STRIDE-]BACKBONE-POOL-STRIDES, e.g. mobilenet_v2-nlp_headfix2-1222121.
        output: Folder for everything that the run writes; by default runs/ARCHITECTURE.
        data: fashion_mnist, cifar10, folder:PATH, npz:PATH, hfds/NAME, ...; `attnpool list data` has them all.
        data_dir: Where published data sets lie and are downloaded to; by default ~/.cache/attnpool.
        download: Download a published data set that is not there.
        on_bad_image: An image that cannot be read: error stops at the first; skip looks through all of them before
            training, leaves out those and names them in `skipped.txt`.
        epochs: Passes over the training data.
        batch_size: Images a step, those of all processes and accumulated batches together.
        image_size: Side that the images are resized to, in pixels; by default that of the data.
        width: Factor on all channel numbers of the network.
        placement: Where a pool stands in a stage; by default as published for the backbone.
        dropout: Probability of dropping a feature before the classifier.
        attention: Subspace attention (ULSAM) where after:BLOCK or replace:BLOCK says, with :GROUPS if not 4, separated
            by commas; e.g. after:blocks.4.1,replace:blocks.5.1.
        query_blocks: Blocks of queries that attention takes one after the other when the network is used and profiled;
            training itself takes the fused kernel, which gives the same.
        optimizer: Of the weights; sgd has momentum.
        lr: Peak learning rate; by default 0.02 for sgd, 0.001 for adam and adamw.
        momentum: Of sgd.
        weight_decay: On all weights but biases and norms.
        schedule: steps divides the learning rate by 5 at 60, 80 and 90 %; cosine falls to zero after a warm-up.
        warmup_epochs: Linear rise of the cosine schedule, in epochs.
        label_smoothing: Part of the label spread over all classes.
        clip_norm: Largest norm of a step's gradient, above which it is scaled down; by default there is none.
        mixup: Alpha of mixup; 0: none. With cutmix as well, either with the same probability.
        cutmix: Alpha of cutmix; 0: none.
        ema_decay: Decay, a step, of the average of the weights that is validated and kept, with timm's warm-up; by
            default there is none.
        augment: Vary the training images at random, as the next six say; without it they are used as they are.
        crop: pad moves an image by up to 1/8 of its sides; resized cuts out a random part and resizes it.
        scale: Smallest and largest part of the area that resized cuts out.
        hflip: Probability of flipping left to right.
        auto_augment: RandAugment, AutoAugment or AugMix as timm writes them (rand-m9-mstd0.5), or trivial.
        color_jitter: Largest change of brightness, contrast and saturation.
        reprob: Probability of erasing a rectangle.
        interpolation: Of resizing, in training and afterwards.
        crop_pct: Part of the sides that validation, test and prediction see: below 1 the centre is cut out.
        pretrained: Start from timm's weights of the backbone, from its hub or cache; pools and classifier start fresh.
        pretrained_file: Start from timm's weights of the backbone in this file, .safetensors or .pth.
        freeze_backbone: Epochs at the start in which only pools, attention and the classifier learn.
        pool_lr: Factor on the learning rate of pools and attention, which no pretrained backbone brings.
        val_fraction: Part of the training data held out to choose the best epoch.
        seed: Of weights, hold-out, order and augmentation; the same seed gives the same run on the same machine.
        precision: Of the arithmetic: 32-true, bf16-mixed or 16-mixed.
        accelerator: auto, cpu, gpu, ... as in Lightning.
        accumulate: Batches whose gradients are added up before a step: less memory for the same batch size.
        sync_batchnorm: Batch norms see the batch of all processes, not of one.
        compile: Compile the network (torch.compile): a minute at the start, faster steps.
        workers: Processes that read images; by default 0 for arrays in memory, else up to 4.
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
    folder, me = Path(output or f"runs/{architecture}"), processes()
    if done := earlier(folder, arguments):
        return TrainResult.from_json(done)
    source, broken = open_data(data, data_dir, download, on_bad_image, progress)
    ready = set_up(spec, arguments, source, Share(me.rank, me.count, accumulate))
    training: dict[str, Any] = {"data": source.name, "data_dir": data_dir, "seed": seed, "val_fraction": val_fraction}
    training["images"] = sizes(source, ready.loaders)
    keeper = Keeper(folder, Description(ready.spec, source.classes, ready.preprocessing.to_dict(), training=training))
    with seeded(seed):
        model = build(ready.spec, pretrained=pretrained_file or pretrained)
        check_size(model, ready.preprocessing.image_size)
        if compile:
            model.compile()
        learner = Classifier(model, ready.spec.num_classes, ready.recipe, seed)

        def prepare(goes_on: bool) -> None:
            if me.writes and not goes_on:
                write_skipped(folder, broken)

        with trained(learner, ready.loaders, keeper, arguments, me, prepare) as done:
            if done:
                return TrainResult.from_json(done)
            return _conclude(keeper, ready.loaders.test, accelerator, me, len(broken))


def _conclude(keeper: Keeper, batches: Batches, accelerator: str, me: Processes, skipped: int) -> TrainResult:
    """Test the best epoch's weights once, and write what was measured beside them."""
    folder = keeper.output
    model: Any = load(folder)
    report = run_test(model, batches, accelerator, me=me)
    about: Description = model.description
    measured = {"test_accuracy": report.top1, "test_loss": report.loss}
    metrics = {**about.metrics, **measured, "test_images": report.images}
    result = TrainResult(
        str(model.spec),
        str(folder),
        sum(p.numel() for p in model.parameters()),
        keeper.best_epoch,
        about.metrics["val_accuracy"],
        classes=about.classes,
        per_class=report.per_class,
        skipped=skipped,
        seconds=keeper.seconds,
        history=keeper.history,
        **measured,
    )
    if me.writes:
        save(model, replace(about, metrics=metrics), folder)
        write_card(folder, asdict(result))
        finish(folder, asdict(result))
    return result
