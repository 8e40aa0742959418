"""The data that goes with a checkpoint."""

from attnpool.data.source import DataError, Source, open_source
from attnpool.models.checkpoint import Description


def source_of(checkpoint: str, about: Description, data: str | None) -> Source:
    """The source `data`, or what the checkpoint was trained on; it has to have the checkpoint's classes.

    Raises:
        DataError: for data that cannot be used, whose classes are others, or that nobody names.
    """
    trained_on = about.training.get("data")
    if data is None and trained_on is None:
        raise DataError(f"data has to be given: {checkpoint} does not say what it was trained on")
    source = open_source(data or str(trained_on))
    if source.classes != about.classes:
        odd = sorted({*source.classes} ^ {*about.classes}) or list(source.classes)
        raise DataError(f"data has to have the classes of {checkpoint}, in their order, but these differ: {odd}")
    return source
