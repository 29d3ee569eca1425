"""Cells that anndata wrote are read: sparse or dense, from X or a layer, with labels."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from geodesic import load_data
from geodesic.errors import DataError
from tests.adapters.cells import branching

pytest.importorskip("anndata", reason="anndata is not installed: `make adapters` has it")


@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix])
def test_cells_are_read_with_their_labels(tmp_path: Path, make: type) -> None:
    cells = branching(60, 12)
    dense = np.asarray(cells.X)
    cells.layers["counts"] = make(dense)
    cells.X = make(np.log1p(dense))
    cells.write_h5ad(tmp_path / "cells.h5ad")
    data = load_data("h5ad", path=str(tmp_path / "cells.h5ad"), layer="counts", labels="branch")
    values = torch.cat([data.train.values, data.test.values])
    labels = torch.cat([data.train.labels, data.test.labels])
    expected = {row.tobytes(): label == "right" for row, label in zip(dense, cells.obs["branch"], strict=True)}
    assert {row.numpy().tobytes(): bool(label) for row, label in zip(values, labels, strict=True)} == expected
    logs = load_data("h5ad", path=str(tmp_path / "cells.h5ad"))
    assert torch.allclose(logs.train.values, data.train.values.log1p())


def test_what_the_file_does_not_have_is_refused(tmp_path: Path) -> None:
    cells = branching(20, 5)
    cells.obs["part"] = [None, *["x"] * 19]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    for arguments, match in (
        ({"layer": "counts"}, "has no layer 'counts'; it has none"),
        ({"labels": "kind"}, "obs has no column 'kind'; it has 'time'"),
        ({"labels": "part"}, "the label 'part' is missing in row 0"),
        ({"labels": "age"}, "the labels 'age' are no whole numbers"),
    ):
        with pytest.raises(DataError, match=match):
            load_data("h5ad", path=str(tmp_path / "cells.h5ad"), **arguments)
    (tmp_path / "cells.h5ad").write_text("no cells")
    with pytest.raises(DataError, match="not readable as AnnData"):
        load_data("h5ad", path=str(tmp_path / "cells.h5ad"))
