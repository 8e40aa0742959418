"""`attnpool push`: a checkpoint to the Hugging Face hub."""

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from attnpool.jobs._card import licensed, make_card
from attnpool.jobs._card_words import portable
from attnpool.jobs._folder import CARD, is_card
from attnpool.jobs._hub import HubError, check_name, check_ours, explained, hub
from attnpool.models.checkpoint import DESCRIPTION, WEIGHTS, Description, load, save

FILES = (WEIGHTS, DESCRIPTION, CARD)
"""All that ever travels."""
UNTOUCHED = {".gitattributes", CARD}
"""What a repository may have that holds nothing yet."""


@dataclass(frozen=True)
class Pushed:
    """What `push` did.

    Args:
        repository: OWNER/NAME.
        url: Where it can be seen.
        commit: Of the repository, for `attnpool pull --revision`.
        private: Whether only its owner sees it.
        files: What was written there.
    """

    repository: str
    url: str
    commit: str
    private: bool
    files: tuple[str, ...]

    def __rich__(self) -> Table:
        table = Table("", Column(overflow="fold"), title=escape(self.repository), show_header=False)
        table.add_row("at", escape(self.url))
        table.add_row("seen by", "its owner" if self.private else "everyone")
        table.add_row("commit", self.commit)
        table.add_row("files", ", ".join(self.files))
        return table


def push(checkpoint: str, repository: str, *, private: bool = False, licence: str | None = None) -> Pushed:
    """Publish a checkpoint on the Hugging Face hub: weights, description and model card, in one commit.

    Nothing else travels: no state of the optimiser, no logs, no pickles; and of data sources and files only their
    names, not the folders that they lie in. The token is that of `hf auth login` or the variable HF_TOKEN.

    Args:
        checkpoint: Folder of the checkpoint.
        repository: OWNER/NAME; it is made if need be, and has to be empty or to hold a checkpoint of attnpool.
        private: Make a repository that only its owner sees.
        licence: Of the weights, as the hub writes it, e.g. mit, apache-2.0, cc-by-4.0; by default as the card says.

    Raises:
        CheckpointError: for a checkpoint that cannot be read.
        ValueError: for an argument that breaks its rule; `HubError` for what the hub has not, or does not allow.
    """
    check_name(repository)
    if licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence):
        raise ValueError(f"licence has to be a name of the hub, e.g. mit or apache-2.0, but got {licence!r}")
    folder = Path(checkpoint)
    model: Any = load(folder)
    text = (folder / CARD).read_text() if is_card(folder / CARD) else make_card(folder)
    api = hub()
    _check_token(api)
    is_new = _is_new(api, repository, private)
    with tempfile.TemporaryDirectory() as place:
        save(model, portable_description(model.description), place)
        (Path(place) / CARD).write_text(licensed(text, licence, repository))
        with explained(repository, api.endpoint):
            if is_new:
                api.create_repo(repository, private=private or None)  # None: as its owner has it by default
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=place,
                allow_patterns=list(FILES),
                commit_message=f"{model.spec}, by attnpool {model.description.versions.get('attnpool', '')}".strip(),
            )
            seen = bool(api.model_info(repository).private)
    return Pushed(repository, f"{api.endpoint}/{repository}", commit.oid, seen, FILES)


def portable_description(about: Description) -> Description:
    """The same without folders of this machine: of sources and files only their names."""
    training = {name: value for name, value in about.training.items() if name != "data_dir"}
    for name in ("data", "val_data", "test_data"):
        if training.get(name):
            training[name] = portable(str(training[name]))
    if "pruned" in training:
        training["pruned"] = {**training["pruned"], "checkpoint": Path(training["pruned"]["checkpoint"]).name}
    return replace(about, training=training)


def _check_token(api: Any) -> None:
    from huggingface_hub import get_token

    if not get_token():
        raise HubError(f"a token has to be there to write to {api.endpoint}: hf auth login, or the variable HF_TOKEN")


def _is_new(api: Any, repository: str, private: bool) -> bool:
    """Whether it has to be made; what is not ours is not written over, nor what is to be private into the open."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    with explained(repository, api.endpoint):
        try:
            there = api.model_info(repository)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return True
    files = {file.rfilename for file in there.siblings or ()}
    if files - UNTOUCHED:
        check_ours(api, repository, files, there.sha)
    if private and not there.private:
        raise HubError(f"private has to be false for {repository}, which everyone sees; change that on the hub first")
    return False
