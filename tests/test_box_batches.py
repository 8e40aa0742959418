"""Batches of images with boxes: how they are varied, and that they are functions of seed, epoch and image."""

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from attnpool.data.loaders import Share
from attnpool.data.source import DataError
from attnpool.detection.data.batches import BoxLoaders, make_box_loaders
from attnpool.detection.data.files import ImageFile, Mark, MarkedFiles
from attnpool.detection.data.source import Boxes, BoxSource
from attnpool.detection.data.transforms import BoxAugmentation, Training, for_evaluation

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]
RED, GREEN = (255, 0, 0), (0, 255, 0)
EVERYTHING = BoxAugmentation(crop="iou", zoom_out=0.5, jitter=0.5, scale=(0.7, 1.4))


def marked(*boxes: tuple[float, float, float, float], crowd: bool = False) -> tuple[Image.Image, Boxes]:
    """A red image of 60 x 40 pixels, on which each box is green; the last is a crowd if asked for."""
    image = Image.new("RGB", (60, 40), RED)
    for box in boxes:
        image.paste(GREEN, tuple(map(int, box)))
    rows = torch.tensor(boxes).reshape(-1, 4)
    crowds = torch.tensor([crowd and i == len(boxes) - 1 for i in range(len(boxes))], dtype=torch.bool)
    labels = torch.arange(1, len(boxes) + 1)
    return image, Boxes(rows, labels, crowds, (rows[:, 2:] - rows[:, :2]).prod(1), image_id=9)


def green(image: Tensor) -> list[float]:
    """The box around what is more green than red, to the pixel."""
    y, x = torch.nonzero(image[1] > image[0], as_tuple=True)
    return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]


# Transforms


def test_targets_to_train_on_have_no_crowds() -> None:
    image, target = Training()(marked((1.0, 2.0, 10.0, 20.0), (30.0, 1.0, 40.0, 10.0), crowd=True))
    assert (image.shape, image.dtype, type(image), float(image.max())) == ((3, 40, 60), torch.float32, Tensor, 1)
    assert {key: value.tolist() for key, value in target.items()} == {
        "boxes": [[1, 2, 10, 20]],
        "labels": [1],
        "image_id": 9,
    }
    assert (type(target["boxes"]), target["boxes"].dtype, target["labels"].dtype) == (
        Tensor,
        torch.float32,
        torch.int64,
    )


def test_targets_to_evaluate_with_have_all() -> None:
    image, target = for_evaluation(marked((1.0, 2.0, 10.0, 20.0), (30.0, 1.0, 40.0, 10.0), crowd=True))
    assert (image.shape, type(image)) == ((3, 40, 60), Tensor)
    assert {key: value.tolist() for key, value in target.items()} == {
        "boxes": [[1, 2, 10, 20], [30, 1, 40, 10]],
        "labels": [1, 2],
        "crowd": [False, True],
        "area": [162, 90],
        "image_id": 9,
        "size": [40, 60],
    }


def test_flips_turn_the_boxes() -> None:
    image, target = Training(BoxAugmentation(hflip=1))(marked((1.0, 2.0, 10.0, 20.0)))
    assert (target["boxes"].tolist(), green(image)) == ([[50, 2, 59, 20]], [50, 2, 59, 20])


@pytest.mark.parametrize(
    "augmentation",
    [
        BoxAugmentation(hflip=0, zoom_out=1),
        BoxAugmentation(hflip=0, scale=(0.5, 0.9)),
        BoxAugmentation(hflip=0, scale=(1.1, 1.5)),
        BoxAugmentation(hflip=0, crop="iou"),
        BoxAugmentation(crop="iou", zoom_out=0.5, scale=(0.7, 1.4)),
    ],
)
def test_boxes_stay_on_what_they_mark(augmentation: BoxAugmentation) -> None:
    varied = 0
    training = Training(augmentation)
    for _ in range(40):
        image, target = training(marked((20.0, 10.0, 45.0, 30.0)))
        if len(target["boxes"]):
            assert target["boxes"][0].tolist() == pytest.approx(green(image), abs=1.01)
            height, width = image.shape[-2:]
            assert (target["boxes"] >= 0).all()
            assert (target["boxes"] <= torch.tensor([width, height] * 2)).all()
            varied += target["boxes"][0].tolist() != [20, 10, 45, 30]
    assert varied >= 20


def test_sizes_after_scaling_and_zooming_out() -> None:
    training = Training(BoxAugmentation(hflip=0, scale=(2, 2)))
    image, target = training(marked((0.0, 0.0, 10.0, 8.0), (20.0, 10.0, 45.0, 30.0)))
    assert image.shape == (3, 40, 60)
    assert target["boxes"].tolist() == [pytest.approx([10, 0, 60, 40])]  # twice as far from (30, 20), clipped
    assert target["labels"].tolist() == [2]  # of the other nothing is left
    image, _ = Training(BoxAugmentation(hflip=0, zoom_out=1))(marked())
    assert image.shape[1] > 40
    assert image.shape[2] > 60
    outside = image.flatten(1)[:, (image != torch.tensor(RED)[:, None, None] / 255).any(0).flatten()]
    assert (outside.T * 255).round().unique(dim=0).tolist() == [[124, 116, 104]]


