"""Distances between many points: bounds that hold, whatever the method, and neighbors that nobody misses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import geodesic
from geodesic import Search, Status
from geodesic.distances import DistanceMatrix, Exact, Graph, Landmarks, Straight
from geodesic.distances.candidates import Queries
from geodesic.distances.exact import solve_all
from geodesic.distances.order import spread_first, stages
from geodesic.distances.quadrature import quadrature_error
from geodesic.distances.solved import Found, Solver
from geodesic.distances.surroundings import Surroundings
from geodesic.distances.told import Teller
from geodesic.distances.tolerance import has_kinks, precision
from geodesic.distances.work import Work
from geodesic.errors import DataError, GeodesicError, InputError

SPHERE = geodesic.surfaces.StereographicSphere()
ROLL = geodesic.surfaces.SwissRoll()
HILL = geodesic.PullbackManifold(lambda z: torch.cat([z, 3 * (-z.square().sum(1, True)).exp()], dim=1))
METHODS = ("exact", "straight", "graph", "landmarks")


def on_sphere(count: int, spread: float = 1.0) -> Tensor:
    return spread * torch.randn(count, 2, generator=torch.Generator().manual_seed(count), dtype=torch.float64)


def true_distances(z: Tensor, w: Tensor) -> Tensor:
    """By the angle between points of the unit sphere."""

    def lifted(z: Tensor) -> Tensor:
        r = z.square().sum(-1, keepdim=True)
        return torch.cat([2 * z, r - 1], dim=-1) / (r + 1)

    return torch.cdist(lifted(z), lifted(w)).div(2).clamp(-1, 1).asin().mul(2)


@pytest.fixture(scope="module")
def points() -> Tensor:
    return on_sphere(24, 0.4)


@pytest.fixture(scope="module")
def exact(points: Tensor) -> DistanceMatrix:
    return geodesic.distance_matrix(SPHERE, points)


def test_distances_on_the_sphere_are_angles(points: Tensor, exact: DistanceMatrix) -> None:
    truth = true_distances(points, points)
    assert_close(exact.length, truth, rtol=1e-3, atol=1e-12)
    assert bool(exact.resolved.all())
    assert bool((exact.lower <= truth + 1e-12).all())
    assert bool((exact.upper >= truth - 1e-12).all())


@pytest.mark.parametrize("method", METHODS)
def test_a_matrix_is_symmetric_with_zero_diagonal_and_its_bounds_hold(method: str, points: Tensor) -> None:
    some = points[:12]
    matrix = geodesic.distance_matrix(SPHERE, some, method=Landmarks(3) if method == "landmarks" else method)
    truth = true_distances(some, some)
    for x in (matrix.length, matrix.lower, matrix.upper, matrix.status, matrix.segments):
        assert torch.equal(x, x.T)
    assert not bool(matrix.length.diagonal().any() | matrix.upper.diagonal().any())
    assert bool((matrix.lower <= truth + 1e-12).all())
    assert bool((matrix.upper >= truth - 1e-12).all())
    assert bool((matrix.length >= truth * (1 - 1e-4)).all())
    assert matrix.method == method


@pytest.mark.parametrize("method", METHODS)
def test_distances_to_others_are_a_block_of_those_among_all(method: str, points: Tensor, exact: DistanceMatrix) -> None:
    block = geodesic.distance_matrix(
        SPHERE, points[:5], points[5:11], method=Landmarks(5) if method == "landmarks" else method
    )
    assert block.length.shape == (5, 6)
    assert not block.symmetric
    if method in ("exact", "landmarks"):
        assert_close(block.length, exact.length[:5, 5:11], rtol=1e-3, atol=0)
    assert bool((block.upper >= exact.length[:5, 5:11] * (1 - 1e-3)).all())
    assert_close(block.lower, exact.lower[:5, 5:11])


@pytest.mark.slow
def test_warm_starts_change_no_distance(points: Tensor) -> None:
    dense = torch.cat([points, points + 1e-2])
    cold, warm = (
        geodesic.distance_matrix(SPHERE, dense, method=Exact(warm=warm, mend=False)) for warm in (False, True)
    )
    assert_close(warm.length, cold.length, rtol=1e-3, atol=0)
    near = [stage for stage in stages(dense) if bool((stage.near_first >= 0).any())]
    assert near, "no pair began near another"


@pytest.mark.slow
def test_no_pair_begins_near_another_where_the_search_names_other_starts(points: Tensor) -> None:
    dense, search = torch.cat([points[:5], points[:5] + 1e-2]), Search(init="graph", graph_points=points)
    cold, warm = (
        geodesic.distance_matrix(SPHERE, dense, method=Exact(warm=warm, mend=False), search=search)
        for warm in (False, True)
    )
    assert torch.equal(warm.length, cold.length)


@pytest.mark.parametrize("sizes", [(40, None), (40, 3), (1, 70), (33, 50)])
def test_every_pair_comes_once_and_after_the_one_it_begins_from(sizes: tuple[int, int | None]) -> None:
    N, M = sizes
    x, y = torch.randn(N, 2), None if M is None else torch.randn(M, 2)
    seen: set[tuple[int, int]] = set()
    for stage in stages(x, y):
        rows = zip(*(t.tolist() for t in (stage.first, stage.second, stage.near_first, stage.near_second)), strict=True)
        new = set()
        for i, j, near_i, near_j in rows:
            assert (i, j) not in seen | new
            assert near_i < 0 or (y is None and {(near_i, near_j), (near_j, near_i)} & seen) or (near_i, near_j) in seen
            new.add((i, j))
        seen |= new
    pairs = {(min(p), max(p)) for p in seen} if y is None else seen
    assert len(pairs) == len(seen) == (N * (N - 1) // 2 if M is None else N * M)


def test_points_are_spread_before_they_are_dense() -> None:
    order, parent = spread_first(torch.tensor([[0.0], [0.4], [1.0], [3.0]]))
    assert order.tolist() == [2, 3, 0, 1]
    assert parent.tolist() == [2, 0, -1, 2]


@pytest.mark.slow
def test_a_way_by_a_third_point_mends_what_a_straight_start_misses() -> None:
    # Over the hill from straight starts; the third point lies on the way round.
    z = torch.tensor([[-1.6, 0.0], [1.6, 0.0], [0.0, 1.7], [-1.0, 1.3], [1.0, 1.3]], dtype=torch.float64)
    plain = geodesic.distance_matrix(HILL, z, method=Exact(mend=False))
    mended = geodesic.distance_matrix(HILL, z)
    best = geodesic.solve(HILL, z[0], z[1], init="best")
    assert plain.length[0, 1] > 1.01 * best.length
    assert_close(mended.length[0, 1], best.length, rtol=1e-3, atol=0)
    D = mended.length
    assert bool(((1 + 2e-3) * (D[:, :, None] + D[None]).amin(1) >= D).all())


@pytest.mark.slow
def test_no_distance_is_lost_to_a_geodesic_that_is_not_found() -> None:
    # Between the two ends a wall that the outputs jump over; round it lead the others.
    def decoder(z: Tensor) -> Tensor:
        return torch.cat([z, 5 * ((z[:, :1] > 0) & (z[:, 1:] < 1)).to(z)], dim=1)

    wall = geodesic.PullbackManifold(decoder)
    z = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [-1.0, 2.0], [-0.3, 2.5]], dtype=torch.float64)
    matrix = geodesic.distance_matrix(wall, z)
    assert matrix.status[0, 1] == Status.JUMP
    assert matrix.length[0, 1].isnan()
    assert matrix.upper[0, 1].isinf()
    hole = geodesic.PullbackManifold(lambda z: torch.cat([z, (z.square().sum(1, True) - 0.2).sqrt() * 1e-3], dim=1))
    z = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    for method in ("exact", Landmarks(3), Graph(straight=0, sample=3)):
        matrix = geodesic.distance_matrix(hole, z, method=method)
        assert bool((matrix.length[0, 1] <= 1.001 * 2 * 2**0.5) & (matrix.upper[0, 1] < 3)), method
        assert bool((matrix.lower <= matrix.length).all() & (matrix.length <= matrix.upper).all())


def test_a_longer_curve_never_takes_the_place_of_a_shorter_one(points: Tensor) -> None:
    work = Work(Solver(SPHERE, Search(tol=1e-3)), points[:3], None, Teller(None))
    i, j = torch.tensor([0]), torch.tensor([1])
    found = Found.of(SPHERE, geodesic.solve(SPHERE, points[:1], points[1:2]))
    work.offer(i, j, found)
    nothing = replace(found, length=found.length * torch.nan, upper=found.upper * torch.inf, status=i * 0 + Status.JUMP)
    for worse in (replace(found, length=2 * found.length, upper=3 * found.length), nothing):
        work.offer(i, j, worse)
        assert torch.equal(work.known.at(j, i).length, found.length)
        assert torch.equal(work.known.at(i, j).upper, found.upper)
        assert work.known.status[0, 1] == Status.CONVERGED
    work.shorten(i, j, 0.999 * found.length, found.length, Status.NOT_SHORTER)
    assert torch.equal(work.known.at(i, j).length, found.length), "by less than length_rtol"
    work.shorten(i, j, 0.99 * found.length, found.length, Status.NOT_SHORTER)
    assert_close(work.known.at(i, j).length, 0.99 * found.length)
    assert work.known.error[0, 1] == torch.inf


def test_upper_bounds_of_straight_lines_hold_on_circles_up_to_a_turn_between_nodes() -> None:
    circle = geodesic.PullbackManifold(lambda z: torch.cat([z.cos(), z.sin()], dim=1))
    turned = torch.linspace(0.1, 8, 80, dtype=torch.float64)[:, None] * 2 * torch.pi
    matrix = geodesic.distance_matrix(circle, torch.zeros_like(turned[:1]), turned, method=Straight(8))
    assert bool((matrix.upper >= turned.T * (1 - 1e-12)).all())  # half of that, by half as many segments
    assert bool((matrix.upper <= 1.05 * turned.T)[:, :10].all())


@pytest.mark.slow
def test_straight_lines_are_hardly_ever_longer_than_their_upper_bounds_beside_kinks() -> None:
    # In one latent dimension every line is the geodesic.
    generator = torch.Generator().manual_seed(0)
    A, b, B = (torch.randn(*n, generator=generator, dtype=torch.float64) for n in ((40, 1), (40,), (30, 40)))

    def decoder(z: Tensor) -> Tensor:
        return (z @ A.T + b).relu() @ B.T

    z = torch.randn(30, 1, generator=generator, dtype=torch.float64)
    fine = torch.linspace(0, 1, 4097, dtype=torch.float64)[:, None, None]
    i, j = torch.triu_indices(30, 30, 1)
    line = (z[i] + fine * (z[j] - z[i])).flatten(0, 1)
    truth = decoder(line).unflatten(0, (4097, -1)).diff(dim=0).norm(dim=2).sum(0)
    for segments in (8, 9, 32):
        matrix = geodesic.distance_matrix(geodesic.PullbackManifold(decoder), z, method=Straight(segments))
        missed = matrix.upper[i, j] < truth * (1 - 1e-6)
        assert float(missed.double().mean()) < 0.01  # one in twelve, by half as many segments
        assert bool((matrix.upper[i, j] > truth * (1 - 1e-3)).all())
        assert float((matrix.upper[i, j] / truth).median()) < 1.1


def test_a_graph_says_how_much_too_long_it_is(points: Tensor, exact: DistanceMatrix) -> None:
    graph = geodesic.distance_matrix(SPHERE, points, method=Graph(neighbors=3, straight=0, sample=40))
    assert graph.sample is not None
    ratio = (graph.length / exact.length)[graph.pairs]
    assert bool((ratio >= 1 - 2e-3).all())
    assert bool((graph.sample[:, 0] >= 1 - 2e-3).all())
    assert graph.sample[:, 0].amax() <= float(ratio.amax()) + 1.0
    assert len(graph.sample) == 40
    with_lines = geodesic.distance_matrix(SPHERE, points, method=Graph(neighbors=3, sample=0))
    assert with_lines.length.sum() < graph.length.sum()


@pytest.mark.slow
@pytest.mark.parametrize("others", [None, 40])
def test_a_few_straight_lines_a_point_lead_nearly_everywhere(others: int | None) -> None:
    flat, cloud = geodesic.PullbackManifold(lambda z: z), torch.rand(100, 2, dtype=torch.float64)
    z, to = cloud[:60], None if others is None else cloud[60 : 60 + others]
    methods = {lines: Graph(neighbors=2, lines=lines, sample=0) for lines in (16, 60)}
    few, all_ = (geodesic.distance_matrix(flat, z, to, method=method) for method in methods.values())
    truth = torch.cdist(z, z if to is None else to)
    i, j = few.pairs
    assert_close(all_.length, truth, rtol=1e-6, atol=1e-6)
    ratio = (few.length / truth)[i, j]
    assert bool((ratio > 1 - 1e-6).all())
    assert 1 + 1e-4 < float(ratio.mean()) < 1.05  # fewer lines, and ways that are not much longer


def test_landmarks_bound_from_above_and_estimate_from_below(points: Tensor, exact: DistanceMatrix) -> None:
    matrix = geodesic.distance_matrix(SPHERE, points, method=Landmarks(4))
    assert matrix.estimate is not None
    assert bool((matrix.upper >= exact.length * (1 - 1e-3)).all())
    assert bool((matrix.estimate <= exact.length * (1 + 1e-3) + 1e-3).all())  # distances that are exact obey it
    solved = matrix.status == Status.CONVERGED
    assert int((solved.sum(1) == len(points)).sum()) == 4
    assert_close(matrix.length[solved], exact.length[solved], rtol=1e-3, atol=0)


def test_quadrature_errors_bound_what_a_finer_rule_finds() -> None:
    kinked = geodesic.PullbackManifold(lambda z: torch.cat([z, (3 * z).relu(), (z - 0.3).abs()], dim=1))
    start = torch.linspace(-2, -1, 20, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.3])
    coarse = geodesic.solve(kinked, start, -start + 0.05, segments=8)
    off = quadrature_error(coarse)
    fine = geodesic.path_length(kinked, geodesic.refine_path(coarse.mesh, 256))
    assert bool(((fine / coarse.length - 1).abs() <= off).all())
    assert float(off.max()) < 0.1


@pytest.mark.slow
def test_taut_geodesics_of_a_decoder_with_kinks_are_resolved_by_default() -> None:
    generator = torch.Generator().manual_seed(0)
    A, b, B = (torch.randn(*n, generator=generator, dtype=torch.float64) for n in ((2, 24), (24,), (24, 8)))
    manifold = geodesic.PullbackManifold(lambda z: torch.sigmoid((z @ A + b).relu() @ B / 5))
    z = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    matrix = geodesic.distance_matrix(manifold, z, method=Exact(mend=False))
    solution = geodesic.solve(manifold, z[:1], z[1:2])
    assert bool(solution.polygon.all() & matrix.resolved.all())
    assert matrix.tol == solution.tol
    assert has_kinks(manifold, z)
    assert precision(manifold, Search(), z) == ("float64", "since the decoder has kinks")
    assert precision(HILL, Search(), z)[0] == "float32"
    assert precision(HILL, Search(length_rtol=1e-5), z)[0] == "float64"
    assert_close(matrix.length[:1, 1], solution.length, rtol=1e-3, atol=0)


def test_equal_points_take_no_work() -> None:
    calls = []

    def decoder(z: Tensor) -> Tensor:
        calls.append(len(z))
        return torch.cat([z, z.square()], dim=1)

    z = torch.ones(6, 2, dtype=torch.float64)
    matrix = geodesic.distance_matrix(geodesic.PullbackManifold(decoder), z)
    assert not bool(matrix.length.any())
    assert bool(matrix.resolved.all())
    assert sum(calls) < 200  # the look at the decoder


@pytest.mark.parametrize("itself", [True, False])
def test_nearest_neighbors_are_those_of_the_whole_matrix(itself: bool, points: Tensor, exact: DistanceMatrix) -> None:
    queries = None if itself else on_sphere(7, 0.4)
    found = geodesic.nearest(SPHERE, points, queries, 4)
    truth = true_distances(points if queries is None else queries, points)
    there = truth.gather(1, found.indices)
    assert bool((found.lower <= there + 1e-9).all() & (there <= found.upper + 1e-9).all())
    assert_close(found.length[found.solved], there[found.solved], rtol=1e-3, atol=1e-9)
    assert_close(there.sort(dim=1).values, truth.sort(dim=1).values[:, :4], rtol=2e-3, atol=1e-9)
    if itself:
        assert torch.equal(found.indices[:, 0], torch.arange(len(points)))
    assert found.share_solved < 0.5
    # What bounds decide is true.
    rank = truth.argsort(dim=1).argsort(dim=1).gather(1, found.indices)
    assert bool((rank < 4)[~found.open].all())
    assert bool((rank == torch.arange(4))[~found.unordered & ~found.open].all())
    assert bool((found.lower <= found.length).all() & (found.length <= found.upper).all())


def test_neighbors_are_solved_for_only_where_straight_lines_leave_them_open() -> None:
    line = torch.arange(10.0, dtype=torch.float64)[:, None]
    flat = geodesic.nearest(geodesic.PullbackManifold(lambda z: z), line, line[:1] + 0.1, 3)
    assert flat.indices.tolist() == [[0, 1, 2]]
    assert flat.share_solved == 0.0
    assert not bool((flat.open | flat.unordered | flat.solved).any())


@pytest.mark.parametrize(
    "outputs",
    [geodesic.outputs.Euclidean(), geodesic.outputs.FisherRaoGaussian()],
    ids=["Euclidean", "FisherRaoGaussian"],
)
def test_points_are_decoded_once_for_all_queries(outputs: object) -> None:
    calls: list[int] = []

    def decoder(z: Tensor) -> Tensor:
        calls.append(len(z))
        return torch.stack([z, torch.zeros_like(z)], dim=1)

    z = torch.arange(1000.0, dtype=torch.float64)[:, None]
    manifold = geodesic.PullbackManifold(decoder, outputs)
    work = Queries(Solver(manifold, Search()), z, z, 1, itself=True, teller=Teller(None))
    for query in torch.tensor([[5], [700]]):
        assert work.of(query)["indices"].tolist() == [query.tolist()]
    assert sum(rows >= len(z) for rows in calls) == 1
    assert sum(calls) < 2 * len(z)


def test_bounds_of_all_pairs_are_those_of_each() -> None:
    def normal(z: Tensor) -> Tensor:
        return torch.stack([z.sin(), z / 5], dim=1)

    z, rows = torch.randn(7, 3, dtype=torch.float64), torch.arange(7)
    for outputs in (geodesic.outputs.FisherRaoGaussian(), geodesic.outputs.Euclidean()):
        manifold = geodesic.PullbackManifold(normal, outputs)
        known = Surroundings(manifold, z[:5]).with_more(z[5:]).lower_bounds(rows[:4], rows)
        for i in rows[:4]:
            assert_close(known[i], manifold.lower_bound(z[i].expand_as(z), z), rtol=1e-9, atol=1e-9)


def test_without_lower_bounds_all_neighbors_are_open() -> None:
    plane = geodesic.surfaces.HyperbolicPlane()
    z = torch.rand(12, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    found = geodesic.nearest(plane, z, z[:2] + 0.01, 3)
    assert bool(found.open.all() & found.solved.all())
    truth = geodesic.distance_matrix(plane, z[:2] + 0.01, z).length
    assert_close(found.length, truth.sort(dim=1).values[:, :3], rtol=2e-3, atol=0)


def test_duplicates_of_a_query_come_first() -> None:
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    found = geodesic.nearest(ROLL, z, None, 2)
    assert found.indices.tolist() == [[0, 1], [1, 0], [2, 0]]
    assert found.length[:2].tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_an_interrupt_loses_the_fewer_pairs_the_more_each_of_them_takes() -> None:
    z = torch.randn(40, 2, dtype=torch.float64)
    sizes = []
    for width in (3, 1000, 300_000):
        A = torch.randn(2, width, dtype=torch.float64)
        sizes.append(Solver(geodesic.PullbackManifold(lambda z, A=A: (z @ A).tanh()), Search()).at_once(z))
    assert sizes[0] == 1024
    assert 1 < sizes[1] < 100
    assert sizes[2] == 1


class Interrupted:
    """Presses Ctrl-C after the first group of pairs."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, progress: geodesic.distances.DistanceProgress) -> None:
        self.done = progress.done
        raise KeyboardInterrupt


