"""What a data source is, and how a text such as `folder:PATH` becomes one."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image

from attnpool.registry import SOURCES, did_you_mean, import_all


class DataError(ValueError):
    """Data that cannot be used; one line that names the file or the class.

    A DataLoader worker re-raises an error with its whole traceback as the message; only the line itself is kept.
    """

    def __init__(self, message: str) -> None:
        line = message.rpartition(f"{type(self).__module__}.{type(self).__name__}: ")[2]
        super().__init__(" ".join(line.split("\n")).strip())


class LabelledImages(Protocol):
    """A map-style dataset of (PIL image, label) whose labels can be had without decoding an image."""

    @property
    def targets(self) -> Sequence[int]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Image.Image, int]: ...


@runtime_checkable
class Stream(Protocol):
    """Labelled images in files, the shards, that can only be read from the beginning: data too big to be at hand."""

    @property
    def lengths(self) -> Sequence[int]:
        """How many images each shard holds."""
        ...

    def read(self, shard: int) -> Iterator[tuple[Callable[[], Image.Image], int]]:
        """The images of a shard in their order, each decoded when it is called, and their labels."""
        ...


@dataclass(frozen=True)
class Source:
    """Images with labels, split into training and test data.

    Args:
        name: What it was opened as.
        train, test: The splits; a label is a position in `classes`, and each class is in each split. If one is a
            stream, all three are, since a stream cannot be split.
        classes: The names of the classes.
        channels: 1 (grey) or 3 (RGB).
        mean, std: Of the pixels of the training data in units of 0..1, one number a channel.
        val: A validation split of its own, if the source comes with one.
        image_size: The (height, width) to use unless asked otherwise, in pixels: that of images of one size.
    """

    name: str
    train: LabelledImages | Stream
    test: LabelledImages | Stream
    classes: tuple[str, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    val: LabelledImages | Stream | None = None
    image_size: tuple[int, int] = (224, 224)


def open_source(text: str, *, data_dir: str | Path | None = None, download: bool = True) -> Source:
    """Open the source that `text` names: `NAME`, or `NAME:ARGUMENT` where the source takes one.

    Args:
        text: The name, with `:` or `/` before the argument; timm writes hfds/NAME and wds/PATH.
        data_dir: Where published data sets are looked for and downloaded to; by default ~/.cache/attnpool (in
            $XDG_CACHE_HOME if it is set), and for hfds the cache of Hugging Face.
        download: Whether what is missing is downloaded.

    Raises:
        DataError: An unknown name, an argument missing or too many, or data that cannot be used.
        ImportError: The source needs a library that is not installed; the message says how to get it.
    """
    import_all("attnpool.data")
    name, mark, argument = _parts(text)
    if name not in SOURCES:
        folder = text and Path(text).expanduser().is_dir()
        hint = f": a folder of images is written 'folder:{text}'" if folder else did_you_mean(name, SOURCES)
        raise DataError(f"unknown data source {text if folder else name!r}{hint}")
    entry = SOURCES[name]
    parameters = inspect.signature(entry.target).parameters.values()
    wanted = [p.name.upper() for p in parameters if p.kind is not p.KEYWORD_ONLY and entry.takes(p.name)]
    if bool(mark) != bool(wanted) or (wanted and not argument):
        raise DataError(f"data source {name} has to be written {':'.join([name, *wanted])}, but got {text!r}")
    offered = {"data_dir": None if data_dir is None else Path(data_dir).expanduser(), "download": download}
    options = {key: value for key, value in offered.items() if entry.takes(key)}
    source: Source = entry(argument, **options) if wanted else entry(**options)
    if len(source.classes) < 2:
        raise DataError(f"data has to have at least 2 classes, but {text} has {len(source.classes)}")
    return source


def _parts(text: str) -> tuple[str, str, str]:
    """`folder:a/b` as folder, :, a/b; `wds/a` as wds, /, a; `fashion_mnist` as itself and two empty texts."""
    colon, slash = text.partition(":"), text.partition("/")
    return slash if slash[0] in SOURCES else colon
