"""The model card of a checkpoint: `README.md` in the form of the Hugging Face hub, made of what the folder says."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnpool.detection.spec import DetectionSpec
from attnpool.jobs import _card_words as words
from attnpool.jobs._folder import CARD, CONFIG, RESULTS, is_card
from attnpool.jobs._write import write_whole
from attnpool.models.checkpoint import Description, load

NOT_STATED = "Not stated: ask who made it. attnpool itself is MIT, which says nothing of the weights or the data."
PLACE = "OWNER/NAME"
"""Stands for the repository, until it is known."""


def write_card(folder: Path, results: Mapping[str, Any] | None = None) -> None:
    """Write the card of a finished checkpoint, in one move.

    What goes wrong is a warning: a card makes no run fail. A README.md that is no card of ours is left as it is.

    Args:
        folder: Of the checkpoint.
        results: What will stand in its `results.json`; by default what stands there.
    """
    file = folder / CARD
    try:
        if file.exists() and not is_card(file):
            warnings.warn(f"{file} is no model card of attnpool: it stays, and no card is written", stacklevel=2)
            return
        write_whole(file, make_card(folder, results))
    except Exception as error:
        warnings.warn(f"the model card {file} is not written: {' '.join(str(error).split())}", stacklevel=2)


def make_card(folder: Path, results: Mapping[str, Any] | None = None) -> str:
    """The text of the card: front matter for the hub, then the sections.

    Raises:
        CheckpointError: for a checkpoint that cannot be read.
    """
    model: Any = load(folder)
    about: Description = model.description
    if results is None:
        results = json.loads((folder / RESULTS).read_text()) if (folder / RESULTS).is_file() else {}
    sections = {
        "Network": words.network(model.spec),
        "Results": words.measured(about, results),
        "Cost": words.cost(model, about),
        "Data": words.data(about),
        "Training": words.training(folder / CONFIG, about),
        "Use": words.use(about, PLACE),
        "Intended use and limits": words.limits(about),
        "Licence": NOT_STATED,
    }
    body = "\n\n".join([f"# {model.spec}", *(f"## {title}\n\n{text}" for title, text in sections.items())])
    return f"---\n{_metadata(about)}\n---\n\n{body}\n"


def licensed(text: str, licence: str | None, repository: str) -> str:
    """The card as it goes to a repository: with its name and, if there is one, the licence, in words and for the hub.

    Args:
        text: Of the card, also one that was edited by hand.
        licence: As the hub writes it, e.g. mit, apache-2.0, cc-by-4.0; None: as the card says.
        repository: OWNER/NAME.
    """
    from huggingface_hub import ModelCard

    text = text.replace(PLACE, repository)
    if licence is None:
        return text
    card: Any = ModelCard(text.replace(NOT_STATED, f"`{licence}`"))
    card.data.license = licence
    return str(card)


def _metadata(about: Description) -> str:
    """What the hub reads: what the network does, by what, and how well."""
    from huggingface_hub import EvalResult, ModelCardData

    detects = isinstance(about.spec, DetectionSpec)
    task = "object-detection" if detects else "image-classification"
    name, value = ("mAP", about.metrics.get("test_ap")) if detects else ("accuracy", about.metrics.get("test_accuracy"))
    source = words.portable(str(about.training.get("data") or "unknown"))
    value = None if value is None else round(value, 6)
    tested = EvalResult(
        task_type=task, dataset_type=source, dataset_name=source, metric_type=name.lower(), metric_value=value
    )
    known: dict[str, Any] = {} if value is None else {"model_name": str(about.spec), "eval_results": [tested]}
    if source.startswith("hfds/"):
        known["datasets"] = [source.removeprefix("hfds/")]
    tags = ["attnpool", "pytorch", "safetensors"]
    data = ModelCardData(library_name="attnpool", pipeline_tag=task, tags=tags, metrics=[name.lower()], **known)
    text: str = data.to_yaml()
    return text
