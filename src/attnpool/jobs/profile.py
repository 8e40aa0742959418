"""`attnpool profile`: what a network costs, on the terminal, in files and as a picture."""

import csv as csv_files
import json as json_files
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from attnpool.accounting.profile import Dtype, Profile, profile
from attnpool.detection.spec import DetectionSpec
from attnpool.jobs._figures import memory_figure, shape_text
from attnpool.jobs._quantities import CONVENTIONS, DEVICE
from attnpool.models.network import is_checkpoint, open_network
from attnpool.pools._attention import SelfAttention
from attnpool.spec import SpecError

DEFAULT_INPUT = (3, 224, 224)
PICTURES = ("png", "pdf", "svg", "jpg")


@dataclass(frozen=True)
class Profiles:
    """One profile, or two beside each other, as tables."""

    profiles: tuple[Profile, ...]

    def __rich__(self) -> Group:
        return Group(*map(layer_table, self.profiles), summary(self.profiles))


def profile_(
    network: str,
    *,
    input: str | None = None,
    dtype: Dtype = "float32",
    batch: int = 1,
    versus: str | None = None,
    num_classes: int | None = None,
    width: float | None = None,
    placement: Literal["before", "after_first", "end"] | None = None,
    attention: str | None = None,
    query_blocks: int | None = None,
    latency: bool = True,
    training: bool = True,
    allow_uncounted: bool = False,
    json: str | None = None,
    csv: str | None = None,
    picture: str | None = None,
) -> Profiles:
    """Count a network's parameters, operations and memory by each convention, and measure its time.

    Operations and memory are those of the exported graph, attention in explicit products; norms folded, ReLU fused.

    Args:
        network: An architecture string (DETECTOR:ARCHITECTURE for the layers of a detector), or the folder of a
            checkpoint.
        input: Channels, height and width of the image; by default those of the checkpoint, or 3x224x224.
        dtype: The type that bytes are counted for: float32, float16, bfloat16 or int8; measurements are in float32.
        batch: Images at a time.
        versus: A second string or checkpoint, to see beside the first; what follows is for both, if they are strings.
            A string beside a checkpoint is for the checkpoint's images and number of classes, unless said otherwise.
        num_classes: Outputs of an architecture string's network; by default 1000.
        width: Factor on all channel numbers of an architecture string's network; by default 1.
        placement: Where a pool stands in a stage; by default as published for the backbone.
        attention: Subspace attention (ULSAM), as in `attnpool train`.
        query_blocks: Blocks of queries that attention takes one after the other; by default all at once.
        latency: Measure the time of a pass.
        training: Measure the memory of a training step.
        allow_uncounted: Count operations without a formula as none, and name them.
        json: File for all figures.
        csv: File for the table of layers.
        picture: File for a picture of the memory in use over the course of the network.

    Raises:
        UncountedError: for operations without a formula.
        ValueError: for an argument that breaks its rule.
        CheckpointError: for a checkpoint that cannot be read.
    """
    _check_files(json=json, csv=csv, picture=picture)
    given = {"num_classes": num_classes, "width": width, "placement": placement, "attention": attention}
    settings = {name: value for name, value in {**given, "query_blocks": query_blocks}.items() if value is not None}
    options: dict[str, Any] = {"latency": latency, "training": training, "allow_uncounted": allow_uncounted}
    names = (network, versus) if versus else (network,)
    if settings and all(map(is_checkpoint, names)):
        raise SpecError(f"{next(iter(settings))} has to be left out for a checkpoint, which has its own")
    opened = _open_all(names, input, settings)
    attends = any(isinstance(module, SelfAttention) for model, _ in opened for module in model.modules())
    if query_blocks is not None and not attends:
        raise SpecError(f"query_blocks has to be left out: there is no attention in {' or '.join(names)}")
    found = [profile(model, size, dtype=dtype, batch=batch, **options) for model, size in opened]
    if json is not None:
        values = found[0].to_dict() | ({"versus": found[1].to_dict()} if versus else {})
        Path(json).write_text(json_files.dumps(values, indent=2) + "\n")
    if csv is not None:
        _write_layers(Path(csv), found)
    if picture is not None:
        memory_figure(found).savefig(picture)
    return Profiles(tuple(found))


