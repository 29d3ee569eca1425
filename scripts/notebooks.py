"""Run the notebooks in place, so that what is stored in them is what the library says today.

    python -m scripts.notebooks notebooks/2_first_geodesic.ipynb    # all of them without an argument

Needs the extra `notebooks`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from geodesic.installation import require

FOLDER = Path(__file__).parents[1] / "notebooks"
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",  # the same numbers with and without a GPU
    "OMP_NUM_THREADS": "2",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(file: Path) -> None:
    """Run all cells from top to bottom, and store their outputs without what changes from run to run."""
    import nbclient
    import nbformat

    notebook = nbformat.read(file, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.execute(env=os.environ | ENVIRONMENT)
    notebook.metadata = nbformat.from_dict(KERNEL)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})  # times of the run
    nbformat.write(notebook, file)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the notebooks that are named, or all."""
    require("notebooks", "nbclient", "nbformat", "ipykernel")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of notebooks/ by default")
    for file in parser.parse_args(arguments).notebooks or sorted(FOLDER.glob("*.ipynb")):
        execute(file)
        print(f"ran {file}")


if __name__ == "__main__":
    main()
