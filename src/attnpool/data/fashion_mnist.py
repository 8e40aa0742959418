"""The embedded data set; `embedded/README.md` says where it comes from and how it was chosen."""

from pathlib import Path

import numpy as np

from attnpool.data.arrays import ArrayImages
from attnpool.data.source import Source
from attnpool.registry import SOURCES

FILE = Path(__file__).with_name("embedded") / "fashion_mnist.npz"
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@SOURCES.register("fashion_mnist", paper="Xiao, Rasul and Vollgraf, 2017, arXiv 1708.07747")
def fashion_mnist() -> Source:
    """10,000 training and 2,000 test images of Fashion-MNIST, 28 x 28 grey, 10 balanced classes, embedded.

    https://arxiv.org/abs/1708.07747. Used at 32 x 32 unless asked otherwise.
    Deviation: the first 1,000 and 200 images a class, not all 60,000 and 10,000.
    """
    with np.load(FILE, allow_pickle=False) as arrays:
        train = ArrayImages(arrays["x_train"], arrays["y_train"])
        test = ArrayImages(arrays["x_test"], arrays["y_test"])
    return Source("fashion_mnist", train, test, CLASSES, channels=1, mean=(0.2867,), std=(0.3540,), image_size=(32, 32))