def test_crops_keep_what_has_its_middle_in_them() -> None:
    training = Training(BoxAugmentation(hflip=0, crop="iou"))
    counts = {len(training(marked((0.0, 0.0, 20.0, 16.0), (40.0, 24.0, 60.0, 40.0)))[1]["labels"]) for _ in range(60)}
    assert counts == {1, 2}


def test_jitter_changes_colours_only() -> None:
    plain, _ = Training()(marked((1.0, 2.0, 10.0, 20.0)))
    images = [Training(BoxAugmentation(hflip=0, jitter=1))(marked((1.0, 2.0, 10.0, 20.0))) for _ in range(5)]
    for image, target in images:
        assert image.shape == plain.shape
        assert not torch.equal(image, plain)
        assert target["boxes"].tolist() == [[1, 2, 10, 20]]


def test_images_without_boxes_can_be_varied() -> None:
    for _ in range(20):
        image, target = Training(EVERYTHING)(marked())
        assert image.ndim == 3
        assert (target["boxes"].shape, target["labels"].shape) == ((0, 4), (0,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "pad"}, "crop has to be none or iou, but got 'pad'"),
        ({"hflip": 1.5}, "hflip has to be from 0 to 1, but got 1.5"),
        ({"zoom_out": -0.1}, "zoom_out has to be from 0 to 1, but got -0.1"),
        ({"jitter": 2}, "jitter has to be from 0 to 1, but got 2"),
        ({"scale": (0.0, 1.0)}, r"scale has to be two numbers above 0, the smaller first, but got \(0.0, 1.0\)"),
        ({"scale": (2.0, 1.0)}, r"scale has to be two numbers above 0, the smaller first, but got \(2.0, 1.0\)"),
    ],
)
def test_augmentation_is_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoxAugmentation(**options)


# Batches


