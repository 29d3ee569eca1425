"""Distances, neighbors and geodesics between cells, written into an `AnnData` as scanpy reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from geodesic.adapters.fuzzy import connectivities
from geodesic.arrays import with_arrays
from geodesic.checks import nearest, require_integer
from geodesic.distances.nearest_points import NearestPoints
from geodesic.distances.record import DistanceMatrix
from geodesic.errors import InputError
from geodesic.geometry.refusals import described
from geodesic.solvers.solution import GeodesicSolution

__all__ = ["write_distances", "write_neighbors", "write_paths"]


def write_distances(adata: Any, matrix: Any, *, key: str = "geodesic") -> None:
    """Write all distances between cells, with their bounds, into `adata.obsp`.

    `obsp["geodesic_distances"]`, `obsp["geodesic_lower"]` and `obsp["geodesic_upper"]` are (N, N);
    `uns["geodesic"]` says how they were found.

    Args:
        adata: The `AnnData`, whose cells are the points, in their order.
        matrix: What `geodesic.distance_matrix` found among all of them.
        key: What to write them under.

    Raises:
        InputError: It is no matrix, or of other points than the cells.

    Example:
        >>> import numpy as np, geodesic
        >>> from types import SimpleNamespace
        >>> z = np.linspace(1, 2, 3)[:, None] * [1.0, 0.0]
        >>> adata = SimpleNamespace(n_obs=3, obsp={}, uns={})  # anndata.AnnData(...)
        >>> matrix = geodesic.distance_matrix(geodesic.surfaces.SwissRoll(), z)
        >>> geodesic.adapters.write_distances(adata, matrix)
        >>> sorted(adata.obsp)
        ['geodesic_distances', 'geodesic_lower', 'geodesic_upper']
    """
    _require("matrix", matrix, DistanceMatrix, "geodesic.distance_matrix(manifold, z)")
    _require_among("matrix", matrix)
    _require_count("matrix", len(matrix.length), adata)
    for name, values in (("distances", matrix.length), ("lower", matrix.lower), ("upper", matrix.upper)):
        adata.obsp[f"{key}_{name}"] = _array(values)
    adata.uns[key] = {
        "distances_key": f"{key}_distances",
        "method": matrix.method,
        "tol": matrix.tol,
        "length_rtol": matrix.length_rtol,
        "resolved": float(np.mean(_array(matrix.resolved))),
        "summary": matrix.summary(),
    }


def write_neighbors(
    adata: Any,
    found: Any,
    *,
    n_neighbors: int = 15,
    use_rep: str | None = None,
    key_added: str | None = None,
) -> None:
    """Write nearest cells as `scanpy.pp.neighbors` does, so that `scanpy.tl.umap` and `scanpy.tl.leiden` take them.

    `obsp["distances"]` are geodesic lengths, `obsp["connectivities"]` UMAP's weights of them, `uns["neighbors"]` the
    record, with what bounds leave open.

    Args:
        adata: The `AnnData`, whose cells are the points, in their order.
        found: What `geodesic.nearest(manifold, z, None, 15)` found, or a matrix of all distances.
        n_neighbors: Of each cell, itself among them as in scanpy, out of a matrix.
        use_rep: Where the latent points stand in `adata.obsm`: scanpy begins some of its pictures there.
        key_added: As in scanpy: a name of its own in place of "neighbors".

    Raises:
        InputError: It is of other points than the cells, or a cell is not among its own neighbors.

    Example:
        >>> import numpy as np, geodesic
        >>> from types import SimpleNamespace
        >>> z = np.linspace(1, 3, 9)[:, None] * [1.0, 0.0]
        >>> adata = SimpleNamespace(n_obs=9, obsp={}, uns={}, obsm={"X_scVI": z})  # anndata.AnnData(...)
        >>> near = geodesic.nearest(geodesic.surfaces.SwissRoll(), z, None, 4)
        >>> geodesic.adapters.write_neighbors(adata, near, use_rep="X_scVI")
        >>> adata.obsp["distances"].nnz, adata.uns["neighbors"]["params"]["n_neighbors"]
        (27, 4)
    """
    _require("found", found, (NearestPoints, DistanceMatrix), "geodesic.nearest(manifold, z, None, 15)")
    if use_rep is not None and use_rep not in adata.obsm:
        hint = nearest(use_rep, list(adata.obsm)) or "write the latent points there first"
        raise InputError(f"use_rep: adata.obsm has no {use_rep!r}; {hint}")
    if isinstance(found, DistanceMatrix):
        _require_among("found", found)
        require_integer("n_neighbors", n_neighbors, least=2, most=len(found.length))
        indices, lengths = _nearest_of(found, n_neighbors)
        left: dict[str, float] = {"resolved": float(np.mean(_array(found.resolved)))}
    else:
        indices, lengths = _array(found.indices), _array(found.length)
        left = {"open": float(np.mean(_array(found.open))), "recall": float(found.recall)}
    N, k = indices.shape
    _require_count("found", N, adata)
    if not (indices == np.arange(N)[:, None]).any(axis=1).all() or k < 2:
        raise InputError(
            "found: expected each cell and at least one other among its own neighbors; ask for those of all cells, "
            "geodesic.nearest(manifold, z, None, 15)"
        )
    indices, lengths = _itself_first(indices, lengths)
    reached = np.isfinite(lengths[:, 1:])
    places = np.repeat(np.arange(N), reached.sum(axis=1)), indices[:, 1:][reached]
    names = ("distances", "connectivities")
    distances_key, connectivities_key = names if key_added is None else (f"{key_added}_{name}" for name in names)
    adata.obsp[distances_key] = csr_matrix((lengths[:, 1:][reached], places), shape=(N, N))
    adata.obsp[connectivities_key] = connectivities(indices, lengths)
    params = {"n_neighbors": k, "method": "umap", "random_state": 0, "metric": "geodesic"}
    adata.uns["neighbors" if key_added is None else key_added] = {
        "distances_key": distances_key,
        "connectivities_key": connectivities_key,
        "params": params if use_rep is None else {**params, "use_rep": use_rep},
        "bounds": left,
    }


def write_paths(adata: Any, solution: Any, start: Any, end: Any, *, key: str = "geodesic_paths") -> None:
    """Write geodesics between cells with their certificates into `adata.uns`, as an .h5ad file keeps them.

    `uns["geodesic_paths"]` has the names of the cells, "start" and "end", "path", (P, N + 1, d), and each measure of
    `GeodesicSolution` with one number a pair, (P,), by its name.

    Args:
        adata: The `AnnData`.
        solution: The answer of `solve`.
        start: Cells that the paths begin at, by name or number: one for each pair.
        end: Cells that they end at.
        key: What to write them under.

    Raises:
        InputError: A cell is unknown, or there are more or fewer of them than pairs.

    Example:
        >>> import numpy as np, geodesic
        >>> from types import SimpleNamespace
        >>> adata = SimpleNamespace(n_obs=2, obs_names=["a", "b"], uns={})  # anndata.AnnData(...)
        >>> solution = geodesic.solve(geodesic.surfaces.Sphere(), np.array([[1.0, 0.0]]), np.array([[1.5, 1.0]]))
        >>> geodesic.adapters.write_paths(adata, solution, ["a"], ["b"])
        >>> adata.uns["geodesic_paths"]["status_name"].tolist()
        ['CONVERGED']
    """
    _require("solution", solution, GeodesicSolution, "the answer of geodesic.solve")
    arrays = {name: np.asarray(values) for name, values in solution.arrays().items()}
    batch = arrays["converged"].shape
    count = int(np.prod(batch))
    written: dict[str, Any] = {name: values.reshape(count) for name, values in arrays.items() if values.shape == batch}
    path = arrays["path"]
    adata.uns[key] = {
        "start": _names("start", start, adata, count),
        "end": _names("end", end, adata, count),
        "path": path.reshape(count, *path.shape[len(batch) :]),
        **written,
        "tol": solution.tol,
        "summary": solution.summary(),
    }


def _array(values: Any) -> NDArray:
    return np.asarray(with_arrays(values))


def _require(name: str, value: Any, kind: Any, instead: str) -> None:
    if not isinstance(value, kind):
        raise InputError(f"{name}: expected {instead}, got {described(value)}")


def _require_among(name: str, matrix: DistanceMatrix) -> None:
    if not matrix.symmetric:
        raise InputError(f"{name}: it is between two sets of points; give that among all cells, distance_matrix(m, z)")


def _require_count(name: str, count: int, adata: Any) -> None:
    if count != adata.n_obs:
        raise InputError(
            f"{name}: it has {count} points, and adata {adata.n_obs} cells; give that of all cells, in their order"
        )


def _nearest_of(matrix: DistanceMatrix, k: int) -> tuple[NDArray, NDArray]:
    """The k nearest of each point in a matrix, nearest first."""
    lengths = np.nan_to_num(_array(matrix.length).copy(), nan=np.inf, posinf=np.inf)
    np.fill_diagonal(lengths, -1)  # before duplicates of a cell
    indices = np.argsort(lengths, axis=1, kind="stable")[:, :k]
    np.fill_diagonal(lengths, 0)
    return indices, np.take_along_axis(lengths, indices, axis=1)


def _itself_first(indices: NDArray, lengths: NDArray) -> tuple[NDArray, NDArray]:
    """Each point the first of its own neighbors, also where another one lies at the same place."""
    order = np.argsort(indices != np.arange(len(indices))[:, None], axis=1, kind="stable")
    return np.take_along_axis(indices, order, axis=1), np.take_along_axis(lengths, order, axis=1)


def _names(argument: str, given: Any, adata: Any, count: int) -> NDArray:
    """The names of cells, given by name or number, (count,)."""
    cells = [str(name) for name in adata.obs_names]
    values: Sequence[Any] = [given] if isinstance(given, str) else np.asarray(given).reshape(-1).tolist()
    if len(values) != count:
        raise InputError(f"{argument}: expected a cell for each of {count} pairs, got {len(values)}")
    known = set(cells)
    found = []
    for value in values:
        if isinstance(value, str) and value in known:
            found.append(value)
        elif isinstance(value, int) and 0 <= value < len(cells):
            found.append(cells[value])
        else:
            hint = nearest(str(value), cells) or f"give a name of adata.obs_names, or a number below {len(cells)}"
            raise InputError(f"{argument}: adata has no cell {value!r}; {hint}")
    return np.array(found)
