"""What a picture of one image is made of: sections of panels, each a map with its title, scale and unit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from attnpool.visualise._pools import Pool
from attnpool.visualise.attention_maps import AttentionMap
from attnpool.visualise.class_activation import METHODS, WITHOUT_CLASS, ClassActivation
from attnpool.visualise.kept_maps import KeptMap
from attnpool.visualise.weight_maps import WeightMap

HEADS = 6
"""Most heads of a pool that a picture shows."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Panel:
    """One map.

    Args:
        title: A line or two, in words.
        values: (h, w), over the whole of what the network sees.
        unit: What the numbers of the colour bar are.
        colours: Name of a colour map of matplotlib.
        low, high: Values of its ends.
        middle: Value of its middle, where that does not lie halfway between.
        over_image: Whether the image shows through.
        mark: Edges of a rectangle to mark, left, top, right, bottom, in parts of the width and height.
    """

    title: str
    values: Any
    unit: str
    colours: str
    low: float
    high: float
    over_image: bool = True
    mark: Box | None = None
    middle: float | None = None


@dataclass(frozen=True)
class Section:
    """Panels of one thing, under its name and a sentence on what they show."""

    name: str
    panels: Sequence[Panel] = field(default_factory=list)
    note: str = ""


def activation_section(
    found: Sequence[tuple[str, ClassActivation]], classes: Sequence[str], said: int | None, note: str = ""
) -> Section:
    """Class activations, each with the name of its method; `said` is the class that the network says."""
    panels = []
    for method, activation in found:
        name, rank = classes[activation.target], "predicted" if activation.target == said else "asked for"
        of = "of all classes" if method in WITHOUT_CLASS else f"{shortened(name)}, {rank}"
        title = f"{METHODS[method][1]}\n{of}"
        unit = "1 = most" if activation.map.any() else "no evidence"
        panels.append(Panel(title, activation.map, unit, "viridis", 0.0, 1.0))
    layers = dict.fromkeys(path.rpartition("net.")[2] for _, activation in found for path in activation.layers)
    return Section(
        "Class activation", panels, f"where in the image the evidence lies, by the map of {', '.join(layers)}"
    )


def pool_section(
    place: str,
    pool: Pool,
    kept: KeptMap,
    weight: WeightMap | None,
    attention: AttentionMap | None,
    channels: Sequence[int] | None,
) -> Section:
    """What one pool keeps, weighs and attends to."""
    given, made = ("x".join(map(str, x.shape[-2:])) for x in (pool.given, pool.made))
    panels = _kept_panels(kept, made)
    notes = []
    if weight is not None:
        panels += _weight_panels(weight, channels)
    else:
        notes.append("has no weights of positions")
    if attention is not None:
        panels += _attention_panels(attention)
        heads = attention.rows.shape[1]
        if heads > HEADS:
            notes.append(f"{HEADS} of {heads} heads are shown")
    return Section(f"{place}: {pool.method}, {given} to {made}", panels, "; ".join(notes))


def _kept_panels(kept: KeptMap, size: str) -> list[Panel]:
    high = float(max(kept.before.max(), kept.after.max()))
    panels = [Panel(f"kept\nmap of {size}", array(kept.after), "strength", "gray", 0.0, high, False)]
    if kept.lost is not None and kept.part is not None:
        title = f"lost\n{float(kept.part[0]):.0%} of the energy"
        panels.append(Panel(title, array(kept.lost), "1 = mean strength", "magma", 0.0, float(kept.lost.max()), False))
    return panels


def _weight_panels(found: WeightMap, channels: Sequence[int] | None) -> list[Panel]:
    """The mean over channels, and what channels count: those that are asked for, else the one that varies most."""
    weight, share = found.weight[0], found.share[0]  # (C, H, W)
    chosen = [int(share.flatten(1).std(1).argmax())] if channels is None else list(channels)
    maps = {f"mean of {len(weight)} channels": weight.mean(0)}
    maps |= {f"channel {channel}": weight[channel] for channel in channels or ()}
    low, high = min(float(w.min()) for w in maps.values()), max(float(w.max()) for w in maps.values())
    panels = [Panel(f"weights\n{name}", array(w), "w", "cividis", low, high) for name, w in maps.items()]
    low = min([0.99, *(float(share[channel].min()) for channel in chosen)])
    high = max([1.01, *(float(share[channel].max()) for channel in chosen)])
    for channel in chosen:
        title = f"counts\nchannel {channel}" + (", varies most" if channels is None else "")
        panels.append(Panel(title, array(share[channel]), "1 = as average", "PuOr", low, high, False, middle=1.0))
    return panels


def _attention_panels(found: AttentionMap) -> list[Panel]:
    rows = found.rows[0] * found.rows[0, 0].numel()  # (heads, h, w), 1 where all patches get the same
    (row, column), (height, width) = found.query, found.grid
    mark = (column / width, row / height, (column + 1) / width, (row + 1) / height)
    high = float(rows.max())
    return [
        Panel(f"attention\nhead {i + 1}", array(head), "1 = equal share", "viridis", 0.0, high, mark=mark)
        for i, head in enumerate(rows[:HEADS])
    ]


def array(x: Tensor) -> Any:
    """Of a batch of one, or of one map, its values: (h, w)."""
    return (x[0] if x.ndim == 3 else x).detach().cpu().float().numpy()


def shortened(text: str, most: int = 16) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
