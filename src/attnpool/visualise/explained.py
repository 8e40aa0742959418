"""Everything there is to show of one image: worked out together, laid out as sections, and as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from attnpool.visualise._frame import Frame, frame_of
from attnpool.visualise._pools import Pool, find_pools
from attnpool.visualise._watch import Images
from attnpool.visualise.attention_maps import AttentionMap, attention_maps
from attnpool.visualise.class_activation import ClassActivation, class_activation
from attnpool.visualise.kept_maps import KeptMap, kept_maps
from attnpool.visualise.panels import Section, pool_section
from attnpool.visualise.weight_maps import WeightMap, weight_maps


@dataclass(frozen=True)
class Explained:
    """What one image does in a network; of what is by path, the path of the pool.

    Args:
        frame: Which part of the maps shows the image.
        pools: Every pool.
        weights, attention, kept: As their functions give them.
        activations: Name of a method and what it found, for each class.
    """

    frame: Frame
    pools: Mapping[str, Pool]
    weights: Mapping[str, WeightMap]
    attention: Mapping[str, AttentionMap]
    kept: Mapping[str, KeptMap]
    activations: Sequence[tuple[str, ClassActivation]]

    def pool_sections(self, channels: Sequence[int] | None) -> list[Section]:
        """A section for each pool, or one that says there is none; `channels` are those to show, where it has them."""
        sections = []
        for number, (path, pool) in enumerate(self.pools.items(), 1):
            weight = self.weights.get(path)
            own = None if channels is None or weight is None else [c for c in channels if c < weight.weight.shape[1]]
            place = f"Pool {number} ({path.rpartition('net.')[2]})"
            sections.append(pool_section(place, pool, self.kept[path], weight, self.attention.get(path), own))
        return sections or [Section("No pools", note="strided convolutions shrink the maps of this network")]

    def arrays(self) -> dict[str, Any]:
        """All that pictures show and leave out, by name: PATH/weight (C, H, W), METHOD/CLASS (H, W), ..."""
        found: dict[str, Any] = {"frame": np.array([self.frame.size, self.frame.shown])}
        for path, w in self.weights.items():
            found |= {f"{path}/weight": w.weight[0], f"{path}/share": w.share[0]}
        for path, a in self.attention.items():
            found |= {f"{path}/attention": a.rows[0], f"{path}/query": np.array(a.query)}
        for path, k in self.kept.items():
            found |= {f"{path}/before": k.before[0], f"{path}/after": k.after[0]}
            found |= {} if k.lost is None else {f"{path}/lost": k.lost[0]}
        for method, activation in self.activations:
            found[f"{method}/{activation.target}"] = activation.map
        return {name: np.asarray(values) for name, values in found.items()}


def explain(
    model: nn.Module,
    x: Images,
    *,
    query: tuple[float, float] = (0.5, 0.5),
    methods: Sequence[str] = (),
    targets: Sequence[int] = (),
    layers: Sequence[str] = (),
    threshold: float = 0.5,
) -> Explained:
    """Work it all out for one image.

    Args:
        model, x, query: See `attention_maps`; one image.
        methods: Of class activation, for each of `targets`.
        targets: Classes, counted from 0.
        layers, threshold: See `class_activation`.

    Raises:
        ValueError: for an argument that breaks its rule.
        ImportError: if methods are asked for and grad-cam is not installed.
    """
    activations = [
        (method, class_activation(model, x, method, target=target, layers=layers, threshold=threshold))
        for target in targets
        for method in methods
    ]
    return Explained(
        frame_of(model, x),
        find_pools(model, x),
        weight_maps(model, x),
        attention_maps(model, x, query),
        kept_maps(model, x),
        activations,
    )
