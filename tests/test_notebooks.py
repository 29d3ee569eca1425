"""Every notebook runs from top to bottom, and what is stored in it is fit to be read."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbformat: pip install 'geodesic[notebooks]'")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install 'geodesic[notebooks]'")

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


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_notebook_runs_without_an_error(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "2",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # what a reader's kernel has
    }
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=environment)  # raises at the first cell that does


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_notebook_is_stored_with_clean_outputs_of_one_run(path):
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
