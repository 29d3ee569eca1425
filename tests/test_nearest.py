"""Nearest neighbors against all distances: what bounds decide is true, and points without outputs mislead nobody."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import geodesic
from geodesic import Search
from geodesic.distances import Graph, Landmarks, order
from geodesic.distances.order import stages
from geodesic.distances.surroundings import equal


def with_kinks(seed: int) -> geodesic.PullbackManifold:
    generator = torch.Generator().manual_seed(seed)
    A, b, B = (torch.randn(*n, generator=generator, dtype=torch.float64) for n in ((12, 2), (12,), (8, 12)))
    return geodesic.PullbackManifold(lambda z: (z @ A.T + b).relu() @ B.T)


@pytest.mark.slow
def test_what_is_not_open_belongs_to_the_nearest_beside_kinks() -> None:
    manifold, k = with_kinks(1), 3
    z = torch.randn(10, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    all_pairs = geodesic.distance_matrix(manifold, z)
    found = geodesic.nearest(manifold, z, None, k)
    lower, upper = all_pairs.lower, all_pairs.upper * (1 + 1e-3)
    for q in range(len(z)):
        for place, point in enumerate(found.indices[q].tolist()):
            surely_nearer = int((upper[q] < lower[q, point]).sum())
            assert found.open[q, place] or surely_nearer < k
            assert found.unordered[q, place] or surely_nearer <= place
    assert bool((found.upper >= lower.gather(1, found.indices)).all())
    assert bool((found.lower <= upper.gather(1, found.indices)).all())
    assert found.share_solved < 0.5


def test_all_points_can_be_neighbors_and_equal_ones_tie() -> None:
    roll = geodesic.surfaces.SwissRoll()
    z = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 0.0], [4.0, 1.0]], dtype=torch.float64)
    whole = geodesic.nearest(roll, z, None, 4)
    assert not bool(whole.open.any())
    assert whole.indices.sort(dim=1).values.tolist() == [[0, 1, 2, 3]] * 4
    assert whole.indices[:, 0].tolist() == [0, 1, 2, 3]
    one = geodesic.nearest(roll, z[:1].expand(5, 2), z[:2], 5)
    assert one.indices.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert bool((one.length[0] == 0).all())
    assert one.share_solved <= 1.0


@pytest.mark.slow
def test_copies_by_a_period_are_at_distance_zero() -> None:
    turn = 2 * torch.pi
    tube = geodesic.PullbackManifold(
        lambda z: torch.cat([z[:, :1].cos(), z[:, :1].sin(), z[:, 1:]], dim=1), period=(turn, None)
    )
    z = torch.tensor([[0.1, 0.0], [3.0, 1.0], [0.1 + turn, 0.0], [1.0, 1.0]], dtype=torch.float64)
    for method in ("exact", "straight", "graph", Landmarks(2)):
        assert float(geodesic.distance_matrix(tube, z, method=method).upper[0, 2]) < 1e-12
    found = geodesic.nearest(tube, z, z[:1], 2)
    assert found.indices.tolist() == [[0, 2]]
    assert float(found.upper.max()) < 1e-12


def test_a_point_without_outputs_is_nobodys_neighbor() -> None:
    # Not among the points that are looked at before the work: these are refused, or said, by every tool alike.
    half = geodesic.PullbackManifold(lambda z: torch.cat([z, z[:, :1].log()], dim=1))
    z = torch.rand(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    z[17, 0] = -1.0
    others = torch.arange(len(z)) != 17
    found = geodesic.nearest(half, z, None, 3)
    alone = geodesic.nearest(half, z[others], None, 3)
    assert not bool((found.indices[others] == 17).any())
    assert_close(found.length[others], alone.length)
    assert torch.equal(found.open[others], alone.open)
    assert found.length[17].tolist() == [0.0, torch.inf, torch.inf]
    assert found.open[17].tolist() == [False, True, True]
    matrix = geodesic.distance_matrix(half, z, method=Graph(sample=0))
    assert bool((matrix.lower[17] == 0).all())
    assert bool(matrix.upper[17, others].isinf().all() & matrix.length[17, others].isnan().all())
    assert bool(matrix.length[others][:, others].isfinite().all())


def test_a_jump_that_a_geodesic_meets_is_no_way_to_a_neighbor() -> None:
    step = geodesic.PullbackManifold(lambda z: torch.cat([z, z.square(), (z[:, :1] > 0).to(z)], dim=1))
    z = torch.tensor([[-0.5, 0.0], [-0.5, 1.0], [0.5, 0.0]], dtype=torch.float64)
    found = geodesic.nearest(step, z, z[:1], 3, search=Search(segments=16))
    across = found.indices == 2
    assert bool(found.solved[across].all())
    assert found.upper[across].tolist() == [torch.inf]
    assert bool(found.open[across].all())


@pytest.mark.parametrize("d", [1, 3])
def test_equal_points_are_found_however_they_are_written(d: int) -> None:
    x = torch.randn(9, d, generator=torch.Generator().manual_seed(d))
    y = torch.cat([x[[3, 3, 0]], x.flip(0) + 1e-3])
    x[4], y[5] = 0.0, -0.0
    assert torch.equal(equal(x, y), (x[:, None] == y).all(-1))


def test_pairs_begin_from_the_same_ones_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    x: Tensor = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    whole = stages(x)
    monkeypatch.setattr(order, "_AT_ONCE", 20)
    for one, other in zip(whole, stages(x), strict=True):
        assert torch.equal(one.near_first, other.near_first)
        assert torch.equal(one.near_second, other.near_second)
