"""The sections of a model card, in Markdown; nothing in them names a folder of the machine."""

import inspect
import re
import shlex
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from attnpool.accounting.counts import count
from attnpool.data.preprocessing import Preprocessing
from attnpool.detection.spec import DetectionSpec
from attnpool.jobs._folder import MAY_CHANGE
from attnpool.jobs._quantities import CONVENTIONS, DEVICE
from attnpool.jobs._statistics import wilson
from attnpool.models.checkpoint import Description
from attnpool.poolspec import PoolSpec
from attnpool.registry import POOLS
from attnpool.spec import ModelSpec

NAMED = 20
"""Classes that are named; of more, the first half of as many."""


def network(spec: ModelSpec | DetectionSpec) -> str:
    """The architecture string in words."""
    if isinstance(spec, DetectionSpec):
        height, width = spec.image_size
        lines = [f"Detector: {code(spec.detector)}, images of {height} x {width} pixels", *_backbone(spec.network)]
        return _list(lines)
    size = spec.input_size
    image = f"{spec.in_channels} channel{'s' * (spec.in_channels > 1)}"
    if size is not None:
        image = f"{size[0]} x {size[1]} pixels, {image}"
    return _list([f"Input: {image}; {spec.num_classes} classes", *_backbone(spec)])


def _backbone(spec: ModelSpec) -> list[str]:
    """What a spec says of how the network is built, a line for each thing."""
    width = f", {spec.width:g} times its channels" if spec.width != 1 else ""
    dynamic = ", with dynamic convolution in place of every convolution" if spec.dynamic else ""
    lines = [f"Backbone: {code(spec.backbone)}{width}{dynamic}"]
    at = [str(i) for i, stride in enumerate(spec.strides, 1) if stride > 1]
    strides = "".join(map(str, spec.strides))
    where = f"in stages {', '.join(at)} of {len(spec.strides)} (strides {strides})" if at else "in no stage"
    lines.append(f"Downsampling {where}: {_pool(spec.pool)}")
    if spec.prepool is not None:
        lines.append(f"After the stem, at stride {spec.prepool_stride}: {_pool(spec.prepool)}")
    if spec.attention:
        lines.append(f"Subspace attention (ULSAM): {code(spec.attention)}")
    if spec.query_blocks is not None:
        lines.append(f"Attention takes its queries in {spec.query_blocks} blocks")
    if spec.channels:
        lines.append("Channels were pruned; `model.json` has what is left of each layer")
    return lines


def _pool(pool: PoolSpec) -> str:
    entry = POOLS[pool.method]
    formula = POOLS[entry.base].summary
    variant = f" ({entry.summary})" if entry.fixed else ""
    return f"{code(str(pool))}{variant}. {formula}"


def measured(about: Description, results: Mapping[str, Any]) -> str:
    """What was measured on images that the network had not seen, with the interval that their number allows."""
    metrics = about.metrics
    n = int(metrics.get("test_images", 0))
    rows: dict[str, str] = {}
    if (part := metrics.get("test_accuracy")) is not None:
        low, high = wilson(part, n) if n else (0.0, 0.0)
        interval = (
            f" (95 % interval {percent(low)} to {percent(high)}, n = {n:,} images)" if n else " (n is not recorded)"
        )
        rows["test accuracy"] = f"**{percent(part)}**{interval}"
    if "test_loss" in metrics:
        rows["test loss"] = f"{metrics['test_loss']:.4f}"
    for name, text in {"test_ap": "test AP (0.5 to 0.95)", "test_ap50": "test AP50"}.items():
        if name in metrics:
            images = about.training.get("images", {}).get("test")
            rows[text] = f"**{percent(metrics[name])}**" + (f" (n = {images:,} images; no interval)" if images else "")
    for name, text in {"val_accuracy": "validation accuracy", "val_ap": "validation AP"}.items():
        if name in metrics:
            rows[text] = f"{percent(metrics[name])} (the epoch was chosen by it)"
    weak = _weakest(about.classes, results.get("per_class") or [])
    rows |= {"weakest class": weak} if weak else {}
    if not rows:
        verb = "detect evaluate" if isinstance(about.spec, DetectionSpec) else "evaluate"
        return f"Not measured: `attnpool {verb} CHECKPOINT --data SOURCE` does it."
    after = ""
    if part is not None and n:
        after = "\n\nThe interval is Wilson's: of other test images of the same kind, not of other seeds."
    return _table(("quantity", "value"), rows.items()) + after


def _weakest(classes: tuple[str, ...], per_class: list[float]) -> str:
    if len(per_class) != len(classes) or not classes:
        return ""
    part, name = min(zip(per_class, classes, strict=True))
    return f"{cell(code(name))}, of which {percent(part)} are recognised"


def cost(model: Any, about: Description) -> str:
    """Parameters, operations and memory by each convention; or why they are not counted."""
    detects = isinstance(model.spec, DetectionSpec)
    size = model.spec.image_size if detects else Preprocessing.from_dict(about.preprocessing).image_size
    try:
        counts = count(model.raw() if detects else model, (3 if detects else model.spec.in_channels, *size))
    except (RuntimeError, ValueError, NotImplementedError) as error:
        return f"Not counted: {' '.join(str(error).split())}"
    bytes_of = {"float32": 4, "int8": 1}
    rows = [("weights", *(f"{counts.params * size / 1e3:,.1f} kB" for size in bytes_of.values()))]
    for name, text in CONVENTIONS.items():
        rows.append((text, *(f"{getattr(counts.memory[dtype], name) / 1e3:,.1f} kB" for dtype in bytes_of)))
    for name, text in DEVICE.items():
        rows.append((text, "-", f"{getattr(counts.device, name) / 1e3:,.1f} kB"))
    image = " x ".join(map(str, counts.input_size))
    said = f"{counts.params:,} parameters; {counts.macs / 1e6:,.2f} million multiply-accumulates for an image {image}"
    layers = " (of the layers, without the decoding of boxes)" if detects else ""
    return f"{said}{layers}. Memory of activations, counted as `attnpool profile` does:\n\n" + _table(
        ("memory", *bytes_of), rows
    )


