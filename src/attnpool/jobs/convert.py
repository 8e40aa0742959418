"""`attnpool convert`: weights of the published repository to a checkpoint of ours."""

from dataclasses import dataclass, replace
from pathlib import Path

from rich.markup import escape
from rich.table import Column, Table

from attnpool.data.folder import IMAGENET_MEAN, IMAGENET_STD
from attnpool.data.preprocessing import Preprocessing
from attnpool.data.source import DataError, open_source
from attnpool.jobs._card import write_card
from attnpool.jobs._folder import clear_run, refuse_overwriting
from attnpool.jobs._size import check_size
from attnpool.jobs._write import make_folder
from attnpool.models.build import build
from attnpool.models.checkpoint import Description, save
from attnpool.models.convert import published_classes, published_state_dict, read_published
from attnpool.spec import parse


@dataclass(frozen=True)
class Conversion:
    """What `convert` wrote.

    Args:
        architecture: The string.
        output: Folder of the checkpoint.
        classes: Classes that it tells apart.
        params: Parameters of the network.
    """

    architecture: str
    output: str
    classes: int
    params: int

    def __rich__(self) -> Table:
        table = Table("", Column(overflow="fold"), title=self.architecture, show_header=False)
        table.add_row("classes", str(self.classes))
        table.add_row("parameters", f"{self.params:,}")
        table.add_row("checkpoint", escape(self.output))
        return table


def convert(
    file: str,
    output: str,
    *,
    arch: str,
    data: str | None = None,
    data_dir: str | None = None,
    download: bool = True,
    image_size: int | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Turn a checkpoint of the published repository into one of ours, with the same outputs.

    Args:
        file: A .pth file: a state dict, alone or under `state_dict`, with or without the prefix module. of
            DataParallel. Nothing in it is executed.
        output: Folder for the checkpoint.
        arch: The architecture string that it was trained as.
        data: Source that says the names of the classes and how images are normalised; by default the classes are
            numbers and the normalisation is ImageNet's.
        data_dir: Where published data sets lie and are downloaded to; by default ~/.cache/attnpool.
        download: Download a published data set that is not there.
        image_size: Side that images are resized to, in pixels; by default that of the data, or 224.
        overwrite: Replace a checkpoint in the output folder.

    Raises:
        ConversionError: for a file that holds no weights, or not those of the architecture: it lists the unknown,
            missing and mis-shaped ones.
        DataError: if the data has another number of classes.
        FileExistsError: if the output folder holds a checkpoint and `overwrite` is false.
    """
    spec = parse(arch)
    folder = Path(output)
    refuse_overwriting(folder, overwrite)
    weights = read_published(file)
    count = published_classes(weights)
    classes, preprocessing = tuple(map(str, range(count))), Preprocessing((224, 224), 3, IMAGENET_MEAN, IMAGENET_STD)
    training = {"converted_from": Path(file).name}
    if data is not None:
        source = open_source(data, data_dir=data_dir, download=download)
        if len(source.classes) != count or source.channels != 3:
            has = f"{len(source.classes)} classes and {source.channels} channels"
            raise DataError(f"data has to have the {count} classes and 3 channels of {file}, but {data} has {has}")
        classes, preprocessing = source.classes, Preprocessing(source.image_size, 3, source.mean, source.std)
        training["data"] = source.name
    if image_size is not None:
        preprocessing = replace(preprocessing, image_size=(image_size, image_size))
    spec = replace(spec, num_classes=count)
    state = published_state_dict(weights, spec)
    model = build(spec)
    model.load_state_dict(state)
    check_size(model, preprocessing.image_size)
    clear_run(folder, overwrite)
    save(model, Description(spec, classes, preprocessing.to_dict(), training=training), make_folder(folder))
    write_card(folder)
    return Conversion(arch, str(folder), count, sum(p.numel() for p in model.parameters()))
