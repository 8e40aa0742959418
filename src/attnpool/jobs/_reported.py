"""What a row says of how good a trial is, by the kind of training: all that a report has to know of it."""

from dataclasses import dataclass

from attnpool.jobs._quantities import Quantity


@dataclass(frozen=True)
class Reported:
    """What is reported of a kind of training.

    Args:
        data: Its arguments that say which data there are.
        measures: How good a trial is. Comparisons are by the first one.
        shown: How many of them the table of `compare` has.
        curves: What `history` has, by epoch.
        note: What a reader has to know of all this.
    """

    data: tuple[str, ...]
    measures: tuple[Quantity, ...]
    shown: int
    curves: tuple[Quantity, ...]
    note: str = ""

    @property
    def goodness(self) -> str:
        """What the first measure is called on any split."""
        return self.measures[0].label.removeprefix("test ")


def is_detector(architecture: object) -> bool:
    """Whether an architecture string is a detector's: it has a colon."""
    return ":" in str(architecture)


def reported_of(architecture: object) -> Reported:
    """What is reported of the training of an architecture string."""
    return PRECISION if is_detector(architecture) else ACCURACY


def _percent(key: str, label: str, optional: bool = False) -> Quantity:
    return Quantity(key, label, "%", 100, 2, (key,), higher_is_better=True, optional=optional)


def _loss(key: str, label: str) -> Quantity:
    return Quantity(key, label, "", 1, 4, (key,))


ACCURACY = Reported(
    data=("data",),
    measures=(
        _percent("test_accuracy", "test accuracy"),
        _percent("val_accuracy", "validation accuracy"),
        _loss("test_loss", "test loss"),
    ),
    shown=1,
    curves=(
        _percent("val_accuracy", "validation accuracy"),
        _loss("val_loss", "validation loss"),
        _percent("train_accuracy", "training accuracy"),
        _loss("train_loss", "training loss"),
    ),
)
PRECISION = Reported(
    data=("data", "val_data", "test_data", "classes"),
    measures=(
        _percent("test_ap", "test AP"),
        _percent("test_ap50", "test AP50"),
        _percent("test_ap75", "test AP75"),
        _percent("test_ap_small", "test AP, small", optional=True),
        _percent("test_ap_medium", "test AP, medium", optional=True),
        _percent("test_ap_large", "test AP, large", optional=True),
        _percent("val_ap", "validation AP"),
    ),
    shown=2,
    curves=(
        _percent("val_ap", "validation AP"),
        _percent("val_ap50", "validation AP50"),
        _loss("train_loss", "training loss"),
    ),
    note="AP is COCO's average precision, the mean over overlaps from 0.5 to 0.95 and over the classes; AP50 and AP75 "
    "are at one overlap; small objects have up to 32 x 32 pixels, large ones more than 96 x 96. What the test images "
    "hold none of has no value. Operations, memory and latency of a detector are those of its layers, without the "
    "decoding and picking of boxes after them.",
)
