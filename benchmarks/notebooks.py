"""Run the notebooks of the documentation again, in place: `make notebooks`.

`jupyter execute` would write the time of every cell and the version of Python, so that every run is a difference.
"""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


def run(file: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook in `file` as it comes out when it is run in `folder`; a cell that fails raises."""
    notebook = nbformat.read(file, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, record_timing=False, coalesce_streams=True, resources=resources).execute()
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


if __name__ == "__main__":
    for file in sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(run(file, FOLDER), file)
        print(f"{file.name}: {file.stat().st_size / 1e3:.0f} kB")