@pytest.mark.slow
def test_what_was_found_before_an_interrupt_is_not_found_again(
    tmp_path: Path, points: Tensor, exact: DistanceMatrix
) -> None:
    file, interrupted, told = tmp_path / "some.npz", Interrupted(), []
    with pytest.raises(KeyboardInterrupt):
        geodesic.distance_matrix(SPHERE, points, callback=interrupted, resume=file)
    again = geodesic.distance_matrix(SPHERE, points, callback=told.append, resume=file)
    assert interrupted.done >= 64
    assert told[0].done > interrupted.done
    assert told[-1].done == told[-1].pairs == 24 * 23 // 2
    assert_close(again.length, exact.length, rtol=1e-3, atol=0)
    assert "pairs" in str(told[0])
    assert "a second" in str(told[0])


def test_a_way_by_a_point_that_is_there_twice_is_no_way(points: Tensor) -> None:
    work = Work(Solver(SPHERE, Search(tol=1e-3)), torch.cat([points[:3], points[:1]]), None, Teller(None))
    solve_all(work, Exact(mend=False))
    work.known.length[0, 1] = work.known.length[1, 0] = 2 * work.known.length[0, 1]
    solve_all(work, Exact())
    assert_close(work.known.length[0, 1], work.known.length[3, 1])
    assert work.known.status[0, 1] == Status.NOT_SHORTER