def data(about: Description) -> str:
    """Where the images came from, and how they were split."""
    training = about.training
    lines = [f"Source: {code(portable(str(training.get('data') or 'not recorded')))}"]
    for name, text in {"val_data": "Validation", "test_data": "Test"}.items():
        if training.get(name):
            lines.append(f"{text}: {code(portable(str(training[name])))}")
    names = {"train": "trained on", "val": "to choose the epoch by", "test": "tested on, once"}
    images = training.get("images") or {}
    if images:
        lines.append("Images: " + ", ".join(f"{images[k]:,} {text}" for k, text in names.items() if k in images))
    shown = about.classes if len(about.classes) <= NAMED else about.classes[: NAMED // 2]
    rest = f" and {len(about.classes) - len(shown)} more" if len(shown) < len(about.classes) else ""
    lines.append(f"{len(about.classes)} classes: {', '.join(map(code, shown))}{rest}")
    return _list(lines)


def training(config: Path, about: Description) -> str:
    """How it came about: the command that says so, as far as it is known."""
    said = about.training
    lines = []
    if "converted_from" in said:
        lines.append(f"Weights of the published repository, converted from {code(Path(said['converted_from']).name)}.")
    if "pruned" in said:
        lines.append(f"Channels were removed at ratio {said['pruned']['ratio']:g} ({said['pruned']['where']} layers).")
    if "epoch" in said:
        lines.append(f"The weights are those of epoch {said['epoch']}, seed {said.get('seed')}.")
    versions = ", ".join(f"{name} {number}" for name, number in about.versions.items())
    lines.append(f"Versions: {versions}.")
    command = _command(config, about)
    return "\n".join(lines) + (f"\n\n```sh\n{command}\n```" if command else "")


def _command(config: Path, about: Description) -> str:
    """The command line that `config.yaml` stands for, without what decides nothing; "" if there is none."""
    if not config.is_file():
        return ""
    given: dict[str, Any] = yaml.safe_load(config.read_text())
    detects = isinstance(about.spec, DetectionSpec)
    verb = "detect train" if detects else "prune" if "ratio" in given else "train"
    job = import_module(f"attnpool.jobs.{verb.replace(' ', '.')}")  # which imports this file
    parameters = inspect.signature(getattr(job, verb.split()[-1])).parameters
    words = ["attnpool", *verb.split()]
    for name, p in parameters.items():
        value, default = (tuple(v) if isinstance(v, list) else v for v in (given.get(name, p.default), p.default))
        if name in MAY_CHANGE or (value == default and name != "epochs"):
            continue
        option = name.replace("_", "-")
        if p.kind is p.POSITIONAL_OR_KEYWORD:
            words.append(portable(str(value)))
        elif isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, tuple):
            words += [f"--{option}", *map(portable, map(str, value))]
        else:
            words += [f"--{option}", "null" if value is None else portable(str(value))]
    return shlex.join(words)


def use(about: Description, place: str) -> str:
    """How to get it and what it does, in commands."""
    detects = isinstance(about.spec, DetectionSpec)
    verb = "detect predict" if detects else "predict"
    does = "gives the detector" if detects else "gives the network"
    return (
        f"```sh\nattnpool pull {place} --output checkpoint\nattnpool {verb} checkpoint photo.jpg\n```\n\n"
        f'From Python, `attnpool.load("checkpoint")` {does}, in eval mode; `checkpoint` is the folder with this file. '
        "It holds weights as safetensors and JSON: nothing is unpickled."
    )


def limits(about: Description) -> str:
    """What it is for, and what nobody has looked at."""
    detects = isinstance(about.spec, DetectionSpec)
    task = "Finding objects of" if detects else "Telling apart"
    return (
        f"{task} the classes above in images like those that it was trained on; comparing ways of downsampling; a "
        "start for training on other images.\n\n"
        + _list(
            [
                "Every image is given to one of the classes, also one that shows none of them"
                if not detects
                else "What is not among the classes is not found",
                "One run with one seed: another may be better or worse by more than the test images can tell",
                "Other cameras, other light and other places than those of the data were not tried, nor was fairness "
                "towards people who are shown",
                "Nothing here makes it fit to decide about people's health, safety or rights",
            ]
        )
    )


def portable(source: str) -> str:
    """A data source or file without the folders that it lies in: "folder:/home/me/photos" becomes "folder:photos"."""
    if source.startswith("hfds/"):
        return source
    mark, rest = ("wds/", source[4:]) if source.startswith("wds/") else ("", source)
    return mark + re.sub(r"[^:]*[/\\]", "", rest.rstrip("/\\"))


def percent(part: float) -> str:
    """A part of 1 in per cent."""
    return f"{100 * part:.2f} %"


def code(text: str) -> str:
    """A name as Markdown shows it unchanged, on one line."""
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"


def cell(text: str) -> str:
    """A text that a table's bars do not cut."""
    return text.replace("|", r"\|")


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
