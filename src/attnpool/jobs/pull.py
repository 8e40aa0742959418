"""`attnpool pull`: a checkpoint from the Hugging Face hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from attnpool.jobs._card import write_card
from attnpool.jobs._folder import CARD, clear_run, is_card, locked, refuse_overwriting
from attnpool.jobs._hub import HubError, check_name, check_ours, explained, fetch, hub
from attnpool.jobs._write import write_whole
from attnpool.models.checkpoint import WEIGHTS, CheckpointError, load, save


@dataclass(frozen=True)
class Pulled:
    """What `pull` fetched.

    Args:
        repository: OWNER/NAME.
        commit: The state of it; `--revision COMMIT` fetches the same again.
        architecture: The string.
        output: Folder of the checkpoint.
        classes: How many it tells apart.
    """

    repository: str
    commit: str
    architecture: str
    output: str
    classes: int

    def __rich__(self) -> Table:
        table = Table("", Column(overflow="fold"), title=escape(self.repository), show_header=False)
        table.add_row("network", escape(self.architecture))
        table.add_row("classes", str(self.classes))
        table.add_row("commit", self.commit)
        table.add_row("checkpoint", escape(self.output))
        return table


def pull(repository: str, *, output: str | None = None, revision: str | None = None, overwrite: bool = False) -> Pulled:
    """Fetch a checkpoint that `attnpool push` published on the Hugging Face hub.

    Its description is checked before the weights are fetched, and both before anything is written; nothing is
    unpickled. A private repository needs the token of `hf auth login` or the variable HF_TOKEN.

    Args:
        repository: OWNER/NAME.
        output: Folder for the checkpoint; by default runs/NAME.
        revision: Branch, tag or commit; by default the newest.
        overwrite: Replace a checkpoint in the output folder.

    Raises:
        ValueError: for an argument that breaks its rule; `HubError` for what the hub has not, or does not allow, or
            that is no checkpoint of ours.
        FileExistsError: if the output folder holds a checkpoint and `overwrite` is false.
    """
    check_name(repository)
    folder = Path(output or f"runs/{repository.partition('/')[2]}")
    refuse_overwriting(folder, overwrite)
    api = hub()
    with explained(repository, api.endpoint, revision):
        there = api.model_info(repository, revision=revision)
    files = {file.rfilename for file in there.siblings or ()}
    check_ours(api, repository, files, there.sha)
    fetched = fetch(api, repository, WEIGHTS, there.sha)
    card = fetch(api, repository, CARD, there.sha) if CARD in files else None
    try:
        model: Any = load(fetched.parent)
    except CheckpointError as error:
        said = str(error).replace(f"{fetched.parent}/", "")
        raise HubError(f"repository has to hold a whole checkpoint, but {repository} does not: {said}") from error
    with locked(folder):
        clear_run(folder, overwrite)
        save(model, model.description, folder)
        if card is not None and is_card(card) and not (folder / CARD).exists():
            write_whole(folder / CARD, card.read_text())
        else:
            write_card(folder)
    return Pulled(repository, there.sha, str(model.spec), str(folder), len(model.description.classes))
