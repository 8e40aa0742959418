"""Random numbers of integers, augmentation, and the centre crop of evaluation."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import v2

from attnpool.data.augmentation import Augmentation
from attnpool.data.preprocessing import Preprocessing
from attnpool.data.randomness import randomness

GREY = Preprocessing((24, 32), 1, (0.5,), (0.25,))
RGB = Preprocessing((24, 32), 3, (0.5, 0.4, 0.3), (0.25, 0.25, 0.25))


def photo(width: int = 60, height: int = 45, mode: str = "RGB") -> Image.Image:
    """Smooth colours, other at each place, so that every change of geometry or colours shows."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 * x / width, 255 * y / height, 128 + 0 * x], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def draws() -> list[float]:
    """Two numbers of each of the three global generators; a normal one too, of which NumPy keeps a second for later."""
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), *torch.rand(2).tolist()]  # noqa: NPY002


def test_randomness_depends_on_its_numbers_only() -> None:
    seen = []
    for numbers in [(0, 1, 2), (0, 1, 2), (0, 2, 1), (0, 1, 3), (0,), (2**63, 0)]:
        draws()
        with randomness(*numbers):
            seen.append(draws())
    assert seen[0] == seen[1]
    assert len({tuple(drawn) for drawn in seen}) == 5
    assert len({*seen[0]}) == 6  # the three generators give unrelated numbers


def test_randomness_leaves_all_three_states_even_after_an_error() -> None:
    with randomness(7):
        draws()
        expected = draws()
    with randomness(7):
        draws()
        with pytest.raises(ZeroDivisionError):
            fail_within()
        assert draws() == expected


def fail_within() -> None:
    with randomness(0):
        draws()
        raise ZeroDivisionError


@pytest.mark.parametrize("numbers", [(), (0, -1)])
def test_randomness_wants_integers_of_at_least_0(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="numbers has to be one or more integers of at least 0, but got"):
        randomness(*numbers).__enter__()


# Augmentation


@pytest.mark.parametrize("preprocessing", [GREY, RGB], ids=["grey", "rgb"])
def test_the_default_is_the_padded_crop_and_flip_that_it_always_was(preprocessing: Preprocessing) -> None:
    before = v2.Compose(
        [
            v2.RGB() if preprocessing.channels == 3 else v2.Grayscale(),
            v2.Resize((24, 32)),
            v2.RandomCrop((24, 32), padding=(4, 3), padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(preprocessing.mean, preprocessing.std),
            v2.ToPureTensor(),
        ]
    )
    for seed in range(8):
        results = []
        for transform in (before, preprocessing.transform(True), preprocessing.transform(Augmentation())):
            torch.manual_seed(seed)
            results.append(transform(photo()))
        assert torch.equal(results[0], results[1])
        assert torch.equal(results[0], results[2])
    assert torch.equal(preprocessing.transform(False)(photo()), preprocessing.transform(None)(photo()))


CHANGED: dict[str, dict[str, Any]] = {
    "resized": {"crop": "resized"},
    "bicubic": {"crop": "resized", "interpolation": "bicubic"},
    "random": {"crop": "resized", "interpolation": "random"},
    "rand": {"auto_augment": "rand-m9-mstd0.5"},
    "rand-inc": {"auto_augment": "rand-m7-n3-inc1", "interpolation": "bicubic"},
    "auto": {"auto_augment": "original-mstd0.5"},
    "augmix": {"auto_augment": "augmix-m3-w3"},
    "trivial": {"auto_augment": "trivial"},
    "jitter": {"color_jitter": 0.4},
    "3a": {"auto_augment": "3a", "color_jitter": 0.3},
    "erasing": {"reprob": 1.0},
    "no-flip": {"hflip": 0.0},
}


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("preprocessing", [GREY, RGB], ids=["grey", "rgb"])
@pytest.mark.parametrize("options", CHANGED.values(), ids=CHANGED)
def test_augmentation_varies_and_is_a_function_of_the_numbers(
    options: dict[str, Any], preprocessing: Preprocessing, mode: str
) -> None:
    transform = preprocessing.transform(Augmentation(**options))
    plain = preprocessing.transform(Augmentation())

    def drawn(transform: v2.Transform, image: int) -> torch.Tensor:
        with randomness(0, image):
            return transform(photo(mode=mode))

    first, again = ([drawn(transform, i) for i in range(12)] for _ in range(2))
    assert all(tensor.shape == (preprocessing.channels, 24, 32) and tensor.isfinite().all() for tensor in first)
    assert all(map(torch.equal, first, again))
    assert len({tensor.sum().item() for tensor in first}) > 6
    assert not all(map(torch.equal, first, [drawn(plain, i) for i in range(12)]))


def test_the_resized_crop_and_its_randaugment_are_those_of_timm() -> None:
    options = {"scale": (0.3, 0.9), "ratio": (0.8, 1.2), "hflip": 0.3, "auto_augment": "rand-m9-mstd0.5-inc1"}
    ours = RGB.transform(Augmentation("resized", **options))  # type: ignore[arg-type]
    theirs: Any = create_transform((24, 32), is_training=True, **options, mean=RGB.mean, std=RGB.std)  # type: ignore[arg-type]
    for image in range(8):
        tensors = []
        for transform in (ours, theirs):
            with randomness(image):
                tensors.append(transform(photo()))
        torch.testing.assert_close(*tensors)


def test_erasing_fills_a_rectangle_with_noise() -> None:
    flat = Image.new("RGB", (32, 24), (128, 128, 128))
    with randomness(0):
        tensor = RGB.transform(Augmentation(reprob=1.0))(flat)
    erased = (tensor != tensor[:, :1, :1]).any(0)
    assert 0.01 < erased.float().mean() < 0.4
    rows, columns = erased.any(1), erased.any(0)
    assert erased[rows][:, columns].all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "centre"}, "crop has to be pad or resized, but got 'centre'"),
        ({"interpolation": "nearest"}, "interpolation has to be bilinear, bicubic or random, but got 'nearest'"),
        ({"scale": (0.0, 1.0)}, r"scale has to be two numbers above 0.*got \(0.0, 1.0\)"),
        ({"scale": (0.9, 0.5)}, "scale has to be two numbers.*the smaller first"),
        ({"ratio": (2.0, 0.5)}, r"ratio has to be two numbers above 0, the smaller first, but got \(2.0, 0.5\)"),
        ({"hflip": 1.5}, "hflip has to be from 0 to 1, but got 1.5"),
        ({"reprob": -0.1}, "reprob has to be from 0 to 1, but got -0.1"),
        ({"color_jitter": -1.0}, "color_jitter has to be at least 0, but got -1.0"),
        ({"auto_augment": "rand-m9", "color_jitter": 0.4}, "color_jitter has to be 0 beside auto_augment rand-m9"),
        ({"auto_augment": "rnd-m9"}, "auto_augment has to be trivial or a text of timm.*got 'rnd-m9'"),
        ({"auto_augment": "rand-q9"}, "auto_augment has to be trivial or a text of timm.*got 'rand-q9'"),
        ({"auto_augment": "rand-mx"}, "auto_augment has to be trivial or a text of timm.*got 'rand-mx'"),
    ],
)
def test_augmentation_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Augmentation(**options)
    assert "\n" not in str(caught.value)


