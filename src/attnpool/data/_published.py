"""The published data sets that torchvision reads: a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TRAIN_TEST = {"train": {"train": True}, "test": {"train": False}}
SPLIT_TRAIN_TEST = {"train": {"split": "train"}, "test": {"split": "test"}}
SPLIT_ALL = {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}
BALANCED = {split: {"split": "balanced", **options} for split, options in TRAIN_TEST.items()}


@dataclass(frozen=True)
class Published:
    """One data set: how torchvision reads it, and what it has to hold.

    Args:
        reader: Class of torchvision.datasets.
        images: How many images each split has; what holds fewer is not whole.
        classes: How many classes.
        holds: What it shows.
        paper: Where it was published.
        files: What its authors distribute, and where that goes in the data folder.
        folder: Which folder of the data folder that makes; "" if it makes files only.
        size: Of the download, in MB.
        splits: Arguments of the reader for each split; `all` is a set without splits.
        image_size: (height, width), if all images have one.
        channels: 1 (grey) or 3 (RGB).
        needs: A library that the reader imports, if any.
    """

    reader: str
    images: Mapping[str, int]
    classes: int
    holds: str
    paper: str
    files: str
    folder: str
    size: int
    splits: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: SPLIT_TRAIN_TEST)
    image_size: tuple[int, int] | None = None
    channels: int = 3
    needs: str = ""

    @property
    def summary(self) -> str:
        """What it holds and how much, in a line."""
        size = "of {1} x {0}".format(*self.image_size) if self.image_size else "of many sizes"
        images = " + ".join(f"{count:,}" for count in self.images.values())
        return f"{self.holds}: {self.classes} classes, {images} images {size}, {self.size:,} MB"


def _mnist(reader: str, holds: str, paper: str, size: int) -> Published:
    files = f"train-images-idx3-ubyte and the three others, unpacked, in {reader}/raw"
    return Published(
        reader, {"train": 60000, "test": 10000}, 10, holds, paper, files, reader, size, TRAIN_TEST, (28, 28), channels=1
    )


PUBLISHED: dict[str, Published] = {
    "cifar10": Published(
        "CIFAR10",
        {"train": 50000, "test": 10000},
        10,
        "animals and vehicles",
        "Krizhevsky, 2009",
        "cifar-10-python.tar.gz, unpacked to cifar-10-batches-py",
        "cifar-10-batches-py",
        170,
        TRAIN_TEST,
        (32, 32),
    ),
    "cifar100": Published(
        "CIFAR100",
        {"train": 50000, "test": 10000},
        100,
        "things and living beings",
        "Krizhevsky, 2009",
        "cifar-100-python.tar.gz, unpacked to cifar-100-python",
        "cifar-100-python",
        169,
        TRAIN_TEST,
        (32, 32),
    ),
    "stl10": Published(
        "STL10",
        {"train": 5000, "test": 8000},
        10,
        "animals and vehicles; the unlabelled images are not used",
        "Coates, Ng and Lee, AISTATS 2011",
        "stl10_binary.tar.gz, unpacked to stl10_binary",
        "stl10_binary",
        2640,
        image_size=(96, 96),
    ),
    "svhn": Published(
        "SVHN",
        {"train": 73257, "test": 26032},
        10,
        "house numbers; the extra images are not used",
        "Netzer et al., 2011",
        "train_32x32.mat and test_32x32.mat",
        "",
        246,
        image_size=(32, 32),
        needs="scipy",
    ),
    "mnist": _mnist("MNIST", "handwritten digits", "LeCun et al., 1998", 12),
    "fashion_mnist_full": _mnist("FashionMNIST", "articles of clothing", "Xiao, Rasul and Vollgraf, 2017", 31),
    "kmnist": _mnist("KMNIST", "cursive Japanese letters", "Clanuwat et al., 2018", 21),
    "emnist_balanced": Published(
        "EMNIST",
        {"train": 112800, "test": 18800},
        47,
        "handwritten digits and letters",
        "Cohen et al., 2017",
        "gzip.zip with its .gz files unpacked in EMNIST/raw",
        "EMNIST",
        562,
        BALANCED,
        (28, 28),
        channels=1,
    ),
    "food101": Published(
        "Food101",
        {"train": 75750, "test": 25250},
        101,
        "dishes",
        "Bossard, Guillaumin and Van Gool, ECCV 2014",
        "food-101.tar.gz, unpacked to food-101",
        "food-101",
        4997,
    ),
    "oxford_pet": Published(
        "OxfordIIITPet",
        {"train": 3680, "test": 3669},
        37,
        "breeds of cats and dogs",
        "Parkhi et al., CVPR 2012",
        "images.tar.gz and annotations.tar.gz, unpacked in oxford-iiit-pet",
        "oxford-iiit-pet",
        811,
        {"train": {"split": "trainval"}, "test": {"split": "test"}},
    ),
    "flowers102": Published(
        "Flowers102",
        {"train": 1020, "val": 1020, "test": 6149},
        102,
        "flowers",
        "Nilsback and Zisserman, ICVGIP 2008",
        "102flowers.tgz, unpacked to flowers-102/jpg, with imagelabels.mat and setid.mat beside jpg",
        "flowers-102",
        345,
        SPLIT_ALL,
        needs="scipy",
    ),
    "gtsrb": Published(
        "GTSRB",
        {"train": 26640, "test": 12630},
        43,
        "traffic signs",
        "Stallkamp et al., IJCNN 2011",
        "GTSRB-Training_fixed.zip, GTSRB_Final_Test_Images.zip and GTSRB_Final_Test_GT.zip, unpacked in gtsrb",
        "gtsrb",
        277,
    ),
    "dtd": Published(
        "DTD",
        {"train": 1880, "val": 1880, "test": 1880},
        47,
        "textures (the first of ten partitions)",
        "Cimpoi et al., CVPR 2014",
        "dtd-r1.0.1.tar.gz, unpacked to dtd/dtd",
        "dtd",
        625,
        SPLIT_ALL,
    ),
    "fgvc_aircraft": Published(
        "FGVCAircraft",
        {"train": 3334, "val": 3333, "test": 3333},
        100,
        "variants of aircraft",
        "Maji et al., 2013",
        "fgvc-aircraft-2013b.tar.gz, unpacked to fgvc-aircraft-2013b",
        "fgvc-aircraft-2013b",
        2753,
        SPLIT_ALL,
    ),
    "eurosat": Published(
        "EuroSAT",
        {"all": 27000},
        10,
        "land from space; a fixed fifth of each class is the test split",
        "Helber et al., 2019",
        "EuroSAT.zip, unpacked to eurosat/2750",
        "eurosat",
        94,
        {"all": {}},
        (64, 64),
    ),
    "imagenette": Published(
        "Imagenette",
        {"train": 9469, "test": 3925},
        10,
        "ten classes of ImageNet",
        "Howard, 2019",
        "imagenette2.tgz, unpacked to imagenette2",
        "imagenette2",
        1557,
        {"train": {"split": "train"}, "test": {"split": "val"}},
    ),
    "country211": Published(
        "Country211",
        {"train": 31650, "val": 10550, "test": 21100},
        211,
        "photographs from as many countries",
        "Radford et al., ICML 2021",
        "country211.tgz, unpacked to country211",
        "country211",
        11000,
        {"train": {"split": "train"}, "val": {"split": "valid"}, "test": {"split": "test"}},
    ),
}
"""Name to data set."""
