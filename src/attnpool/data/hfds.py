"""Data sets that Hugging Face's `datasets` opens: of the hub, or of this machine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset

from attnpool.data.folder import IMAGENET_MEAN, IMAGENET_STD
from attnpool.data.images import read_image
from attnpool.data.source import DataError, Source
from attnpool.registry import SOURCES

VALIDATION = ("validation", "val", "valid")


@SOURCES.register("hfds")
def hfds(name: str, *, data_dir: Path | None = None, download: bool = True) -> Source:
    """Data of Hugging Face, written hfds/NAME: NAME is that of the hub, or a folder of parquet files or of images.

    It has to have a split train, and test or validation (val, valid); with all three, validation is the validation
    split. What has no labels (-1, as the test split of ImageNet) is left out. Needs one column of images and one of
    labels: the only one of class labels, or `label`. Images become RGB; mean and std are those of ImageNet.

    Args:
        name: As for `datasets.load_dataset`, and in timm.
        data_dir: Its cache; by default that of Hugging Face.
        download: Whether what is missing in the cache is downloaded.

    Raises:
        DataError: Data that cannot be loaded, splits or columns that are missing.
        ImportError: `datasets` is not installed.
    """
    splits = _load(name, data_dir, download)
    if "train" not in splits:
        raise DataError(f"hfds/{name} has to have a split train, but has {', '.join(splits)}")
    image, label = _columns(name, splits["train"].features)
    found = {split: HuggingFaceImages(rows, image, label, f"{split} of hfds/{name}") for split, rows in splits.items()}
    known = {split: images for split, images in found.items() if images.targets and min(images.targets) >= 0}
    held = [split for split in ("test", *VALIDATION) if split in known]
    if "train" not in known or not held:
        raise DataError(
            f"hfds/{name} has to have labelled train and test (or validation) splits, but has {', '.join(known)}"
        )
    classes = _classes(splits["train"].features[label], [known["train"], *(known[split] for split in held)])
    val = known[held[1]] if held[0] == "test" and len(held) > 1 else None
    place = Path(name).expanduser()
    opened = f"hfds/{place.resolve() if place.exists() else name}"
    return Source(opened, known["train"], known[held[0]], classes, 3, IMAGENET_MEAN, IMAGENET_STD, val=val)


class HuggingFaceImages(Dataset[tuple[Image.Image, int]]):
    """Labelled images of a split, each decoded to RGB when it is read.

    Args:
        rows: The split, a `datasets.Dataset`.
        image, label: Names of its columns.
        name: What errors call it.
    """

    def __init__(self, rows: Any, image: str, label: str, name: str) -> None:
        import datasets

        self.rows = rows.cast_column(image, datasets.Image(decode=False))
        self.image = image
        self.name = name
        self.targets = [-1 if target is None else int(target) for target in rows[label]]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        found = self.rows[index][self.image] or {}
        data, path = found.get("bytes"), found.get("path")
        name = f"{path or index} in {self.name}"
        image = read_image(BytesIO(data) if data is not None else path or "", name, upright=True)  # as `datasets` does
        return image, self.targets[index]


def _load(name: str, data_dir: Path | None, download: bool) -> dict[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise ImportError("hfds needs Hugging Face's datasets: pip install attnpool[streams]") from error
    place = Path(name).expanduser()
    cache = None if data_dir is None else str(data_dir)
    try:
        with nullcontext() if download else _offline(datasets.config):
            return dict(datasets.load_dataset(str(place) if place.exists() else name, cache_dir=cache))
    except Exception as error:  # the network, the hub, files of many formats
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot load hfds/{name}: {reason}") from error


@contextmanager
def _offline(config: Any) -> Iterator[None]:
    """Within, `datasets` asks its cache only: the setting is a global one."""
    before, config.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before


def _columns(name: str, features: Any) -> tuple[str, str]:
    import datasets

    images = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
    labels = [column for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    if not labels and "label" in features and "int" in str(getattr(features["label"], "dtype", "")):
        labels = ["label"]
    found = []
    for what, columns, usual in (("images", images, "image"), ("class labels", labels, "label")):
        if len(columns) != 1 and usual not in columns:
            raise DataError(
                f"hfds/{name} has to have one column of {what} (or one called {usual}), "
                f"but has {', '.join(columns) or 'none'} among {', '.join(features)}"
            )
        found.append(usual if usual in columns else columns[0])
    return found[0], found[1]


def _classes(feature: Any, splits: Sequence[HuggingFaceImages]) -> tuple[str, ...]:
    names = getattr(feature, "names", None)
    if names is None:
        names = [str(label) for label in range(1 + max(max(images.targets) for images in splits))]
    return tuple(names)
