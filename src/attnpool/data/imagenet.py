"""ImageNet, or a part of it, in one folder a class."""

from pathlib import Path

from timm.data import ImageNetInfo

from attnpool.data.folder import IMAGENET_MEAN, IMAGENET_STD, FolderImages, labelled_files
from attnpool.data.source import DataError, Source
from attnpool.registry import SOURCES


@SOURCES.register("imagenet", paper="Russakovsky et al., IJCV 2015, arXiv 1409.0575")
def imagenet(path: str) -> Source:
    """ImageNet (ILSVRC 2012) or a part of it: PATH/train/WNID/*.JPEG and PATH/val/WNID/*.JPEG, e.g. n01440764.

    https://arxiv.org/abs/1409.0575. The published validation images are the test split; validation is a hold-out of the
    training images; PATH/test, whose labels are not published, is left alone. The classes are in the order of their
    WordNet ids, the usual one, and called as timm calls them.

    Raises:
        DataError: A missing folder, one that is no WordNet id of ImageNet, an empty one, ones that differ between train
            and val, or validation images without class folders.
    """
    root = Path(path).expanduser()
    for name in ("train", "val"):
        if not (root / name).is_dir():
            raise DataError(f"path of an imagenet source has to hold a folder {name}, but {root / name} does not exist")
    if any((root / "val").glob("ILSVRC2012_val_*")):
        raise DataError(
            f"images have to lie in one folder a class, named by its WordNet id, but {root / 'val'} has none"
        )
    wnids, files = labelled_files(root, ("train", "val"))
    train, test = (FolderImages(files[name]) for name in ("train", "val"))
    name = f"imagenet:{root.resolve()}"
    return Source(name, train, test, _names(root / "train", wnids), 3, IMAGENET_MEAN, IMAGENET_STD)


def _names(folder: Path, wnids: tuple[str, ...]) -> tuple[str, ...]:
    """What the classes are called in English, with the id where two are called the same, as cranes are."""
    info = ImageNetInfo("imagenet-1k")
    known = {*info.label_names(), *ImageNetInfo("imagenet-22k").label_names()}
    for wnid in wnids:
        if wnid not in known:
            raise DataError(f"folders of {folder} have to be WordNet ids such as n01440764, but got {wnid!r}")
    names = [info.label_name_to_description(wnid) for wnid in wnids]
    return tuple(f"{name} ({wnid})" if names.count(name) > 1 else name for wnid, name in zip(wnids, names, strict=True))
