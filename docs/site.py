"""What mkdocs does besides turning docs/*.md into pages: pages made of other files, and links that leave the folder."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from rich.text import Text

from attnpool.jobs.list import Catalogue, list_

ROOT = Path(__file__).parents[1]
ELSEWHERE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files of the repository that are pages, too."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made."""
    made = {"catalogue.md": catalogue()}
    made |= {page: (ROOT / name).read_text() for name, page in ELSEWHERE.items()}
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to files outside of docs/ go to their pages, or become their names."""

    def link(found: re.Match[str]) -> str:
        text, target = found["text"], found["target"].partition("#")[0]
        home = posixpath.dirname(page.file.src_uri) if page.file.src_uri not in ELSEWHERE.values() else ".."
        path = posixpath.normpath(posixpath.join("docs", home, target))
        if path.startswith("docs/"):
            inside = path.removeprefix("docs/")
            return found[0] if home != ".." else found[0].replace(found["target"], inside)
        if path in ELSEWHERE:
            return f"[{text}]({ELSEWHERE[path]})"
        return text if text.startswith("`") else f"{text} (`{path}`)"

    return re.sub(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>(?!https?:|#)[^)\s]+)\)", link, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Code with a space in it is a command, which a table may wrap (site.css)."""
    return re.sub(r"<code>(?=[^<]* )", '<code class="command">', html)


def catalogue() -> str:
    """All that the registries hold, as tables."""
    lists = [list_("pools"), list_("models"), list_("detectors"), list_("data")]
    begin = "---\nhide: [toc]\n---\n\n# Catalogue\n\nMade of the registries, as `attnpool list` shows them.\n\n"
    return begin + "\n\n".join(map(_table, lists)) + "\n"


def _table(found: Catalogue) -> str:
    head = " | ".join(Text.from_markup(name).plain for name in found.columns)
    lines = [f"## {found.title}", "", f"| {head} |", "|---" * len(found.columns) + "|"]
    for name, *cells in found.rows:
        lines.append(" | ".join([f"| `{name}`", *map(_cell, cells)]) + " |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A cell of a table on the terminal, as one of a page."""
    plain = Text.from_markup(text).plain
    for sign in "\\`*_<|[":
        plain = plain.replace(sign, f"\\{sign}" if sign != "<" else "&lt;")
    return plain.replace("\n", "<br>")
