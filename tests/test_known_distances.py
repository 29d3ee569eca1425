"""Tools take distances that exist: as a start or as the whole work, and none that are of other points."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import geodesic
from geodesic import Search
from geodesic.distances import DistanceMatrix
from geodesic.errors import InputError
from geodesic.riemannian.statistics.between import medoid

ROLL = geodesic.surfaces.SwissRoll()
SOME = Search(segments=8)


@pytest.fixture(scope="module")
def points() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.cat([low + torch.rand(6, 2, generator=generator) for low in (1.0, 6.0, 11.0)])


@pytest.fixture(scope="module")
def matrix(points: Tensor) -> DistanceMatrix:
    return geodesic.distance_matrix(ROLL, points)


def flat(z: Tensor) -> Tensor:
    """Arc length of the spiral and height."""
    t, h = z.unbind(-1)
    return torch.stack([(t * (1 + t**2).sqrt() + t.asinh()) / 2, h], dim=-1)


@pytest.mark.slow
def test_medoids_of_a_matrix_are_those_that_are_found_without(points: Tensor, matrix: DistanceMatrix) -> None:
    known, found = geodesic.k_medoids(ROLL, points, 3, distances=matrix), geodesic.k_medoids(ROLL, points, 3)
    assert torch.equal(known.medoids, found.medoids)
    assert torch.equal(known.labels, found.labels)
    assert bool(known.converged)
    assert_close(known.error, matrix.error.max())
    assert (known.labels.reshape(3, 6) == known.labels[::6, None]).all()
    upper = geodesic.distance_matrix(ROLL, points, method="straight")
    assert bool(geodesic.k_medoids(ROLL, points, 3, distances=upper).error.isinf())  # no geodesic was sought


@pytest.mark.slow
@pytest.mark.parametrize("distances", ["matrix", "tensor"])
def test_a_mean_begins_at_the_medoid(distances: str, points: Tensor, matrix: DistanceMatrix) -> None:
    known: Any = matrix if distances == "matrix" else matrix.length
    few = points[:6]
    of_few = DistanceMatrix(
        **{name: value[:6, :6] if isinstance(value, Tensor) else value for name, value in vars(matrix).items()}
    )
    mean = geodesic.frechet_mean(ROLL, few, distances=of_few if distances == "matrix" else known[:6, :6], search=SOME)
    assert bool(mean.converged)
    assert_close(flat(mean.point), flat(few).mean(0), rtol=1e-3, atol=1e-3)
    assert int(mean.start) == 0  # there was one
    begun = few[medoid(of_few.length, torch.ones(6), 2)]
    again = geodesic.frechet_mean(ROLL, few, initial_point=begun, search=SOME)
    assert torch.equal(mean.point, again.point)


@pytest.mark.slow
def test_a_median_begins_at_the_medoid(points: Tensor, matrix: DistanceMatrix) -> None:
    few, D = points[:5], matrix.length[:5, :5]
    known, found = (geodesic.frechet_median(ROLL, few, distances=how, search=SOME) for how in (D, None))
    assert bool(known.converged)
    assert_close(known.point, found.point, rtol=1e-3, atol=1e-3)


def test_the_medoid_is_weighted() -> None:
    D = torch.tensor([[0.0, 1.0, 4.0], [1.0, 0.0, 3.0], [4.0, 3.0, 0.0]])
    assert int(medoid(D, torch.tensor([1.0, 1.0, 1.0]), 1)) == 1
    assert int(medoid(D, torch.tensor([1.0, 0.0, 8.0]), 1)) == 2
    assert int(medoid(D, torch.tensor([1.0, 0.0, 1.0]), 2)) == 0  # not the point without weight


@pytest.mark.slow
def test_clusters_begin_at_medoids_and_no_chance_is_involved(points: Tensor, matrix: DistanceMatrix) -> None:
    found = [geodesic.k_means(ROLL, points, 3, distances=matrix, seed=seed, search=SOME) for seed in (0, 1)]
    assert torch.equal(found[0].centers, found[1].centers)
    assert bool(found[0].converged)
    centers = flat(points).reshape(3, 6, 2).mean(1)
    ordered = flat(found[0].centers)[found[0].centers[:, 0].argsort()]
    assert_close(ordered, centers, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("tool", ["k_medoids", "k_means", "frechet_mean", "frechet_median"])
def test_distances_of_others_are_refused(tool: str, points: Tensor, matrix: DistanceMatrix) -> None:
    def call(points: Tensor, distances: Any, manifold: Any = ROLL, **more: Any) -> Any:
        clusters = () if tool.startswith("frechet") else (2,)
        return getattr(geodesic, tool)(manifold, points, *clusters, distances=distances, **more)

    with pytest.raises(InputError, match="of other points or another manifold"):
        call(points.flip(0), matrix)
    with pytest.raises(InputError, match="of other points or another manifold"):
        call(points, matrix, geodesic.surfaces.Torus())
    with pytest.raises(InputError, match=r"expected those between all points of one set, \(17, 17\)"):
        call(points[:17], matrix)
    skewed = matrix.length.clone()
    skewed[0, 5] *= 2
    with pytest.raises(InputError, match=r"symmetric matrix, got .* at \[0, 5\] and .* at \[5, 0\]"):
        call(points, skewed)
    with pytest.raises(InputError, match=r"zero from a point to itself, got .* at \[0, 0\]"):
        call(points, matrix.length + 1)
    block = geodesic.distance_matrix(ROLL, points, points + 0.5, method="straight")
    with pytest.raises(InputError, match="from points to others"):
        call(points, block)
    if tool != "k_medoids":
        name = "initial_points" if tool == "k_means" else "initial_point"
        start = points[:2] if tool == "k_means" else points[0]
        with pytest.raises(InputError, match=f"{name}: got .* and distances"):
            call(points, matrix, **{name: start})


def test_a_matrix_without_lower_bounds_is_known_by_straight_lines(points: Tensor) -> None:
    metric = geodesic.MetricFunction(lambda z: torch.eye(2) * (1 + z[..., :1, None] ** 2))
    few = points[:4]
    matrix = geodesic.distance_matrix(metric, few, method="straight")
    assert geodesic.k_medoids(metric, few, 2, distances=matrix).medoids.shape == (2,)
    with pytest.raises(InputError, match="of other points"):
        geodesic.k_medoids(metric, few + 1, 2, distances=matrix)
