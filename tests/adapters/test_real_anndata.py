"""What is written into an `AnnData` is what scanpy reads and .h5ad files keep."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import geodesic
from geodesic import adapters
from geodesic.adapters.fuzzy import connectivities
from geodesic.adapters.sklearn import GeodesicNeighbors
from tests.adapters.cells import branching
from tests.test_readme import PAGES, blocks

scvi = pytest.importorskip("scvi", reason="scvi-tools is not installed: `make adapters` has it")
scanpy = pytest.importorskip("scanpy", reason="scanpy is not installed: `make adapters` has it")

K = 6


@pytest.fixture(scope="module")
def cells() -> Any:
    """Cells with their latent points, the model's decoder, and the nearest neighbors of each."""
    torch.set_default_dtype(torch.float32)
    adata = branching(60, 20)
    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(adata, batch_key="donor")
    model = scvi.model.SCVI(adata, n_latent=2)
    model.train(max_epochs=100, accelerator="cpu", enable_progress_bar=False, logger=False)
    adata.obsm["X_scVI"] = z = model.get_latent_representation()
    decoder = adapters.from_scvi(model, batch="anna")
    near = geodesic.nearest(decoder.manifold(), z, None, K)
    return adata, decoder, near


def test_neighbors_are_those_that_scanpy_finds_with_the_estimator(cells: Any) -> None:
    adata, decoder, near = cells[0].copy(), cells[1], cells[2]
    adapters.write_neighbors(adata, near, use_rep="X_scVI")
    other = adata.copy()
    transformer = GeodesicNeighbors(decoder.manifold(), n_neighbors=K)
    scanpy.pp.neighbors(other, use_rep="X_scVI", transformer=transformer)
    ours, theirs = (x.obsp["connectivities"].toarray() for x in (adata, other))
    np.testing.assert_allclose(ours, theirs, atol=1e-2)  # lengths are right to a thousandth
    ours, theirs = (x.obsp["distances"].toarray() for x in (adata, other))
    np.testing.assert_allclose(ours, np.where(ours > 0, theirs, 0), rtol=2e-3)  # scanpy keeps one more of each
    assert adata.obsp["distances"].nnz == 60 * (K - 1)
    assert adata.uns["neighbors"]["params"]["n_neighbors"] == other.uns["neighbors"]["params"]["n_neighbors"] == K


def test_connectivities_are_the_weights_of_umap(cells: Any) -> None:
    from umap.umap_ import fuzzy_simplicial_set

    indices, distances = (np.asarray(x) for x in (cells[2].indices, cells[2].length))
    distances = distances.copy()
    distances[5, 1:3] = 0  # cells at one place
    theirs, *_ = fuzzy_simplicial_set(
        np.zeros((60, 1)), K, np.random.RandomState(0), "euclidean", knn_indices=indices, knn_dists=distances
    )
    np.testing.assert_allclose(connectivities(indices, distances).toarray(), theirs.toarray(), atol=2e-5)


def test_scanpy_embeds_and_clusters_what_was_written(cells: Any) -> None:
    adata, _, near = cells[0].copy(), *cells[1:]
    for key in (None, "curved"):
        adapters.write_neighbors(adata, near, use_rep="X_scVI", key_added=key)
        scanpy.tl.umap(adata, neighbors_key=key)
        scanpy.tl.leiden(adata, neighbors_key=key, flavor="igraph", n_iterations=2, directed=False)
        assert np.isfinite(adata.obsm["X_umap"]).all()
        assert 1 < adata.obs["leiden"].nunique() < 40
    adata.uns["iroot"] = int(np.argmin(adata.obs["time"]))
    scanpy.tl.diffmap(adata)
    scanpy.tl.dpt(adata)
    assert adata.obs["dpt_pseudotime"].iloc[adata.uns["iroot"]] == 0
    assert np.isfinite(adata.obs["dpt_pseudotime"]).all()


def test_all_distances_and_paths_and_genes_survive_a_file(cells: Any, tmp_path: Path) -> None:
    adata, decoder, _ = cells[0][:12].copy(), *cells[1:]
    z = np.asarray(adata.obsm["X_scVI"])
    matrix = geodesic.distance_matrix(decoder.manifold(), z)
    adapters.write_distances(adata, matrix)
    adapters.write_neighbors(adata, matrix, n_neighbors=5)
    solution = geodesic.solve(decoder.manifold(), z[:3], z[3:6])
    adapters.write_paths(adata, solution, ["cell0", "cell1", "cell2"], [3, 4, 5])
    table = adapters.genes_along(decoder, solution, pair=1, adata=adata)
    adata.varm["along"] = table.loc[adata.var_names]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    again = scanpy.read_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(again.obsp["geodesic_distances"], np.asarray(matrix.length))
    assert (again.obsp["geodesic_lower"] <= again.obsp["geodesic_upper"]).all()
    assert again.obsp["distances"].nnz == 12 * 4
    paths = again.uns["geodesic_paths"]
    assert list(paths["end"]) == ["cell3", "cell4", "cell5"]
    np.testing.assert_array_equal(paths["path"], np.asarray(solution.path))
    np.testing.assert_array_equal(paths["converged"], np.asarray(solution.converged))
    assert again.varm["along"]["share"].sum() == pytest.approx(1)


def test_the_recipes_of_the_page_on_distances_run_as_they_stand(cells: Any) -> None:
    pytest.importorskip("umap", reason="umap-learn is not installed: `make adapters` has it")
    adata, decoder, _ = cells
    known: dict[str, Any] = {"geodesic": geodesic, "GeodesicNeighbors": GeodesicNeighbors, "adata": adata.copy()}
    known |= {"manifold": decoder.manifold(), "z": torch.as_tensor(adata.obsm["X_scVI"])}
    for recipe in ("UMAP", "scanpy"):
        (code,) = blocks("", PAGES["distances"].partition(f"## {recipe}")[2].partition("\n## ")[0])
        exec(code, known)
    assert np.isfinite(known["embedding"]).all()
    assert known["adata"].obs["leiden"].nunique() > 1
