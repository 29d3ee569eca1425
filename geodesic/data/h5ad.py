"""Cells and genes in an .h5ad file, as AnnData is saved."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geodesic.data.dataset import Dataset, Split
from geodesic.data.source import DATA_SETS, ShuffledSource, expand_path
from geodesic.data.tables import codes, listed_names, require_finite
from geodesic.errors import DataError
from geodesic.installation import require
from geodesic.registry import setting

__all__ = ["H5ADFile", "densified"]

_CHUNK = 1024  # rows of a sparse matrix that are dense twice at a time


@DATA_SETS.register("h5ad")
@dataclass(frozen=True)
class H5ADFile(ShuffledSource):
    """An .h5ad: a row for each cell, a column for each gene; needs the extra `scvi`, which has anndata.

    Args:
        path: The file; may use environment variables.
        layer: The layer with the counts; None: X.
        labels: Name of the column of `obs` with the labels: whole numbers, or words, which are numbered in their order.
        test_fraction: Part of the cells held out.
        limit: Keep only the first so many training rows.
        seed: Seed of the split.

    Example:
        >>> from geodesic.data.h5ad import H5ADFile
        >>> H5ADFile("cells.h5ad", layer="counts", labels="cell_type").layer
        'counts'
    """

    path: str = field(metadata=setting("an .h5ad, as AnnData is saved"))
    layer: str | None = field(default=None, metadata=setting("the layer with the counts; null: X"))
    labels: str | None = field(default=None, metadata=setting("name of the column of obs with the labels"))

    def read(self) -> Dataset:
        """All cells, shuffled, with their labels if there are any."""
        file = expand_path(self.path)
        if not file.is_file():
            raise DataError(f"{file}: no such file; check the path")
        require("scvi", "anndata")
        import anndata

        try:
            cells = anndata.read_h5ad(file, backed="r")
        except Exception as error:  # a foreign or damaged file can make HDF5 fail in any way
            raise DataError(f"{file}: not readable as AnnData ({error}); write it again") from None
        try:
            return self.split(self._cells(file, cells), str(file))
        finally:
            cells.file.close()

    def _cells(self, file: Path, cells: Any) -> Split:
        if self.layer is not None and self.layer not in cells.layers:
            raise DataError(f"{file}: has no layer {self.layer!r}; it has {listed_names(cells.layers) or 'none'}")
        if self.labels is not None and self.labels not in cells.obs:
            raise DataError(f"{file}: obs has no column {self.labels!r}; it has {listed_names(cells.obs) or 'none'}")
        matrix = cells.X if self.layer is None else cells.layers[self.layer]
        if matrix is None:
            raise DataError(f"{file}: has no X; name a layer: {listed_names(cells.layers) or 'there is none'}")
        labels = None
        if self.labels is not None:
            column = cells.obs[self.labels]
            missing = column.isna().to_numpy()
            if missing.any():
                raise DataError(
                    f"{file}: the label {self.labels!r} is missing in row {int(missing.argmax())}; fill it in"
                )
            numeric = column.dtype.kind in "fiub"
            labels = codes(file, self.labels, column.to_numpy() if numeric else column.astype(str).to_numpy())
        return Split(densified(file, matrix, tuple(map(str, cells.var_names))), labels)


def densified(file: Path, matrix: Any, names: tuple[str, ...]) -> torch.Tensor:
    """The rows of a matrix, (N, D), float32: of a sparse one, some at a time.

    Args:
        file: Where it comes from, for messages.
        matrix: (N, D), dense or sparse, in memory or in the file: what has a `shape` and gives slices of rows.
        names: Of the D columns.

    Raises:
        DataError: A value is missing or infinite, or there are none.

    Example:
        >>> import pathlib, scipy.sparse
        >>> from geodesic.data.h5ad import densified
        >>> densified(pathlib.Path("cells.h5ad"), scipy.sparse.eye_array(2, format="csr"), ("a", "b"))
        tensor([[1., 0.],
                [0., 1.]])
    """
    rows, columns = matrix.shape
    if not rows or not columns:
        raise DataError(f"{file}: holds {rows} cells of {columns} genes; expected some of each")
    values = np.empty((rows, columns), dtype=np.float32)
    for begin in range(0, rows, _CHUNK):
        part = matrix[begin : begin + _CHUNK]
        values[begin : begin + _CHUNK] = part.toarray() if hasattr(part, "toarray") else part
    require_finite(file, values, names, "remove these cells or genes")
    return torch.from_numpy(values)