@pytest.mark.slow
def test_a_matrix_that_was_interrupted_is_mended_like_one_that_was_not(tmp_path: Path) -> None:
    # Lengths of straight starts over the hill, in a file without curves: the way round it is found all the same.
    z = torch.tensor([[-1.6, 0.0], [1.6, 0.0], [0.0, 1.7], [-1.0, 1.3], [1.0, 1.3]], dtype=torch.float64)
    whole = geodesic.distance_matrix(HILL, z)
    with pytest.raises(KeyboardInterrupt):
        geodesic.distance_matrix(HILL, z, callback=Interrupted(), resume=tmp_path / "some.npz")
    before = np.load(tmp_path / "some.npz")["length"]
    again = geodesic.distance_matrix(HILL, z, resume=tmp_path / "some.npz")
    assert before[0, 1] > 1.01 * again.length[0, 1]
    assert_close(again.length, whole.length, rtol=1e-6, atol=0)
    assert torch.equal(again.status, whole.status)
    cold = geodesic.distance_matrix(HILL, z, method=Exact(warm=False))
    assert torch.equal(cold.status, whole.status)


def test_a_file_of_other_work_is_refused(tmp_path: Path, points: Tensor) -> None:
    file = tmp_path / "some.npz"
    geodesic.distance_matrix(SPHERE, points[:4], resume=file, method="straight")
    for manifold, z, more in (
        (SPHERE, points[1:5], {"method": "straight"}),
        (SPHERE, points[:4], {"method": "exact"}),
        (ROLL, points[:4], {"method": "straight"}),
    ):
        with pytest.raises(DataError, match="is of other"):
            geodesic.distance_matrix(manifold, z, resume=file, **more)
    np.savez(file, x=np.ones(2))
    with pytest.raises(DataError, match="no file of `resume=`"):
        geodesic.distance_matrix(SPHERE, points[:4], resume=file)


