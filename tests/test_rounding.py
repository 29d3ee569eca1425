"""Bounds of distances hold in single precision too, also between points whose outputs hardly differ."""

import pytest
import torch
from torch import Tensor

import geodesic
from geodesic.distances import Landmarks
from geodesic.distances.rounding import moved_by_rounding, surely_below
from geodesic.geometry.outputs import FisherRaoGaussian

A = torch.randn(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def far_away(z: Tensor) -> Tensor:
    """A plane far from the origin: distances are those of a linear map, outputs are much larger than they."""
    return z @ A.to(z).T + 50 + torch.zeros((), dtype=z.dtype)


def near_and_far() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(12, 2, generator=generator, dtype=torch.float64)
    near = z[:8] + 10 ** (-1 - 4 * torch.rand(8, 1, generator=generator)) * torch.randn(8, 2, generator=generator)
    return torch.cat([z, near]).float()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["exact", "straight", "graph", Landmarks(4)], ids=str)
def test_bounds_in_single_precision_hold_of_the_true_distances(method: object) -> None:
    z = near_and_far()
    truth = torch.cdist(z.double() @ A.T, z.double() @ A.T, compute_mode="donot_use_mm_for_euclid_dist")
    matrix = geodesic.distance_matrix(geodesic.PullbackManifold(far_away), z, method=method)
    assert matrix.lower.dtype == torch.float32
    assert bool((matrix.lower.double() <= truth).all())
    assert bool((matrix.upper.double() >= truth).all())
    far = truth > 1
    assert bool((matrix.lower.double()[far] > truth[far] * (1 - 1e-2)).all())


@pytest.mark.slow
def test_neighbors_in_single_precision_are_bounded_from_below() -> None:
    z = near_and_far()
    truth = torch.cdist(z.double() @ A.T, z.double() @ A.T, compute_mode="donot_use_mm_for_euclid_dist")
    found = geodesic.nearest(geodesic.PullbackManifold(far_away), z, None, 4)
    known = truth.gather(1, found.indices)
    assert bool((found.lower.double() <= known).all())
    assert bool((found.upper.double() >= known).all())


def test_what_rounding_takes_is_nothing_in_double_precision() -> None:
    z = near_and_far().double()
    manifold, start, end = geodesic.PullbackManifold(far_away), z[:8], z[12:]
    chord = manifold.lower_bound(start, end)
    torch.testing.assert_close(surely_below(manifold, start, end), chord, rtol=1e-7, atol=0)
    assert float(moved_by_rounding(start, end).max()) < 1e-9
    assert not bool(moved_by_rounding(start, start).any())


def test_a_geometry_without_embedding_knows_what_rounding_adds_as_well() -> None:
    z = near_and_far()

    def normal(z: Tensor) -> Tensor:
        return torch.stack([far_away(z), torch.zeros_like(far_away(z))], dim=1)

    manifold = geodesic.PullbackManifold(normal, FisherRaoGaussian())
    start, end = z[:8], z[12:]
    single = surely_below(manifold, start, end)
    exact = manifold.lower_bound(start.double(), end.double())
    assert bool((single.double() <= exact).all())
    assert float(single[exact.argmax()]) > 0
