"""Distances, neighbors, geodesics and genes of cells, on stand-ins for anndata; `make adapters` has the real one."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import geodesic
from geodesic import adapters
from geodesic.adapters.fuzzy import connectivities
from geodesic.errors import GeodesicError
from tests.foreign_cells import GENES, Cells, Scvi

ROLL = geodesic.surfaces.SwissRoll()
N, K = 12, 4
Z = np.linspace(1, 6, N)[:, None] * [1.0, 0.0] + np.random.default_rng(0).random((N, 2)) * 0.3


@pytest.fixture(scope="module")
def matrix() -> Any:
    return geodesic.distance_matrix(ROLL, Z)


@pytest.fixture(scope="module")
def near() -> Any:
    return geodesic.nearest(ROLL, Z, None, K)


@pytest.fixture(scope="module")
def expressed() -> tuple[Any, Any]:
    """A decoder of cells, and two geodesics."""
    decoder = adapters.from_scvi(Scvi(), batch="first", library=1000)
    start, end = torch.tensor([[[0.3, -0.8], [1.1, 0.4]], [[-0.6, 0.9], [0.2, -1.0]]])
    return decoder, geodesic.solve(decoder.manifold(), start, end)


# --- connectivities -----------------------------------------------------------------------------


def test_connectivities_are_symmetric_and_certain_for_the_nearest(near: Any) -> None:
    W = connectivities(near.indices, near.length).toarray()
    assert np.array_equal(W, W.T)
    assert ((W >= 0) & (W <= 1)).all()
    assert not W.diagonal().any()
    np.testing.assert_allclose(W[np.arange(N), near.indices[:, 1]], 1)


def test_one_way_weights_of_a_cell_sum_to_the_logarithm_of_its_neighbors() -> None:
    # No neighbor of cell 0 knows it, so that its row has its own weights alone.
    indices = np.array(
        [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 1, 3, 4, 5], [3, 1, 2, 4, 5], [4, 1, 2, 3, 5], [5, 1, 2, 3, 4]]
    )
    distances = np.array([[0.0, 1.0, 1.5, 2.5, 4.0]] * 6)
    assert connectivities(indices, distances)[0].sum() == pytest.approx(np.log2(5), abs=1e-4)


def test_cells_at_one_place_and_cells_out_of_reach_have_finite_weights() -> None:
    indices = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1]])
    W = connectivities(indices, np.array([[0, 0, 0], [0, 0, 0], [0, 3.0, np.inf]])).toarray()
    assert np.isfinite(W).all()
    assert W[0, 1] == W[0, 2] == 1


# --- what is written ----------------------------------------------------------------------------


def test_neighbors_are_written_as_scanpy_has_them_without_the_cell_itself(near: Any) -> None:
    adata = Cells(N)
    adapters.write_neighbors(adata, near)
    distances = adata.obsp["distances"]
    assert np.array_equal(np.diff(distances.indptr), np.full(N, K - 1))
    assert not distances.diagonal().any()
    rows = np.arange(N)[:, None]
    np.testing.assert_allclose(distances.toarray()[rows, near.indices[:, 1:]], near.length[:, 1:])
    record = adata.uns["neighbors"]
    assert record["distances_key"] == "distances"
    assert record["params"] == {"n_neighbors": K, "method": "umap", "random_state": 0, "metric": "geodesic"}
    assert record["bounds"]["open"] == pytest.approx(near.open.mean())
    adata.obsm["X_scVI"] = Z
    adapters.write_neighbors(adata, near, use_rep="X_scVI", key_added="curved")
    assert {"curved_distances", "curved_connectivities"} < adata.obsp.keys()
    assert adata.uns["curved"]["params"]["use_rep"] == "X_scVI"


def test_neighbors_out_of_a_matrix_are_those_that_are_searched_for(matrix: Any, near: Any) -> None:
    searched, looked_up = Cells(N), Cells(N)
    adapters.write_neighbors(searched, near)
    adapters.write_neighbors(looked_up, matrix, n_neighbors=K)
    for name in ("distances", "connectivities"):
        np.testing.assert_allclose(searched.obsp[name].toarray(), looked_up.obsp[name].toarray(), atol=1e-2)


def test_all_distances_are_written_with_their_bounds(matrix: Any) -> None:
    adata = Cells(N)
    adapters.write_distances(adata, matrix, key="roll")
    assert np.array_equal(adata.obsp["roll_distances"], matrix.length)
    assert (adata.obsp["roll_lower"] <= adata.obsp["roll_upper"]).all()
    assert adata.uns["roll"]["resolved"] == 1


@pytest.mark.slow
def test_paths_are_written_with_the_names_of_their_cells_and_their_certificates(expressed: Any) -> None:
    adata, (_, solution) = Cells(N), expressed
    adapters.write_paths(adata, solution, ["cell3", "cell1"], [0, 2])
    written = adata.uns["geodesic_paths"]
    assert written["start"].tolist() == ["cell3", "cell1"]
    assert written["end"].tolist() == ["cell0", "cell2"]
    assert np.array_equal(written["path"], solution.path)
    for name in ("converged", "minimum", "resolved", "length", "relative_excess_energy"):
        assert np.array_equal(written[name], getattr(solution, name))
    assert written["status_name"].tolist() == ["CONVERGED", "CONVERGED"]
    adapters.write_paths(adata, solution[0], "cell3", "cell0")
    assert adata.uns["geodesic_paths"]["path"].shape == (1, 33, 2)


# --- genes --------------------------------------------------------------------------------------


def test_shares_of_genes_sum_to_one_and_their_counts_are_those_of_the_ends(expressed: Any) -> None:
    decoder, solution = expressed
    table = adapters.genes_along(decoder, solution, pair=1, steps=5)
    assert table["share"].sum() == pytest.approx(1)
    assert table["share"].is_monotonic_decreasing
    assert list(table.columns) == ["share", "travelled", "0", "0.25", "0.5", "0.75", "1"]
    in_order = table.loc[list(GENES)]
    start, end = solution.path[1, [0, -1]]
    np.testing.assert_allclose(in_order["0"], decoder.mean(start[None])[0], rtol=1e-5)
    np.testing.assert_allclose(in_order["1"], decoder.mean(end[None])[0], rtol=1e-5)


def test_the_ways_of_single_genes_make_up_the_length(expressed: Any) -> None:
    """Where all genes move at constant speed, the squares of their ways sum to that of the length; else to less."""
    decoder, solution = expressed
    table = adapters.genes_along(decoder, solution)
    length = float(solution.length[0])
    assert np.linalg.norm(table["travelled"]) <= length * (1 + 1e-3)
    assert table["travelled"].sum() >= length * (1 - 1e-3)


def test_a_decoder_with_a_batch_for_each_pair_is_that_of_the_pair(expressed: Any) -> None:
    solution = expressed[1]
    each = adapters.from_scvi(Scvi(), batch=["second", "first"], library=1000)
    for pair, batch in enumerate(("second", "first")):
        alone = adapters.from_scvi(Scvi(), batch=batch, library=1000)
        assert adapters.genes_along(each, solution, pair=pair).equals(adapters.genes_along(alone, solution, pair=pair))


def test_the_picture_of_genes_names_those_that_change_most_with_their_shares(expressed: Any) -> None:
    table = adapters.genes_along(*expressed)
    figure = adapters.plot_genes(table, most=3)
    names = {label.get_text() for label in figure.axes[0].get_yticklabels()}
    assert names == set(table.index[:3])
    assert f"{table['share'].iloc[0]:.1%}" in {text.get_text() for text in figure.axes[0].texts}


REFUSED: dict[str, tuple[Any, str]] = {
    "no matrix": (lambda m, n, e: adapters.write_distances(Cells(N), Z), "matrix: expected geodesic.distance_matrix"),
    "a matrix of others": (lambda m, n, e: adapters.write_distances(Cells(9), m), "12 points, and adata 9 cells"),
    "two sets": (
        lambda m, n, e: adapters.write_distances(Cells(2), geodesic.distance_matrix(ROLL, Z[:2], Z[2:4])),
        "matrix: it is between two sets of points",
    ),
    "neighbors between two sets": (
        lambda m, n, e: adapters.write_neighbors(Cells(2), geodesic.distance_matrix(ROLL, Z[:2], Z[2:4])),
        "found: it is between two sets of points",
    ),
    "no neighbors": (lambda m, n, e: adapters.write_neighbors(Cells(N), Z), "found: expected geodesic.nearest"),
    "neighbors of others": (lambda m, n, e: adapters.write_neighbors(Cells(9), n), "12 points, and adata 9 cells"),
    "neighbors without the cells": (
        lambda m, n, e: adapters.write_neighbors(Cells(2), geodesic.nearest(ROLL, Z, Z[5:7], 2)),
        "found: expected each cell and at least one other among its own neighbors",
    ),
    "too many": (lambda m, n, e: adapters.write_neighbors(Cells(N), m, n_neighbors=13), "n_neighbors: .* 13"),
    "no such points": (lambda m, n, e: adapters.write_neighbors(Cells(N), n, use_rep="X_pca"), "use_rep: .* 'X_pca'"),
    "no solution": (lambda m, n, e: adapters.write_paths(Cells(N), m, [0], [1]), "solution: expected the answer"),
    "too few cells": (
        lambda m, n, e: adapters.write_paths(Cells(N), e[1], [0], [1, 2]),
        "start: expected a cell for each of 2 pairs, got 1",
    ),
    "an unknown cell": (
        lambda m, n, e: adapters.write_paths(Cells(N), e[1], ["cell0", "cel1"], [1, 2]),
        "start: adata has no cell 'cel1'; did you mean",
    ),
    "a number too large": (
        lambda m, n, e: adapters.write_paths(Cells(N), e[1], [0, 1], [1, 12]),
        "end: adata has no cell 12",
    ),
    "a decoder without names": (
        lambda m, n, e: adapters.genes_along(geodesic.wrap(torch.nn.Linear(2, 3)), e[1]),
        "decoder: expected one that knows the names of its outputs",
    ),
    "no such pair": (lambda m, n, e: adapters.genes_along(*e, pair=2), "pair: "),
    "genes in another order": (
        lambda m, n, e: adapters.genes_along(*e, adata=SimpleNamespace(var_names=[*GENES[1:], GENES[0]])),
        "adata: has its genes in another order: gene 0 is 'gene1', and was 'gene0'",
    ),
    "no table": (lambda m, n, e: adapters.plot_genes(Z), "table: expected what geodesic.adapters.genes_along returned"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_belong_to_the_cells_is_refused(case: str, matrix: Any, near: Any, expressed: Any) -> None:
    call, message = REFUSED[case]
    with pytest.raises(GeodesicError, match=message):
        call(matrix, near, expressed)
