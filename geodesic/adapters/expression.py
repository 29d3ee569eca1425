"""Genes along a geodesic between cells: a table of what they do, and a picture of those that change most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from geodesic.adapters.genes import require_genes
from geodesic.adapters.wrap import WrappedDecoder
from geodesic.arrays import as_tensor, with_arrays
from geodesic.checks import require_integer
from geodesic.errors import InputError
from geodesic.geometry.outputs import OutputGeometry
from geodesic.geometry.refusals import described
from geodesic.installation import require
from geodesic.pictures.genes import plot_expression
from geodesic.solvers.solution import GeodesicSolution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["genes_along", "plot_genes"]

_FINE = 64  # segments that lengths of single genes are taken in
_MEASURES = ("share", "travelled")  # columns beside the times


def genes_along(
    decoder: WrappedDecoder, solution: GeodesicSolution, *, pair: int = 0, steps: int = 11, adata: Any = None
) -> Any:
    """What each gene does along a geodesic between cells, those first that change most.

        share_g = sum over segments of (phi_g(x_{i+1}) - phi_g(x_i))^2, over the same sum over all genes

    with phi the embedding of the decoder's geometry, for counts 2 sqrt r arcsinh sqrt(mean / r).

    Args:
        decoder: What `from_scvi` returned, which knows the names of the genes.
        solution: The answer of `solve` in its geometry.
        pair: Which of the geodesics.
        steps: Equal times at which expected counts are given.
        adata: Cells whose genes must be those of the decoder, in its order.

    Returns:
        A table of pandas, a row for each gene: "share" is its part of the squared length, and shares sum to one;
        "travelled" the length of its own way, back and forth; then expected counts in the columns "0" to "1", which are
        times.

    Raises:
        InputError: The decoder knows no names, or its geometry has no embedding gene by gene; there is no such pair.
        DataError: The genes of `adata` are others, or in another order.
        MissingExtraError: pandas is not installed.

    Example:
        >>> import torch, geodesic
        >>> from geodesic.adapters.wrap import Said, wrapped
        >>> decoder = lambda z: torch.distributions.Poisson(1 + z.square() @ torch.tensor([[0.0, 1.0], [1.0, 3.0]]))
        >>> decoder = wrapped(decoder, "Cells", latent_shape=2, said=Said(names=("ACTB", "CD4")))  # from_scvi(model)
        >>> solution = geodesic.solve(decoder.manifold(), torch.zeros(2), torch.tensor([2.0, 0.0]))
        >>> table = geodesic.adapters.genes_along(decoder, solution, steps=3)
        >>> table["share"].round(2).to_dict(), table.loc["CD4", ["0", "0.5", "1"]].round(1).tolist()
        ({'CD4': 1.0, 'ACTB': 0.0}, [1.0, 2.6, 5.0])
    """
    if not isinstance(decoder, WrappedDecoder) or not decoder.names:
        raise InputError(
            f"decoder: expected one that knows the names of its outputs, from geodesic.adapters.from_scvi, got "
            f"{described(decoder)}"
        )
    if not isinstance(solution, GeodesicSolution):
        raise InputError(f"solution: expected the answer of geodesic.solve, got {described(solution)}")
    require_integer("steps", steps, least=2)
    if adata is not None:
        require_genes("adata", adata, decoder.names)
    require("scvi", "pandas")
    import pandas

    count = int(np.prod(np.shape(solution.converged)))
    require_integer("pair", pair, least=0, most=count - 1, note="of the geodesics")
    if decoder.pairs not in (None, count):
        raise InputError(f"decoder: it has a condition for each of {decoder.pairs} pairs, and solution has {count}")
    single = decoder.of_pair(pair)
    ways = _embedded(single, _points(solution, pair, _FINE + 1))
    changes = np.diff(ways, axis=0)
    squares = np.square(changes).sum(axis=0)
    total = squares.sum()
    measures = (squares / total if total > 0 else squares, abs(changes).sum(axis=0))
    with torch.no_grad():
        means = np.asarray(with_arrays(single.mean(_points(solution, pair, steps))), dtype=np.float64)
    times = [f"{t:.4g}" for t in np.linspace(0, 1, steps)]
    columns = {**dict(zip(_MEASURES, measures, strict=True)), **dict(zip(times, means, strict=True))}
    table = pandas.DataFrame(columns, index=pandas.Index(decoder.names, name="gene"))
    return table.sort_values("share", ascending=False, kind="stable")


def plot_genes(table: Any, *, most: int = 12) -> Figure:
    """Draw the genes that change most along a geodesic: expected counts, of each gene over its largest.

    Args:
        table: What `genes_along` returned, or some of its rows.
        most: Of its first rows, how many to draw.

    Returns:
        The figure, which a notebook shows by itself.

    Raises:
        InputError: It is no such table.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> import pandas, geodesic
        >>> columns = {"share": [0.9, 0.1], "travelled": [2.0, 0.5], "0": [1.0, 2.0], "1": [8.0, 1.5]}
        >>> figure = geodesic.adapters.plot_genes(pandas.DataFrame(columns, index=["CD4", "CD8"]), most=1)
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['CD4']
    """
    require_integer("most", most, least=1)
    names = list(getattr(table, "columns", ()))
    if names[:2] != list(_MEASURES) or len(names) < 4 or not len(table):
        raise InputError(f"table: expected what geodesic.adapters.genes_along returned, got {described(table)}")
    first = table.iloc[:most]
    times = np.array([float(name) for name in names[2:]])
    values = first[names[2:]].to_numpy(dtype=np.float64)
    return plot_expression(values, times, tuple(map(str, first.index)), first["share"].to_numpy(dtype=np.float64))


def _points(solution: GeodesicSolution, pair: int, count: int) -> torch.Tensor:
    """Points of one geodesic at equal times, (count, ...)."""
    points = as_tensor("solution", solution(torch.linspace(0, 1, count)))
    batch = np.ndim(solution.converged)
    flat: torch.Tensor = points.reshape(-1, *points.shape[batch:])[pair]
    return flat


def _embedded(decoder: WrappedDecoder, points: torch.Tensor) -> NDArray:
    """Where each gene is in the geometry of the decoder, (N, D), in double precision."""
    if not isinstance(decoder.outputs, OutputGeometry):
        raise InputError(f"decoder: its geometry {decoder.outputs!r} has no embedding, and no length of single genes")
    with torch.no_grad():
        embedded = decoder.outputs.embed(decoder(points)).double()
    if embedded.shape != (len(points), len(decoder.names)):
        raise InputError(f"decoder: its geometry {decoder.outputs!r} does not measure gene by gene")
    return np.asarray(with_arrays(embedded))
