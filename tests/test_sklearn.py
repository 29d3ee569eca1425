"""Estimators of scikit-learn on geodesic distances do what they do in the coordinates in which a roll is flat."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.cluster import DBSCAN, AgglomerativeClustering
from sklearn.manifold import MDS
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import geodesic
from geodesic.adapters.sklearn import GeodesicDistances, GeodesicNeighbors
from geodesic.errors import InputError

ROLL = geodesic.surfaces.SwissRoll()
GENERATOR = np.random.default_rng(0)
Z = np.concatenate([low + GENERATOR.random((8, 2)) for low in ([1.0, 0.0], [6.0, 0.0], [11.0, 0.0])])
QUERIES = GENERATOR.random((5, 2)) * [10.0, 1.0] + [1.0, 0.0]
LABELS = GENERATOR.integers(0, 3, len(Z))


def flat(z: np.ndarray) -> np.ndarray:
    """Arc length of the spiral and height: straight distances are geodesic ones."""
    t, h = z.T
    return np.stack([(t * np.sqrt(1 + t**2) + np.arcsinh(t)) / 2, h], axis=1)


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    return GeodesicDistances(ROLL).fit_transform(Z)


@pytest.fixture(scope="module")
def graph() -> Any:
    return GeodesicNeighbors(ROLL, n_neighbors=5).fit_transform(Z)


@pytest.mark.slow
def test_the_flat_coordinates_give_the_distances_of_the_roll(matrix: np.ndarray) -> None:
    x = flat(Z)
    np.testing.assert_allclose(matrix, np.linalg.norm(x[:, None] - x, axis=-1), rtol=1e-3, atol=1e-9)
    assert np.array_equal(matrix, matrix.T)


def test_the_graph_is_sparse_sorted_and_has_each_point_itself(graph: Any, matrix: np.ndarray) -> None:
    assert graph.shape == (24, 24)
    assert graph.nnz == 24 * 6
    distances, columns = graph.data.reshape(24, 6), graph.indices.reshape(24, 6)
    assert (columns[:, 0] == np.arange(24)).all()
    assert not distances[:, 0].any()
    assert (np.diff(distances) >= 0).all()
    truth = np.sort(matrix, axis=1)[:, :6]
    np.testing.assert_allclose(distances, truth, rtol=2e-3, atol=1e-9)
    ones = GeodesicNeighbors(ROLL, n_neighbors=5, mode="connectivity").fit_transform(Z)
    assert ones.nnz == 24 * 5
    assert (ones.data == 1).all()


@pytest.mark.slow
def test_a_classifier_behind_neighbors_predicts_as_in_flat_coordinates() -> None:
    behind = KNeighborsClassifier(3, metric="precomputed", weights="distance")
    pipeline = make_pipeline(GeodesicNeighbors(ROLL, n_neighbors=3), behind).fit(Z, LABELS)
    plain = KNeighborsClassifier(3, weights="distance").fit(flat(Z), LABELS)
    np.testing.assert_allclose(
        pipeline.predict_proba(QUERIES), plain.predict_proba(flat(QUERIES)), rtol=2e-2, atol=1e-3
    )


@pytest.mark.slow
def test_a_classifier_takes_the_dense_matrix() -> None:
    distances = GeodesicDistances(ROLL).fit(Z)
    dense = KNeighborsClassifier(3, metric="precomputed").fit(distances.transform(Z), LABELS)
    plain = KNeighborsClassifier(3).fit(flat(Z), LABELS)
    assert (dense.predict(distances.transform(QUERIES)) == plain.predict(flat(QUERIES))).all()


@pytest.mark.parametrize("eps", [1.0, 4.0])
def test_dbscan_clusters_the_graph_as_the_flat_points(eps: float, graph: Any) -> None:
    near = GeodesicNeighbors(ROLL, n_neighbors=23).fit_transform(Z) if eps > 1 else graph
    found = DBSCAN(eps=eps, min_samples=3, metric="precomputed").fit_predict(near)
    assert (found == DBSCAN(eps=eps, min_samples=3).fit_predict(flat(Z))).all()


@pytest.mark.parametrize("linkage", ["average", "complete", "single"])
def test_agglomerative_clusters_are_those_of_the_flat_points(linkage: str, matrix: np.ndarray) -> None:
    found = AgglomerativeClustering(3, metric="precomputed", linkage=linkage).fit_predict(matrix)
    assert (found == AgglomerativeClustering(3, linkage=linkage).fit_predict(flat(Z))).all()
    assert len(set(found[:8])) == len(set(found[8:16])) == len(set(found[16:])) == 1


def test_mds_unrolls_the_roll(matrix: np.ndarray) -> None:
    # Older versions say `dissimilarity`, newer ones `metric`.
    new = "metric_mds" in inspect.signature(MDS).parameters
    words: dict[str, Any] = (
        {"metric": "precomputed", "init": "classical_mds"} if new else {"dissimilarity": "precomputed"}
    )
    x = MDS(2, n_init=1, random_state=0, normalized_stress="auto", **words).fit_transform(matrix)
    np.testing.assert_allclose(np.linalg.norm(x[:, None] - x, axis=-1), matrix, rtol=0.02, atol=0.1)


def test_a_copy_shares_the_manifold_and_keeps_the_settings() -> None:
    search = geodesic.Search(length_rtol=1e-2)
    for estimator in (GeodesicNeighbors(ROLL, n_neighbors=3, search=search), GeodesicDistances(ROLL, search=search)):
        copy = clone(estimator)
        assert copy is not estimator
        assert (copy.manifold, copy.search) == (ROLL, search)
        assert copy.get_params() == estimator.get_params()


def test_distances_keep_their_bounds_and_their_precision() -> None:
    estimator = GeodesicDistances(ROLL, method="straight")
    found = estimator.fit_transform(Z[:4].astype(np.float32))
    assert found.dtype == np.float32
    assert (estimator.matrix_.lower <= found).all()
    assert (found <= estimator.matrix_.upper).all()
    assert estimator.get_feature_names_out().tolist() == [f"geodesicdistances{k}" for k in range(4)]


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="mode: expected 'distance' or 'connectivity'"):
        GeodesicNeighbors(ROLL, mode="distances").fit_transform(Z)
    with pytest.raises(InputError, match=r"n_neighbors: .*from 1 to .*, got 24"):
        GeodesicNeighbors(ROLL, n_neighbors=24).fit_transform(Z)
    with pytest.raises(ValueError, match="NaN"):
        GeodesicDistances(ROLL).fit(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="3 features"):
        GeodesicDistances(ROLL).fit(Z).transform(np.ones((2, 3)))


# A manifold holds functions, which pickle refuses; nothing else of the contract is left out.
EXPECTED = dict.fromkeys(
    ("check_estimators_overwrite_params", "check_estimators_pickle"), "they pickle the manifold, which holds functions"
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # scikit-learn's own, of the estimators that it makes up
@pytest.mark.parametrize("kind", [GeodesicNeighbors, GeodesicDistances])
def test_the_contract_of_estimators_is_kept(kind: Any) -> None:
    plane = geodesic.PullbackManifold(lambda z: z)
    settings = {"n_neighbors": 2} if kind is GeodesicNeighbors else {"method": "straight"}
    torch.set_default_dtype(torch.float32)  # as users have it
    check_estimator(kind(plane, **settings), expected_failed_checks=EXPECTED, on_skip=None)