def test_a_file_knows_how_geodesics_were_looked_for(tmp_path: Path, points: Tensor) -> None:
    file, some = tmp_path / "new" / "some.npz", points[:4]
    graph = Graph(graph_points=points[4:8], straight=0, sample=2)
    geodesic.distance_matrix(SPHERE, some, resume=file, method=graph)
    for z, method, search in (
        (some, replace(graph, graph_points=points[5:9]), Search()),
        (some, graph, Search(init="best")),
        (some, graph, Search(segments=16)),
        (some.float(), graph, Search(tol=1e-3)),
    ):
        with pytest.raises(DataError, match="is of other"):
            geodesic.distance_matrix(SPHERE, z, resume=file, method=method, search=search)


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, points: Tensor) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"resume: .*cannot be written"):
        geodesic.distance_matrix(SPHERE, points[:4], resume=tmp_path / "file" / "some.npz")


@pytest.mark.parametrize("method", [Graph(neighbors=3, straight=0, sample=12), Landmarks(3)], ids=str)
def test_what_a_cheap_method_has_solved_is_kept_too(tmp_path: Path, points: Tensor, method: object) -> None:
    file, some, told = tmp_path / "some.npz", points[:14], []
    whole = geodesic.distance_matrix(SPHERE, some, method=method)
    with pytest.raises(KeyboardInterrupt):
        geodesic.distance_matrix(SPHERE, some, method=method, callback=Interrupted(), resume=file)
    again = geodesic.distance_matrix(SPHERE, some, method=method, resume=file)
    once_more = geodesic.distance_matrix(SPHERE, some, method=method, callback=told.append, resume=file)
    assert not told, "what was solved for is solved for again"
    for matrix in (again, once_more):
        assert_close(matrix.length, whole.length, rtol=1e-3, atol=0)
        if whole.sample is not None:
            assert_close(matrix.sample, whole.sample, rtol=1e-3, atol=1e-3)


