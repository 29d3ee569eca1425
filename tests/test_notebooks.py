"""Every notebook runs from top to bottom, and what is stored in it is fit to be read."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
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


# Cell by cell, as a kernel would, but with nobody to look at the figures. One process imports what all notebooks
# import, which takes longer than some of them run, and each notebook runs in a copy of it.
RUN = """
import json, os, sys, traceback

import geodesic.models.training.module
import matplotlib.pyplot as plt


def run(notebook, folder):
    os.chdir(folder)
    scope = {"__name__": "__main__"}
    with open(notebook, encoding="utf-8") as file:
        cells = json.load(file)["cells"]
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), scope)
            plt.close("all")


for line in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            run(*json.loads(line))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path, Path], str]]:
    """A function that runs a notebook in a folder and returns what stopped it: "" if nothing did."""
    errors = tmp_path_factory.mktemp("kernel") / "errors.txt"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "Agg", "GEODESIC_QUICK": "1"}
    command = [sys.executable, "-c", RUN]
    with (
        errors.open("w", encoding="utf-8") as sink,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink, env=environment, text=True
        ) as server,
    ):

        def run(notebook: Path, folder: Path) -> str:
            print(json.dumps([str(notebook), str(folder)]), file=server.stdin, flush=True)
            return "" if server.stdout.readline().strip() == "0" else errors.read_text(encoding="utf-8") or "it died"

        yield run
        server.stdin.close()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_notebook_runs_without_an_error(path: Path, kernel: Callable[[Path, Path], str], tmp_path: Path) -> None:
    assert kernel(path, tmp_path) == ""


@pytest.mark.slow
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