def layer_table(profile: Profile) -> Table:
    """A row for each layer, in the order they run."""
    title = f"{profile.name}, {shape_text(profile.input_size)}, batch {profile.batch}, {profile.dtype}"
    table = Table(title=escape(title), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("layer", overflow="fold")
    for name in ("makes", "params", "MACs", "live, kB"):
        table.add_column(name, justify="right", no_wrap=True)
    for layer in profile.layers:
        at_peak = layer.live_bytes == profile.memory.peak
        counts = (shape_text(layer.shape, profile.batch), f"{layer.params:,}", f"{layer.macs:,}")
        live = f"{layer.live_bytes / 1e3:,.1f}"
        table.add_row(escape(layer.name), *counts, live, style="bold" if at_peak else None)
    return table


def summary(profiles: Sequence[Profile]) -> Table:
    """The totals, a column for each network."""
    table = Table("", *(escape(p.name) for p in profiles), title="Totals")
    for column in table.columns[1:]:
        column.overflow = "fold"
    table.add_row("parameters", *(f"{p.params:,}" for p in profiles))
    table.add_row("multiply-accumulates", *(f"{p.macs:,}" for p in profiles))
    if any(p.uncounted for p in profiles):
        table.add_row("[bold]not counted[/bold]", *(", ".join(p.uncounted) or "-" for p in profiles))
    table.add_row(f"weights, {profiles[0].dtype}", *(bytes_text(p.weight_bytes) for p in profiles), end_section=True)
    for field, text in CONVENTIONS.items():
        table.add_row(text, *(bytes_text(getattr(p.memory, field)) for p in profiles))
    for name, text in DEVICE.items() if profiles[0].device else ():
        table.add_row(text, *(bytes_text(getattr(p.device, name)) for p in profiles))
    table.add_row("at the peak runs", *(escape(f"{p.peak_layer} ({p.peak_operation})") for p in profiles))
    table.add_row("and are live", *(_live_text(p) for p in profiles), end_section=True)
    if any(p.training or p.untrained for p in profiles):
        table.add_row("training step: most held (measured)", *(_training_text(p, "peak") for p in profiles))
        table.add_row("of it saved activations", *(_training_text(p, "saved") for p in profiles))
    if any(p.latency for p in profiles):
        table.add_row("time of a pass (measured)", *map(_latency_text, profiles))
    return table


def bytes_text(count: int) -> str:
    """Exactly, and to read."""
    unit, size = ("MB", 1e6) if count >= 1e6 else ("kB", 1e3)
    return f"{count:,} B ({count / size:,.2f} {unit})"


def parse_input(text: str) -> tuple[int, int, int]:
    """(channels, height, width) of e.g. "3x224x224"."""
    match = re.fullmatch("([1-9][0-9]*)x([1-9][0-9]*)x([1-9][0-9]*)", text)
    if match is None:
        raise ValueError(f"input has to be CHANNELSxHEIGHTxWIDTH, e.g. 3x224x224, but got {text!r}")
    return (int(match[1]), int(match[2]), int(match[3]))


def _open_all(
    names: Sequence[str], text: str | None, settings: dict[str, Any]
) -> list[tuple[Any, tuple[int, int, int]]]:
    """The networks with the sizes of their images; a string's are those of the checkpoint beside it."""
    opened = {name: _open(name, text, {}) for name in names if is_checkpoint(name)}
    for model, (channels, height, width) in opened.values():
        text = text or f"{channels}x{height}x{width}"
        if not isinstance(model.spec, DetectionSpec):
            settings = {"num_classes": model.spec.num_classes, **settings}
    return [opened.get(name) or _open(name, text, settings) for name in names]


def _open(name: str, text: str | None, settings: dict[str, Any]) -> tuple[Any, tuple[int, int, int]]:
    """The network, and the size of its image."""
    size = None if text is None else parse_input(text)
    if is_checkpoint(name):
        model: Any = open_network(name, **settings)
        spec = model.spec
        detects = isinstance(spec, DetectionSpec)
        height, width = (spec.image_size if detects else spec.input_size) or DEFAULT_INPUT[1:]
        return model, size or (3 if detects else spec.in_channels, height, width)
    size = size or DEFAULT_INPUT
    return open_network(name, in_channels=size[0], **settings), size


def _live_text(profile: Profile) -> str:
    """A line for each kind of buffer, and how many there are of it."""
    lines = Counter(f"{b.layer} {shape_text(b.shape, profile.batch)}: {b.bytes:,} B" for b in profile.live)
    return "\n".join(escape(f"{count} x {line}" if count > 1 else line) for line, count in lines.items())


def _training_text(profile: Profile, part: str) -> str:
    if profile.training is None:
        return escape(profile.untrained) or "-"
    return bytes_text(getattr(profile.training, part))


def _check_files(**files: str | None) -> None:
    """Refuse, before anything is measured, files that could not be written."""
    known = {name: Path(file) for name, file in files.items() if file is not None}
    for name, file in known.items():
        if file.is_dir() or not file.parent.is_dir():
            raise ValueError(f"{name} has to be a file in a folder that exists, but got {str(file)!r}")
    if len(set(known.values())) < len(known):
        raise ValueError(
            f"{', '.join(known)} have to be different files, but got {', '.join(map(str, known.values()))}"
        )
    picture = known.get("picture")
    if picture is not None and picture.suffix.lstrip(".").lower() not in PICTURES:
        raise ValueError(f"picture has to end in .{', .'.join(PICTURES)}, but got {str(picture)!r}")


def _latency_text(profile: Profile) -> str:
    found = profile.latency
    if found is None:
        return "-"
    where = f"{found.threads} threads of the CPU" if found.device == "cpu" else found.device
    text = f"{found.median:.2f} ms (quartiles {found.lower:.2f} to {found.upper:.2f})"
    return f"{text}, {found.runs} passes after {found.warm_up}, {found.dtype}, {where}"


def _write_layers(file: Path, profiles: Sequence[Profile]) -> None:
    with file.open("w", newline="") as stream:
        rows = [
            {"network": p.name, **asdict(layer), "shape": shape_text(layer.shape)}
            for p in profiles
            for layer in p.layers
        ]
        writer = csv_files.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
