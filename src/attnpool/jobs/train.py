"""`attnpool train`: from an architecture string to a trained, measured checkpoint."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.markup import escape
from rich.table import Column, Table

from attnpool.data.loaders import Batches, make_loaders
from attnpool.data.preprocessing import Preprocessing
from attnpool.data.source import open_source
from attnpool.jobs._annealing import Annealing
from attnpool.jobs._classifier import OptimizerName, Recipe, ScheduleName
from attnpool.jobs._fitting import fit_, make_fitter
from attnpool.jobs._keeper import Keeper
from attnpool.jobs._trainer import check_size, claim, run_test, seeded
from attnpool.models.build import build
from attnpool.models.checkpoint import Description, load, save
from attnpool.spec import parse


@dataclass(frozen=True)
class TrainResult:
    """What `train` measured; also in `results.json` of the output folder.

    Args:
        architecture: The string.
        output: Folder of the checkpoint.
        params: Parameters of the network.
        best_epoch: Epoch with the best validation accuracy, from 1: the one that was kept.
        val_accuracy: Its accuracy on the validation split, 0 to 1.
        test_accuracy: Its accuracy on the test split, 0 to 1.
        test_loss: Its cross-entropy on the test split.
        seconds: Of training and validation.
        history: The metrics of every epoch.
    """

    architecture: str
    output: str
    params: int
    best_epoch: int
    val_accuracy: float
    test_accuracy: float
    test_loss: float
    seconds: float
    history: list[dict[str, float]]

    def __rich__(self) -> Table:
        table = Table("", Column(overflow="fold"), title=self.architecture, show_header=False)
        table.add_row("test accuracy", f"{self.test_accuracy:.2%}")
        table.add_row("test loss", f"{self.test_loss:.4f}")
        table.add_row("validation accuracy", f"{self.val_accuracy:.2%} (best, epoch {self.best_epoch})")
        table.add_row("parameters", f"{self.params:,}")
        table.add_row("training", f"{self.seconds:.1f} s")
        table.add_row("checkpoint", escape(self.output))
        return table


def train(
    architecture: str,
    *,
    output: str | None = None,
    data: str = "fashion_mnist",
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
    augment: bool = True,
    val_fraction: float = 0.1,
    seed: int = 0,
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    accelerator: str = "auto",
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> TrainResult:
    """Train a network and test it once, with the weights of its best validation epoch.

    The output folder gets the checkpoint (`model.safetensors`, `model.json`), `last/` (the checkpoint of the last
    finished epoch), `config.yaml` (these arguments), `results.json`, and `logs/` (CSV and TensorBoard).

    Args:
        architecture: [prepool-POOL-STRIDE-]BACKBONE-POOL-STRIDES, e.g. mobilenet_v2-nlp_headfix2-1222121.
        output: Folder for everything that the run writes; by default runs/ARCHITECTURE.
        data: fashion_mnist, folder:PATH or npz:PATH; `attnpool list data` explains them.
        epochs: Passes over the training data.
        batch_size: Images a step.
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
        augment: Random crops and flips of the training images.
        val_fraction: Part of the training data held out to choose the best epoch.
        seed: Of weights, hold-out, order and augmentation; the same seed gives the same run on the same machine.
        precision: Of the arithmetic: 32-true, bf16-mixed or 16-mixed.
        accelerator: auto, cpu, gpu, ... as in Lightning.
        workers: Processes that read images; by default 0 for arrays in memory, else up to 4.
        overwrite: Replace a result in the output folder.
        progress: Show a progress bar.

    Raises:
        ValueError: for an argument that breaks its rule, a string or data that cannot be used.
        FileExistsError: if the output folder holds a result and `overwrite` is false.
        KeyboardInterrupt: on Ctrl-C; the message says where the last finished epoch is.
    """
    arguments = dict(locals())
    recipe = Recipe(optimizer, lr, momentum, weight_decay, schedule, warmup_epochs, label_smoothing, clip_norm)
    _check_run(epochs, seed, precision)
    spec = parse(architecture)  # first of all, since it is the likeliest mistake and costs nothing
    source = open_source(data)
    size = source.image_size if image_size is None else (image_size, image_size)
    preprocessing = Preprocessing(size, source.channels, source.mean, source.std)
    loaders = make_loaders(
        source,
        preprocessing,
        batch_size=batch_size,
        val_fraction=val_fraction,
        augment=augment,
        seed=seed,
        workers=workers,
    )
    spec = replace(
        spec,
        num_classes=len(source.classes),
        in_channels=source.channels,
        width=width,
        dropout=dropout,
        attention=attention,
        query_blocks=query_blocks,
        placement=placement,
        input_size=size,
    )
    training = {"data": source.name, "seed": seed, "val_fraction": val_fraction}
    about = Description(spec, source.classes, preprocessing.to_dict(), training=training)
    folder = Path(output or f"runs/{architecture}")
    keeper = Keeper(folder, about)
    with seeded(seed):
        model = build(spec)
        check_size(model, size)
        trainer = make_fitter(keeper, recipe, epochs, accelerator, progress, Annealing(), precision=precision)
        claim(folder, arguments)
        seconds = fit_(model, trainer, keeper, loaders, recipe)
    return _conclude(folder, keeper, loaders.test, accelerator, seconds)


def _check_run(epochs: int, seed: int, precision: str) -> None:
    if epochs < 1:
        raise ValueError(f"epochs has to be positive, but got {epochs}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed has to be at least 0 and below 2^63, but got {seed}")
    if precision == "16-mixed" and not torch.cuda.is_available():
        raise ValueError("precision has to be 32-true or bf16-mixed without a GPU, but got 16-mixed")


def _conclude(folder: Path, keeper: Keeper, batches: Batches, accelerator: str, seconds: float) -> TrainResult:
    """Test the best epoch's weights once, and write what was measured beside them."""
    model: Any = load(folder)
    report = run_test(model, batches, accelerator)
    about: Description = model.description
    measured = {"test_accuracy": report.top1, "test_loss": report.loss}
    save(model, replace(about, metrics={**about.metrics, **measured}), folder)
    result = TrainResult(
        str(model.spec),
        str(folder),
        sum(p.numel() for p in model.parameters()),
        keeper.best_epoch,
        about.metrics["val_accuracy"],
        seconds=seconds,
        history=keeper.history,
        **measured,
    )
    (folder / "results.json").write_text(json.dumps(asdict(result), indent=2) + "\n")
    return result