def make_source(folder: Path, count: int, first: int = 0) -> BoxSource:
    """Images of different sizes and colours; each third has no box, each fourth a crowd beside it."""
    folder.mkdir()
    files, marks = [], []
    for i in range(count):
        width, height = 40 + i, 60 - i
        noise = np.random.default_rng(first + i).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        files.append(ImageFile(str(folder / f"{i}.png"), width, height, first + i))
        marks += [Mark(i, (5, 6, 20 + i, 30), 1 + i % 2)] if i % 3 else []
        marks += [Mark(i, (0, 0, 30, 40), 1, crowd=True, area=700)] if i % 4 == 0 else []
    return BoxSource(str(folder), MarkedFiles(files, marks), ("cat", "dog"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> BoxSource:
    return make_source(tmp_path_factory.mktemp("images") / "train", 20)


def drawn(loaders: BoxLoaders, epoch: int) -> list[Batch]:
    loaders.order.set_epoch(epoch)
    return [*loaders.train]  # type: ignore[list-item]


def ids(batches: Iterable[Any]) -> list[list[int]]:
    return [[int(target["image_id"]) for target in targets] for _, targets in batches]


def flat(batches: Iterable[Any]) -> list[int]:
    return [number for batch in ids(batches) for number in batch]


def same(a: Batch, b: Batch) -> bool:
    images = all(torch.equal(x, y) for x, y in zip(a[0], b[0], strict=True))
    keys = all({*x} == {*y} for x, y in zip(a[1], b[1], strict=True))
    return images and keys and all(torch.equal(x[k], y[k]) for x, y in zip(a[1], b[1], strict=True) for k in x)


def test_batches_are_lists_of_images_as_they_are(source: BoxSource) -> None:
    loaders = make_box_loaders(source, batch_size=4, val_fraction=0.2, workers=0)
    assert loaders.test is None
    batches = drawn(loaders, 0)
    assert [len(images) for images, _ in batches] == [4] * 4
    for images, targets in batches:
        for image, target in zip(images, targets, strict=True):
            i = int(target["image_id"])
            picture, boxes = source.images[i]
            assert image.shape == (3, 60 - i, 40 + i)
            assert torch.equal((image * 255).round().byte().permute(1, 2, 0), torch.from_numpy(np.array(picture)))
            assert target["boxes"].tolist() == boxes.boxes[~boxes.crowd].tolist()
    trained, held = flat(batches), flat(loaders.val)
    assert sorted(trained + held) == [*range(20)]
    assert len(held) == 4
    for targets in (targets for _, targets in loaders.val):
        for target in targets:
            boxes = source.images.annotations(int(target["image_id"]))
            assert {*target} == {"boxes", "labels", "crowd", "area", "image_id", "size"}
            assert torch.equal(target["crowd"], boxes.crowd)


def test_the_hold_out_depends_on_the_seed(source: BoxSource) -> None:
    held = [ids(make_box_loaders(source, seed=seed, workers=0).val) for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]


def test_splits_of_their_own(source: BoxSource, tmp_path: Path) -> None:
    val, test = make_source(tmp_path / "val", 5, 100), make_source(tmp_path / "test", 3, 200)
    loaders = make_box_loaders(source, val, test, batch_size=2, workers=0)
    assert loaders.test is not None
    assert ids(loaders.val) == [[100, 101], [102, 103], [104]]
    assert ids(loaders.test) == [[200, 201], [202]]
    assert sorted(flat(drawn(loaders, 0))) == [*range(20)]
    shares = [make_box_loaders(source, val, test, batch_size=2, workers=0, share=Share(p, 2)) for p in (0, 1)]
    assert [flat(loaders.val) for loaders in shares] == [[100, 102, 104], [101, 103]]


def test_batches_do_not_depend_on_workers_epochs_before_and_global_state(source: BoxSource) -> None:
    first = make_box_loaders(source, batch_size=4, augment=EVERYTHING, workers=0)
    drawn(first, 0)
    expected = drawn(first, 3)
    torch.manual_seed(99)
    random.seed(99)
    state = torch.get_rng_state()
    by_workers = make_box_loaders(source, batch_size=4, augment=EVERYTHING, workers=2)
    assert all(same(a, b) for a, b in zip(expected, drawn(by_workers, 3), strict=True))
    again = make_box_loaders(source, batch_size=4, augment=EVERYTHING, workers=0)
    again.order.skip(3, 8)
    assert all(same(a, b) for a, b in zip(expected[2:], drawn(again, 3), strict=True))
    assert torch.equal(state, torch.get_rng_state())
    assert not any(same(a, b) for a, b in zip(expected, drawn(first, 4), strict=True))
    other = make_box_loaders(source, batch_size=4, augment=EVERYTHING, workers=0, seed=1)
    assert not any(same(a, b) for a, b in zip(expected, drawn(other, 3), strict=True))


def test_processes_take_the_batches_of_one_together(source: BoxSource) -> None:
    alone = drawn(make_box_loaders(source, batch_size=4, augment=True, workers=0), 1)
    parts = [
        drawn(make_box_loaders(source, batch_size=4, augment=True, workers=0, share=Share(p, 2)), 1) for p in (0, 1)
    ]
    for (images, targets), (a, ta), (b, tb) in zip(alone, *parts, strict=True):
        assert same((images[::2], targets[::2]), (a, ta))
        assert same((images[1::2], targets[1::2]), (b, tb))


def test_arguments_are_checked(source: BoxSource, tmp_path: Path) -> None:
    for options, message in (
        ({"val_fraction": 1.0}, "val_fraction has to be above 0 and below 1, but got 1.0"),
        ({"batch_size": 0}, "batch_size has to be a positive integer, but got 0"),
        ({"workers": -1}, "workers has to be 0 or a positive integer, but got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            make_box_loaders(source, **options)  # type: ignore[arg-type]
    one = make_source(tmp_path / "one", 1)
    with pytest.raises(DataError, match=r"data has to have 2 images with boxes to hold one out, but .*one has [01]"):
        make_box_loaders(one)
    with pytest.raises(DataError, match="each split has to have an image for each of 2 processes, but has 1"):
        make_box_loaders(source, source, one, share=Share(0, 2), workers=0)
    other = replace(one, classes=("cat",))
    with pytest.raises(DataError, match=r"classes of .*one have to be those of .*train, cat, dog, but are cat$"):
        make_box_loaders(source, test=other, workers=0)


@pytest.mark.parametrize("size", [(1, 1), (200, 2), (3, 50)])
def test_images_of_few_pixels_are_cropped_or_left_as_they_are(size: tuple[int, int]) -> None:
    """Of 0.3 to 1 of their sides, rounded down, nothing may be left."""
    width, height = size
    crop = Training(BoxAugmentation(hflip=0, crop="iou"))
    box = torch.tensor([[0.0, 0.0, width, height]])
    boxes = Boxes(box, torch.tensor([1]), torch.tensor([False]), torch.tensor([1.0]), 0)
    made = [crop((Image.new("RGB", size), boxes)) for _ in range(60)]
    assert all(min(image.shape) >= 1 for image, _ in made)
    assert any(image.shape == (3, height, width) for image, _ in made)
    for image, target in made:
        assert (target["boxes"] <= torch.tensor([image.shape[2], image.shape[1]] * 2)).all()