# The centre crop of evaluation


@pytest.mark.parametrize("size", [(24, 24), (24, 32)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(60, 45), (31, 80)])
def test_the_centre_crop_is_that_of_timm(size: tuple[int, int], interpolation: Any, shape: tuple[int, int]) -> None:
    ours = Preprocessing(size, 3, (0.5,) * 3, (0.25,) * 3, crop_pct=0.875, interpolation=interpolation)
    options: Any = {"crop_pct": 0.875, "interpolation": interpolation, "mean": ours.mean, "std": ours.std}
    theirs: Any = create_transform(size, **options)
    torch.testing.assert_close(ours.transform()(photo(*shape)), theirs(photo(*shape)))


def test_a_crop_of_the_whole_takes_the_whole_image_of_any_shape() -> None:
    whole = Preprocessing((8, 8), 3, (0.5,) * 3, (0.25,) * 3).transform()(photo(200, 20))
    centre = Preprocessing((8, 8), 3, (0.5,) * 3, (0.25,) * 3, crop_pct=0.99).transform()(photo(200, 20))
    assert whole[0].max() - whole[0].min() > 5 * (centre[0].max() - centre[0].min())  # red grows from left to right


def test_preprocessing_of_an_older_checkpoint_loads_and_a_newer_one_survives() -> None:
    older = {"image_size": [24, 32], "channels": 1, "mean": [0.5], "std": [0.25]}
    assert Preprocessing.from_dict(older) == GREY
    newer = Preprocessing((8, 8), 1, (0.5,), (0.25,), crop_pct=0.9, interpolation="bicubic")
    assert Preprocessing.from_dict(newer.to_dict()) == newer


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"crop_pct": 0.0}, "crop_pct has to be above 0 and at most 1, but got 0.0"),
        ({"crop_pct": 1.1}, "crop_pct has to be above 0 and at most 1, but got 1.1"),
        ({"interpolation": "random"}, "interpolation has to be bilinear or bicubic, but got 'random'"),
    ],
)
def test_centre_crop_errors(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_dict({**GREY.to_dict(), **changed})
