"""Images in one NumPy archive of the user."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnpool.data.arrays import ArrayImages, pixel_statistics
from attnpool.data.source import DataError, Source
from attnpool.registry import SOURCES, did_you_mean


@SOURCES.register("npz")
def npz(path: str) -> Source:
    """Images in one .npz file: x_train, y_train, x_test, y_test and, if you like, classes.

    x is uint8 of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3); y holds integers, (N,) or (N, 1); classes holds the
    names, `"0"` to `"K-1"` if left out. Mean and std are those of (at most 10,000 of) x_train.

    Raises:
        DataError: No such file, no archive, pickled objects, a missing key, a wrong type, shape, length or label.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"path of an npz source has to be a file, but {file} {_what(file)}")
    if not zipfile.is_zipfile(file):
        raise DataError(f"{file} is not an npz file (numpy.savez writes one)")
    with np.load(file, allow_pickle=False) as archive:
        train, test = (_split(file, archive, name) for name in ("train", "test"))
        if train.channels != test.channels:
            raise DataError(f"{file}: x_train has {train.channels} channels, but x_test has {test.channels}")
        classes = _classes(file, archive, train)
    for key, images in {"y_train": train, "y_test": test}.items():
        _check_labels(f"{file}: {key}", images.targets, classes)
    mean, std = pixel_statistics(train.images)
    size = (train.images.shape[1], train.images.shape[2])
    return Source(f"npz:{file.resolve()}", train, test, classes, train.channels, mean, std, image_size=size)


def _what(path: Path) -> str:
    return "is a folder" if path.is_dir() else "does not exist"


def _array(file: Path, archive: Any, key: str) -> NDArray[Any]:
    if key not in archive:
        raise DataError(f"{file} has no array {key!r}{did_you_mean(key, archive)}")
    try:
        array = archive[key]
    except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: cannot read {key}: {error}") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{file}: {key} is not a NumPy array")
    return array


def _split(file: Path, archive: Any, name: str) -> ArrayImages:
    x, y = (_array(file, archive, f"{letter}_{name}") for letter in "xy")
    shaped = x.ndim == 3 or (x.ndim == 4 and x.shape[3] in (1, 3))
    if x.dtype != np.uint8 or not shaped or not x.size:
        raise DataError(
            f"{file}: x_{name} has to be uint8 of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3) and not empty, "
            f"but got {x.dtype} of shape {x.shape}"
        )
    if y.dtype.kind not in "iu" or y.shape[1:] not in ((), (1,)) or y.ndim == 0:
        raise DataError(f"{file}: y_{name} has to be integers of shape (N,), but got {y.dtype} of shape {y.shape}")
    if len(x) != len(y):
        raise DataError(f"{file}: x_{name} and y_{name} have to be of one length, but got {len(x)} and {len(y)}")
    return ArrayImages(x, y.flatten())


def _classes(file: Path, archive: Any, train: ArrayImages) -> tuple[str, ...]:
    if "classes" not in archive:
        return tuple(str(label) for label in range(len({*train.targets})))
    names = _array(file, archive, "classes")
    if names.dtype.kind != "U" or names.ndim != 1 or len({*names.tolist()}) != names.size:
        raise DataError(
            f"{file}: classes has to be distinct str of shape (K,), but got {names.dtype} of shape {names.shape}"
        )
    return tuple(names.tolist())


def _check_labels(where: str, targets: list[int], classes: tuple[str, ...]) -> None:
    for label in sorted({*targets} - {*range(len(classes))}):
        raise DataError(
            f"{where} has to hold labels from 0 to {len(classes) - 1} without a gap, one for each class of the "
            f"training data, but got {label}"
        )
    for label in sorted({*range(len(classes))} - {*targets}):
        raise DataError(f"{where} has to hold each class, but has no image of {classes[label]!r}")
