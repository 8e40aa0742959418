"""`attnpool prune`: a trained network with fewer channels, trained on, and measured before and after."""

import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich.markup import escape
from rich.table import Column, Table
from torch import nn

from attnpool.accounting.graph import on_meta, record
from attnpool.accounting.memory import layers_of, peak_step
from attnpool.accounting.profile import profile
from attnpool.data.loaders import Batches, make_loaders
from attnpool.data.preprocessing import Preprocessing
from attnpool.jobs._card import write_card
from attnpool.jobs._checkpoint import load_classifier
from attnpool.jobs._classifier import Classifier
from attnpool.jobs._fitting import fit_, make_fitter
from attnpool.jobs._folder import begin, finish, locked, refuse_overwriting
from attnpool.jobs._keeper import Keeper
from attnpool.jobs._learner import OptimizerName, Recipe
from attnpool.jobs._source import data_of, sizes
from attnpool.jobs._trainer import run_test, seeded
from attnpool.models.checkpoint import Description, load, save
from attnpool.models.prune import prune_channels
from attnpool.models.sites import blank_image

WARMUP = 1 / 3
"""Part of the fine-tuning in which the learning rate rises: an epoch of the usual three, as in training."""


@dataclass(frozen=True)
class Figures:
    """A network measured.

    Args:
        accuracy: On the test split, 0 to 1.
        loss: Cross-entropy on the test split.
        images: How many the test split has.
        params: Parameters.
        macs: Multiply-accumulates of one image.
        peak, in_out, largest: Bytes of activations in float32, by the conventions of `attnpool profile`.
    """

    accuracy: float
    loss: float
    images: int
    params: int
    macs: int
    peak: int
    in_out: int
    largest: int


@dataclass(frozen=True)
class PruneResult:
    """What `prune` did; also in `results.json` of the output folder.

    Args:
        checkpoint: The folder that was read.
        output: Folder of the pruned checkpoint.
        ratio: Part of the channels that were to go.
        where: Of which layers: "all" or "early".
        before: The network as it came.
        pruned: Without the channels, before it was trained on.
        finetuned: Trained on, the best validation epoch; None if it was not.
        left: Layers whose channels could not go, and why.
        history: The metrics of every epoch.
        seconds: Of training and validation.
    """

    checkpoint: str
    output: str
    ratio: float
    where: str
    before: Figures
    pruned: Figures
    finetuned: Figures | None
    left: dict[str, str]
    history: list[dict[str, float]]
    seconds: float

    def __rich__(self) -> Table:
        columns = {"before": self.before, "pruned": self.pruned}
        if self.finetuned is not None:
            columns["fine-tuned"] = self.finetuned
        title = escape(f"{self.checkpoint} pruned at ratio {self.ratio:g} ({self.where})")
        headers = [Column(name, justify="right") for name in columns]
        left = f"; left as they were: {', '.join(self.left)}" if self.left else ""
        table = Table("", *headers, title=title, caption=escape(f"checkpoint: {self.output}{left}"))
        found = columns.values()
        table.add_row("test accuracy", *(f"{f.accuracy:.2%}" for f in found))
        table.add_row("test loss", *(f"{f.loss:.4f}" for f in found))
        table.add_row("parameters", *(f"{f.params:,}" for f in found))
        table.add_row("multiply-accumulates", *(f"{f.macs:,}" for f in found))
        for convention in ("peak", "in_out", "largest"):
            name = f"memory, {convention.replace('_', '+')} (float32)"
            table.add_row(name, *(f"{getattr(f, convention) / 1e3:,.1f} kB" for f in found))
        return table


