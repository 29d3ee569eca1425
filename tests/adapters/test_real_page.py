"""The page on adapters runs as it stands, from top to bottom."""

import re
from pathlib import Path

import pytest
import torch

from tests.test_readme import PAGES, blocks

for library in ("scvi", "pythae", "diffusers", "umap"):
    pytest.importorskip(library, reason=f"{library} is not installed: `make adapters` has it")


def test_the_page_on_adapters_runs_and_its_solutions_have_converged(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    exec(compile("\n".join(blocks("python", PAGES["adapters"])), "<page>", "exec"), {"__name__": "__main__"})
    answers = re.findall(r"^(?:tensor\()?(True|False)", capsys.readouterr().out, flags=re.M)
    assert answers == 3 * ["True"]
