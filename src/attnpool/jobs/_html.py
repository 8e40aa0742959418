"""HTML out of a template, in which all that is put in is escaped and nothing may be missing."""

from functools import cache
from pathlib import Path
from typing import Any


@cache
def template(file: Path) -> Any:
    """The jinja2 template in `file`; needs jinja2."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(loader=FileSystemLoader(file.parent), autoescape=True, undefined=StrictUndefined).get_template(
        file.name
    )