def prune(
    checkpoint: str,
    *,
    ratio: float = 0.5,
    where: Literal["all", "early"] = "all",
    output: str | None = None,
    data: str | None = None,
    data_dir: str | None = None,
    download: bool = True,
    finetune_epochs: int = 3,
    optimizer: OptimizerName = "sgd",
    lr: float | None = None,
    batch_size: int = 64,
    augment: bool = True,
    round_to: int = 4,
    seed: int | None = None,
    accelerator: str = "auto",
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> PruneResult:
    """Remove the channels of a network that weigh least, train it on, and measure it before and after.

    The output folder gets a checkpoint like any other (its spec records the channels), chosen on the validation split
    as in training, `last/`, `config.yaml`, `results.json` and `logs/`. Needs torch-pruning: pip install
    attnpool[prune].

    Args:
        checkpoint: Folder of the checkpoint; it stays as it is.
        ratio: Part of the channels of each layer to remove, above 0 and below 1.
        where: all layers, or early: those that run up to the peak of the activations' memory, and what residual sums
            tie to them.
        output: Folder for everything that is written; by default the checkpoint's name with -pruned.
        data: Data source, as in training; by default what it was trained on.
        data_dir: Where published data sets lie and are downloaded to; by default as in training.
        download: Download a published data set that is not there.
        finetune_epochs: Passes over the training data after pruning; 0: none.
        optimizer: Of the weights; sgd has momentum.
        lr: Peak learning rate; by default 0.02 for sgd, 0.001 for adam and adamw.
        batch_size: Images a step.
        augment: Random crops and flips of the training images.
        round_to: Channels that stay are a multiple of this.
        seed: Of hold-out, order and augmentation; by default that of the training, which held out the same images.
        accelerator: auto, cpu, gpu, ... as in Lightning.
        workers: Processes that read images; by default 0 for arrays in memory, else up to 4.
        overwrite: Replace a result in the output folder.
        progress: Show a progress bar.

    Raises:
        ValueError: for an argument that breaks its rule, or a network that cannot be pruned.
        CheckpointError: for a checkpoint that cannot be read.
        DataError: for data that cannot be used, or whose classes are not the checkpoint's.
        ImportError: if torch-pruning is not installed.
        FileExistsError: if the output folder holds a result and `overwrite` is false.
        KeyboardInterrupt: on Ctrl-C; the message says where the last finished epoch is.
    """
    arguments = dict(locals())
    if finetune_epochs < 0:
        raise ValueError(f"finetune_epochs has to be at least 0, but got {finetune_epochs}")
    recipe = Recipe(optimizer, lr, warmup_epochs=WARMUP * finetune_epochs)
    model = load_classifier(str(checkpoint))
    about: Description = model.description
    folder = _output(Path(checkpoint), output)
    refuse_overwriting(folder, overwrite)
    seed = about.training.get("seed", 0) if seed is None else seed
    source, _ = data_of(checkpoint, about, data, data_dir, download)
    preprocessing = Preprocessing.from_dict(about.preprocessing)
    size = preprocessing.image_size
    loaders = make_loaders(
        source,
        preprocessing,
        batch_size=batch_size,
        val_fraction=about.training.get("val_fraction", 0.1),
        augment=augment,
        seed=seed,
        workers=workers,
    )
    early = early_layers(model, size) if where == "early" else None
    found = prune_channels(
        model, ratio, round_to=round_to, input_size=size, where=None if early is None else lambda path: _in(path, early)
    )
    before = _measure(model, loaders.test, size, accelerator)
    done = {"ratio": ratio, "where": where, "round_to": round_to, "checkpoint": str(checkpoint)}
    training = {**about.training, "data": source.name, "images": sizes(source, loaders), "pruned": done}
    keeper = Keeper(folder, replace(about, spec=found.net.spec, metrics={}, training=training))
    with locked(folder):
        begin(folder, arguments, overwrite)
        pruned = _conclude(found.net, keeper.description, folder, loaders.test, accelerator)
        finetuned = None
        if finetune_epochs:
            with seeded(seed):
                fitter = make_fitter(keeper, recipe, finetune_epochs, accelerator, progress)
                fit_(Classifier(found.net, found.net.spec.num_classes, recipe, seed), fitter, keeper, loaders)
            best: Any = load(folder)
            finetuned = _conclude(best, best.description, folder, loaders.test, accelerator)
        figures = (before, pruned, finetuned)
        named = (str(checkpoint), str(folder), ratio, where)
        result = PruneResult(*named, *figures, found.left, keeper.history, keeper.seconds)
        write_card(folder, asdict(result))
        finish(folder, asdict(result))
    return result


def _output(checkpoint: Path, output: str | None) -> Path:
    """The output folder, which may not be the checkpoint's, nor one whose earlier run has the checkpoint in it."""
    here = checkpoint if checkpoint.name not in ("", "..") else checkpoint.resolve()
    folder = here.with_name(f"{here.name}-pruned") if output is None else Path(output)
    if checkpoint.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"output has to be another folder than that of the checkpoint, but got {folder}")
    return folder


def _measure(model: Any, batches: Batches, size: tuple[int, int], accelerator: str) -> Figures:
    tested = copy.deepcopy(model)  # a trainer moves it, and changes its memory format
    report = run_test(tested, batches, accelerator)
    cost = profile(model, (model.spec.in_channels, *size), latency=False, training=False)
    memory = (cost.memory.peak, cost.memory.in_out, cost.memory.largest)
    return Figures(report.top1, report.loss, report.images, cost.params, cost.macs, *memory)


def _conclude(model: Any, about: Description, folder: Path, batches: Batches, accelerator: str) -> Figures:
    """Test the network, and save it with what was measured."""
    figures = _measure(model, batches, Preprocessing.from_dict(about.preprocessing).image_size, accelerator)
    measured = {"test_accuracy": figures.accuracy, "test_loss": figures.loss, "test_images": figures.images}
    save(model, replace(about, metrics={**about.metrics, **measured}), folder)
    return figures


def early_layers(model: nn.Module, input_size: tuple[int, int]) -> set[str]:
    """The paths of the layers that run before the peak of the activations' memory, and at it."""
    light = on_meta(model)
    image = blank_image(light, input_size)
    graph = record(light, image)
    ran = {step.layer for step in graph.steps[: peak_step(graph, image.itemsize) + 1]}
    return {layer for layer in layers_of(light) if any(_in(path, {layer}) for path in ran)}


def _in(path: str, layers: set[str]) -> bool:
    """Whether a module is one of the layers, or part of one."""
    return path in layers or any(path.startswith(f"{layer}.") for layer in layers)
