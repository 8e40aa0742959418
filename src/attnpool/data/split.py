"""Hold out the same part of every class."""

from collections.abc import Sequence

import torch

from attnpool.data.source import DataError


def stratified_split(
    targets: Sequence[int], classes: Sequence[str], fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Positions kept and positions held out: `fraction` of each class, rounded, but at least one kept and one held.

    The same `targets`, `fraction` and `seed` give the same split.

    Raises:
        DataError: A class has fewer than two images.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.as_tensor(targets)
    kept: list[int] = []
    held: list[int] = []
    for label, name in enumerate(classes):
        members = torch.nonzero(labels == label).flatten()
        if len(members) < 2:
            raise DataError(f"class {name!r} has to have at least 2 images to hold one out, but got {len(members)}")
        order = members[torch.randperm(len(members), generator=generator)].tolist()
        count = min(max(1, round(fraction * len(order))), len(order) - 1)
        held += order[:count]
        kept += order[count:]
    return sorted(kept), sorted(held)
