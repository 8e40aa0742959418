"""Images that cannot be read: found beforehand, named and left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attnpool.data.broken import without_broken
from attnpool.data.loaders import make_loaders
from attnpool.data.preprocessing import Preprocessing
from attnpool.data.source import DataError, Source, Stream, open_source

RGB = Preprocessing((8, 8), 3, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """6 training and 2 test images of cats and of dogs, JPEG files."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for split, count in {"train": 6, "test": 2}.items():
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(noise).save(tmp_path / split / name / f"{i}.jpg")
    return tmp_path


def test_broken_images_are_named_and_left_out(photos: Path) -> None:
    half, text, empty = (photos / name for name in ("train/cat/1.jpg", "train/dog/5.jpg", "test/dog/0.jpg"))
    half.write_bytes(half.read_bytes()[:500])
    text.write_text("no image")
    empty.write_bytes(b"")
    seen: list[tuple[int, int]] = []
    source, broken = without_broken(open_source(f"folder:{photos}"), progress=lambda *numbers: seen.append(numbers))
    assert [file for file, _ in broken] == [str(half), str(text), str(empty)]
    assert [reason.partition(":")[0] for _, reason in broken] == ["OSError"] + ["it is of no kind Pillow knows"] * 2
    assert "truncated" in broken[0][1].lower()
    assert seen == [(i, 16) for i in range(1, 17)]
    splits: list[Any] = [source.train, source.test]
    assert [np.bincount(split.targets).tolist() for split in splits] == [[5, 5], [2, 1]]
    assert [[split[i][1] for i in range(len(split))] for split in splits] == [split.targets for split in splits]
    loaders = make_loaders(source, RGB, batch_size=4, workers=1)
    assert sum(len(labels) for part in (loaders.train, loaders.val, loaders.test) for _, labels in part) == 8 + 2 + 3


def test_a_source_that_is_whole_stays_itself(photos: Path, tmp_path: Path) -> None:
    source = open_source(f"folder:{photos}")
    assert without_broken(source, workers=1) == (source, [])
    arrays = open_source("fashion_mnist")
    assert without_broken(arrays, progress=pytest.fail) == (arrays, [])


def test_a_class_that_loses_all_its_images_is_an_error(photos: Path) -> None:
    for file in (photos / "test/dog").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=rf"but 'dog' has none in test of folder:{photos}"):
        without_broken(open_source(f"folder:{photos}"))


class Endless:
    """The least that is a stream."""

    lengths = (1,)

    def read(self, shard: int) -> Any:
        raise NotImplementedError


def test_a_stream_is_not_read_beforehand() -> None:
    stream: Any = Endless()
    assert isinstance(stream, Stream)
    source = Source("wds/there", stream, stream, ("a", "b"), 3, (0.5,) * 3, (0.5,) * 3, val=stream)
    with pytest.raises(DataError, match=r"on_bad_image has to be error for a stream, .*: wds/there"):
        without_broken(source)


def test_an_error_of_a_worker_is_still_one_line(photos: Path) -> None:
    file = photos / "test/cat/0.jpg"
    file.write_bytes(b"")
    loaders = make_loaders(open_source(f"folder:{photos}"), RGB, workers=1)
    with pytest.raises(DataError) as caught:
        list(loaders.test)
    assert str(caught.value).startswith(
        f"cannot read the image {file}: it is of no kind Pillow knows; --on-bad-image skip"
    )
    assert "\n" not in str(caught.value)
