"""Where attention stands in a network: `after:BLOCK` or `replace:BLOCK`, with `:GROUPS` if not 4, joined by commas."""

import re
from dataclasses import dataclass

from attnpool.poolspec import SpecError

GRAMMAR = "after:BLOCK or replace:BLOCK, with :GROUPS if not 4, separated by commas"
GROUPS = 4


@dataclass(frozen=True)
class AttentionSite:
    """One module of attention.

    Args:
        where: "after" the block, or "replace": in its place.
        block: Path of the block in the network, e.g. "blocks.4.1".
        groups: Subspaces of the attention.
    """

    where: str
    block: str
    groups: int = GROUPS

    def __str__(self) -> str:
        return f"{self.where}:{self.block}" + (f":{self.groups}" if self.groups != GROUPS else "")


def parse_attention(text: str) -> tuple[AttentionSite, ...]:
    """The sites of e.g. "after:blocks.4.1,replace:blocks.5.1:8"; none for "". `str` of each gives its part back.

    Raises:
        SpecError: naming the part that does not follow the grammar, or that contradicts another.
    """
    if not isinstance(text, str):
        raise SpecError(f"attention has to be {GRAMMAR}, but got {text!r}", "attention")
    sites = []
    for part in text.split(",") if text else []:
        match = re.fullmatch(r"(after|replace):([\w.]+)(?::([1-9][0-9]*))?", part.strip())
        if match is None:
            raise SpecError(f"attention has to be {GRAMMAR}, but got {part!r}", "attention")
        sites.append(AttentionSite(match[1], match[2], int(match[3] or GROUPS)))
    for site in sites:
        inside = [o for o in sites if site.where == "replace" and o.block.startswith(f"{site.block}.")]
        if inside or [o.block for o in sites].count(site.block) > 1:
            raise SpecError(f"attention has to name each block once, but names {site.block!r} again", "attention")
    return tuple(sites)