def test_a_matrix_is_what_was_saved(tmp_path: Path, exact: DistanceMatrix) -> None:
    exact.save(tmp_path / "distances.npz")
    again = DistanceMatrix.load(tmp_path / "distances.npz")
    assert torch.equal(again.length, exact.length)
    assert again.summary() == exact.summary()
    with pytest.raises(DataError, match="lacks status"):
        DistanceMatrix.from_arrays({k: x for k, x in exact.arrays().items() if k != "status"})
    with pytest.raises(DataError, match="one shape"):
        DistanceMatrix.from_arrays(exact.arrays() | {"upper": np.ones((2, 2))})
    skewed, apart = exact.length.clone(), exact.length.clone()
    skewed[0, 2] *= 2
    apart[1, 1] = exact.length.max()
    for length, match in ((skewed, r".* symmetric matrix, got .* at \[0, 2\]"), (apart, r".* zero .* at \[1, 1\]")):
        with pytest.raises(InputError, match=f"length: {match}"):
            replace(exact, length=length)
        with pytest.raises(DataError, match=match):
            DistanceMatrix.from_arrays(exact.arrays() | {"length": length.numpy()})
    assert replace(exact, length=skewed, symmetric=False).length is skewed  # from points to others
    broken = replace(exact, status=torch.full_like(exact.status, Status.STALLED))
    assert "stalled: steps no longer" in broken.summary()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_all_is_computed_in_the_dtype_of_the_points(dtype: torch.dtype, points: Tensor) -> None:
    seen = set()

    def decoder(z: Tensor) -> Tensor:
        seen.add(z.dtype)
        return torch.cat([z, z.sin()], dim=1)

    manifold, z = geodesic.PullbackManifold(decoder), points[:4].to(dtype)
    found = geodesic.nearest(manifold, z, None, 2)
    for method in METHODS:
        matrix = geodesic.distance_matrix(manifold, z, method=Landmarks(2) if method == "landmarks" else method)
        assert {matrix.length.dtype, matrix.lower.dtype, matrix.upper.dtype, found.length.dtype} == {dtype}
    assert seen == {dtype}


