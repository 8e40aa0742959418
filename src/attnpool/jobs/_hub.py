"""The Hugging Face hub: names of repositories, which of them are ours, and its errors in one line each."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attnpool.models.checkpoint import DESCRIPTION, WEIGHTS, CheckpointError, Description, parse_description


class HubError(ValueError):
    """Something that the hub has not, does not allow, or cannot be asked for."""


def check_name(repository: str) -> None:
    """Refuse what is not OWNER/NAME.

    Raises:
        ValueError: naming it.
    """
    part = r"[A-Za-z0-9][\w.-]*"
    if not re.fullmatch(f"{part}/{part}", repository, re.ASCII) or ".." in repository or "--" in repository:
        raise ValueError(f"repository has to be OWNER/NAME, e.g. me/photos, but got {repository!r}")


def hub() -> Any:
    """What speaks to the hub, or to the server that the variable HF_ENDPOINT names."""
    from huggingface_hub import HfApi

    return HfApi(library_name="attnpool")


@contextmanager
def explained(repository: str, endpoint: str, revision: str | None = None) -> Iterator[None]:
    """A block that asks the hub: whatever goes wrong in it becomes a `HubError` of one line."""
    try:
        yield
    except Exception as error:
        raise HubError(_reason(error, repository, endpoint, revision)) from error


def _reason(error: Exception, repository: str, endpoint: str, revision: str | None) -> str:
    from huggingface_hub import errors

    said = " ".join(str(error).split())
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{endpoint} has to be asked, but HF_HUB_OFFLINE forbids it"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"revision has to be a branch, a tag or a commit of {repository}, but got {revision!r}"
    if isinstance(error, errors.GatedRepoError):
        return f"{repository} is open to those only whom its owner admits; ask for it on {endpoint}/{repository}"
    if status == 401 and not isinstance(error, errors.RepositoryNotFoundError):
        return f"the token has to be one that {endpoint} knows: hf auth login, or the variable HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"repository has to be one on {endpoint} that you may read, but {repository} is not, or is private"
    if status == 403:
        return f"the token has to allow writing to {repository}, but it does not"
    if status is not None:
        return f"{endpoint} answered {status} for {repository}: {said}"
    return f"{endpoint} cannot be reached: {said or type(error).__name__}"


def check_ours(api: Any, repository: str, files: set[str], commit: str) -> Description:
    """What the checkpoint in a repository is of; nothing but its `model.json` is fetched.

    Args:
        api: Of `hub`.
        repository: OWNER/NAME.
        files: That it has at the commit.
        commit: Which state of it.

    Raises:
        HubError: if it holds no checkpoint of ours.
    """
    missing = [name for name in (WEIGHTS, DESCRIPTION) if name not in files]
    rule = f"repository has to hold a checkpoint that attnpool push made, but {repository}"
    if missing:
        raise HubError(f"{rule} has no {' and no '.join(missing)}")
    file = fetch(api, repository, DESCRIPTION, commit)
    try:
        return parse_description(file)
    except CheckpointError as error:
        raise HubError(f"{rule} does not: {str(error).replace(str(file), DESCRIPTION)}") from error


def fetch(api: Any, repository: str, name: str, commit: str) -> Path:
    """A file of a repository, from the hub's cache on this machine if it is there.

    Raises:
        HubError: if it cannot be had.
    """
    with explained(repository, api.endpoint, commit):
        return Path(api.hf_hub_download(repository, name, revision=commit))
