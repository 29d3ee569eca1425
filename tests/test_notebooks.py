"""Every notebook runs from top to bottom, and what is stored in it is fit to be read."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from geodesic.installation import hint

nbformat = pytest.importorskip("nbformat", reason=f"needs nbformat: {hint('notebooks')}")

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = [pytest.param(path, id=path.stem) for path in sorted(FOLDER.glob("*.ipynb"))]

# A root and at least one more name; "and/or", "image/png", "</b>" and web addresses are not paths.
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/<~])/[\w.@+-]+/[\w.@+-]+|\b[A-Za-z]:\\\w|\bfile://")


def _texts(output: dict) -> Iterator[str]:
    """Yield all that a reader sees of an output as text."""
    yield output.get("text", "")
    yield from output.get("traceback", [])
    for kind, content in output.get("data", {}).items():
        if not kind.startswith("image/"):
            yield str(content)


# Cell by cell, as a kernel would, but with nobody to look at the figures.
RUN = """
import json, sys
scope = {"__name__": "__main__"}
with open(sys.argv[1], encoding="utf-8") as file:
    cells = json.load(file)["cells"]
for number, cell in enumerate(cells):
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), scope)
        if plots := sys.modules.get("matplotlib.pyplot"):
            plots.close("all")
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_notebook_runs_without_an_error(path: Path, tmp_path: Path) -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "Agg"}
    command = [sys.executable, "-c", RUN, str(path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_notebook_is_stored_with_clean_outputs_of_one_run(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(output.output_type != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)
    found = [match.group() for output in outputs for t in _texts(output) for match in ABSOLUTE_PATH.finditer(t)]
    assert not found