def test_arrays_are_answered_in_arrays() -> None:
    z = np.array([[1.0, 0.0], [1.2, 0.1], [6.0, 0.0]])
    matrix = geodesic.distance_matrix(ROLL, z)
    assert isinstance(matrix.length, np.ndarray)
    assert isinstance(matrix.resolved, np.ndarray)
    assert isinstance(geodesic.nearest(ROLL, z, z, 2).indices, np.ndarray)


def test_latent_images_and_periods() -> None:
    images = geodesic.PullbackManifold(lambda z: z.flatten(1).tanh(), latent_shape=(1, 2, 2))
    z = torch.randn(4, 1, 2, 2, dtype=torch.float64)
    assert geodesic.distance_matrix(images, z).length.shape == (4, 4)
    assert geodesic.nearest(images, z, z[:2], 2).indices.tolist()[0][0] == 0
    circle = geodesic.PullbackManifold(lambda z: torch.cat([z.cos(), z.sin()], dim=1), period=(2 * torch.pi,))
    angle = torch.tensor([[0.1], [6.2], [3.0]], dtype=torch.float64)
    for method in ("exact", "straight", "graph"):
        D = geodesic.distance_matrix(circle, angle, method=method).length
        assert_close(D[0, 1], torch.tensor(2 * torch.pi - 6.1, dtype=torch.float64), rtol=1e-3, atol=0)
    assert geodesic.nearest(circle, angle, angle[:1], 2).indices.tolist() == [[0, 1]]


