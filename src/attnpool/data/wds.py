"""Images in tar files, as webdataset and timm lay them out: read one after the other, never all at hand."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from attnpool.data.folder import IMAGENET_MEAN, IMAGENET_STD
from attnpool.data.images import read_image
from attnpool.data.source import DataError, Source
from attnpool.registry import SOURCES

INFO = "_info.json"
KINDS = ("jpg", "jpeg", "png", "webp")


@SOURCES.register("wds")
def wds(path: str) -> Source:
    """Tar files of webdataset, written wds/PATH: PATH/_info.json says which files are train, validation and test.

    As in timm: {"splits": {"train": {"filenames": [...], "shard_lengths": [...]}, ...}}, and in the files NAME.jpg (or
    jpeg, png, webp) beside NAME.cls, which holds the label as a number. The names of the classes are the lines of
    PATH/classes.txt, or "classes" in _info.json. Needs all three splits, since a stream cannot be split. PATH is a
    folder of this machine, also a mounted one; no address is opened and nothing is executed.

    Raises:
        DataError: Files that are missing, not named, or not as described.
        ImportError: webdataset is not installed.
    """
    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise ImportError("wds needs webdataset: pip install attnpool[streams]") from error
    root = Path(path).expanduser()
    info = _info(root)
    splits = {
        "val" if name in ("val", "valid", "validation") else name: split for name, split in info["splits"].items()
    }
    if not {"train", "val", "test"} <= {*splits}:
        raise DataError(
            f"a stream cannot be split: {root / INFO} has to have splits train, validation and test, "
            f"but has {', '.join(info['splits'])}; make what is missing of some of the files"
        )
    classes = _classes(root, info)
    train, val, test = (_split(root, name, splits[name], len(classes)) for name in ("train", "val", "test"))
    return Source(f"wds/{root.resolve()}", train, test, classes, 3, IMAGENET_MEAN, IMAGENET_STD, val=val)


class TarImages:
    """Labelled images of tar files, a `Stream`.

    Args:
        files: The tar files.
        lengths: How many images each holds.
        classes: How many classes there are.
    """

    def __init__(self, files: Sequence[Path], lengths: Sequence[int], classes: int) -> None:
        self.files = files
        self.lengths = lengths
        self.classes = classes

    def read(self, shard: int) -> Iterator[tuple[Callable[[], Image.Image], int]]:
        """The images of a file in their order, each decoded when it is called, and their labels.

        Raises:
            DataError: A file that is broken or holds more or fewer images than said, a sample without image or label.
        """
        from webdataset.tariterators import group_by_keys, tar_file_expander

        file, count = self.files[shard], 0
        try:
            with open(file, "rb") as stream:
                for sample in group_by_keys(tar_file_expander([{"url": str(file), "stream": stream}])):
                    count += 1
                    yield self._sample(f"{sample['__key__']} in {file}", sample)
        except DataError:
            raise
        except Exception as error:  # of tarfile, zlib, webdataset
            raise DataError(f"cannot read the shard {file}: {type(error).__name__}: {error}") from error
        if count != self.lengths[shard]:
            raise DataError(f"{file} has to hold {self.lengths[shard]} images, as {INFO} says, but holds {count}")

    def _sample(self, name: str, sample: dict[str, Any]) -> tuple[Callable[[], Image.Image], int]:
        kind = next((kind for kind in KINDS if kind in sample), None)
        if kind is None:
            raise DataError(f"each sample has to have an image ({', '.join(KINDS)}), but {name} has none")
        label = sample.get("cls", b"").decode("ascii", "replace").strip()
        if not label.isdecimal() or int(label) >= self.classes:
            raise DataError(f"each sample has to have a cls from 0 to {self.classes - 1}, but {name} has {label!r}")
        return partial(read_image, BytesIO(sample[kind]), name, upright=True), int(label)


def _info(root: Path) -> dict[str, Any]:
    file = root / INFO
    if not file.is_file():
        raise DataError(f"path of a wds source has to be a folder with {INFO}, but {file} does not exist")
    try:
        info = json.loads(file.read_bytes())
        return {**info, "splits": dict(info["splits"])}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{file} has to be JSON with splits, but {type(error).__name__}: {error}") from error


def _classes(root: Path, info: dict[str, Any]) -> tuple[str, ...]:
    file = root / "classes.txt"
    names = file.read_text().split("\n") if file.is_file() else info.get("classes")
    if not names:
        raise DataError(f"the classes have to be named, one a line, in {file} (or as classes in {INFO})")
    return tuple(str(name).strip() for name in names if str(name).strip())


def _split(root: Path, name: str, split: Any, classes: int) -> TarImages:
    try:
        files = [root / file for file in split["filenames"]]
        lengths = [int(length) for length in split["shard_lengths"]]
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(
            f"split {name} of {root / INFO} has to have filenames and shard_lengths, "
            f"but {type(error).__name__}: {error}"
        ) from error
    if len(files) != len(lengths) or not files or min(lengths) < 1:
        raise DataError(
            f"split {name} of {root / INFO} has to have a positive shard length for each file, but has {len(files)} "
            f"files and lengths {lengths[:10]}"
        )
    for file in files:
        if not file.is_file():
            raise DataError(f"split {name} of {root / INFO} names {file}, which does not exist")
    return TarImages(files, lengths, classes)