INDEPENDENT = geodesic.IndependentEnsembleManifold([lambda z: z, lambda z: 2 * z])
Z = torch.rand(4, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ROLL, Z[:0]), "at least one"),
        ((ROLL, Z[:1]), "at least two"),
        ((ROLL, Z[0]), r"points: expected points, \(N, d\)"),
        ((ROLL, Z, Z[:0]), "others: expected points"),
        ((ROLL, Z, Z.float()), "others"),
        ((ROLL, Z.clone().fill_(torch.nan)), "points: .*finite"),
        ((INDEPENDENT, Z), "has no distance"),
        ((ROLL, Z, None, {"method": "fast"}), "method: expected one of 'exact'"),
        ((ROLL, Z, None, {"method": Landmarks(9)}), "count: .*from 1 to 4"),
        ((ROLL, Z, None, {"search": Search(init=Z)}), "paths"),
        ((ROLL, Z, None, {"tol": 1e-3}), r"search=Search\(tol=...\)"),
        (("roll", Z), "manifold: expected a Manifold"),
    ],
)
def test_bad_input_is_named(arguments: tuple, message: str) -> None:
    *given, more = arguments if isinstance(arguments[-1], dict) else (*arguments, {})
    with pytest.raises(GeodesicError, match=message):
        geodesic.distance_matrix(*given, **more)


def test_bad_neighbors_are_named() -> None:
    with pytest.raises(InputError, match=r"k: .*from 1 to 4.*number of points"):
        geodesic.nearest(ROLL, Z, Z, 5)
    with pytest.raises(InputError, match="queries"):
        geodesic.nearest(ROLL, Z, Z[0], 1)
    for record, arguments in ((Straight, {"segments": 2}), (Graph, {"neighbors": 0}), (Graph, {"straight": 2})):
        with pytest.raises(InputError):
            record(**arguments)
