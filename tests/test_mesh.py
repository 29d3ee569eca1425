"""Where nodes go: as many as a length needs, where the outputs bend, and never to a curve longer than a known one."""

import math

import pytest
import scipy.interpolate
import torch
from torch import Tensor

import geodesic
from geodesic import LBFGS, GradientDescent, Newton, NewtonKrylov, Status
from geodesic.geometry.jumps import along
from geodesic.numerics.monotone import monotone_at
from geodesic.solvers.mesh import Mesh, bends, even, on_time, placed, turning
from geodesic.solvers.solve import at_equal_times
from tests.decoders import network, pairs


def ridge(z: Tensor) -> Tensor:
    """A plane with a steep ridge across: all of the bending is near z_1 = 0."""
    return torch.cat([z, torch.tanh(12 * z[:, :1]) + 0.3 * z[:, 1:]], dim=1)


RIDGE = geodesic.PullbackManifold(ridge)
START = torch.tensor([[-2.0, -1.0], [-2.0, 0.5]], dtype=torch.float64)
END = torch.tensor([[2.0, 1.0], [-1.5, 0.4]], dtype=torch.float64)


def folded() -> tuple[geodesic.Manifold, Tensor, Tensor]:
    """Two bumps that fold the plane along the line through their centers, and a pair of points beside a center."""
    torch.manual_seed(1)
    W = torch.randn(2, 5, dtype=torch.float32).double()
    centers = torch.tensor([[0.3, -0.4], [1.0, 1.0]])
    offset = torch.tensor([0.5, 0.3])
    manifold = geodesic.PullbackManifold(lambda z: torch.exp(-((z[:, None] - centers) ** 2).sum(-1)) @ W)
    return manifold, centers[0] - offset, centers[0] + offset


def test_monotone_interpolation_is_that_of_scipy_but_for_the_outer_slopes() -> None:
    x, y = torch.rand(3, 9).cumsum(1), torch.rand(3, 9).cumsum(1)
    at = torch.lerp(x[:, 1:2], x[:, -2:-1], torch.linspace(0, 1, 50))
    found = monotone_at(x, y, at)
    for row in range(3):
        expected = scipy.interpolate.PchipInterpolator(x[row].numpy(), y[row].numpy())(at[row].numpy())
        torch.testing.assert_close(found[row], torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


def test_monotone_interpolation_never_falls_also_across_plateaus() -> None:
    y = torch.tensor([[0.0, 0.0, 1.0, 1.0, 1.0, 5.0]])
    found = monotone_at(torch.arange(6.0)[None], y, torch.linspace(0, 5, 101)[None])
    assert (found.diff(dim=1) >= -1e-15).all()
    assert (found[0, :21] == 0).all()
    assert found.amax() == 5


def test_turning_is_the_angle_between_chords() -> None:
    path = torch.randn(4, 7, 2)
    manifold = geodesic.PullbackManifold(network())
    steps = manifold.embed(path).flatten(2).diff(dim=1)
    cosines = torch.nn.functional.cosine_similarity(steps[:, 1:], steps[:, :-1], dim=2)
    chords, found = turning(manifold, path)
    torch.testing.assert_close(chords, manifold.squared_chords(path))
    torch.testing.assert_close(found, 2 * (1 - cosines), rtol=1e-8, atol=1e-10)


def test_nodes_are_placed_at_times_that_are_shares_of_the_length() -> None:
    path = geodesic.straight_path(START[:1], END[:1], 32)

    def off(mesh: Mesh) -> float:
        chords = RIDGE.squared_chords(mesh.path).sqrt()
        return float((chords / chords.sum(1, keepdim=True) / mesh.times.diff(dim=1) - 1).abs().max())

    assert off(placed(RIDGE, path, 64)) < 0.1
    assert off(on_time(RIDGE, even(path))) < off(even(path)) / 2


def test_paths_that_bend_sharply_are_told_from_those_that_do_not() -> None:
    way = torch.linspace(0, 1, 33)
    plane = geodesic.PullbackManifold(lambda z: z)
    arc = torch.stack([(2 * way).cos(), (2 * way).sin()], dim=1)
    corner = torch.stack([(way - 0.5).abs(), way], dim=1)
    assert bends(plane, torch.stack([arc, corner]), 1e-3).tolist() == [False, True]
    assert not bends(plane, corner[None], 1e-1).any()


def test_nodes_are_placed_where_the_outputs_bend_and_keep_the_curve() -> None:
    path = geodesic.straight_path(START[:1], END[:1], 64)
    mesh = placed(RIDGE, path, 64)
    assert torch.equal(mesh.path[:, [0, -1]], path[:, [0, -1]])
    along = (mesh.path - START[:1, None]) / (END[:1, None] - START[:1, None])
    torch.testing.assert_close(along[..., 0], along[..., 1], rtol=0, atol=1e-12)  # still on the line
    near = (mesh.path[0, :, 0].abs() < 0.5).sum()
    assert near > 2 * (path[0, :, 0].abs() < 0.5).sum()
    assert (mesh.times.diff(dim=1) > 0).all()
    assert mesh.times[:, [0, -1]].tolist() == [[0.0, 1.0]]


def test_a_corner_gets_its_share_of_nodes_and_no_more_however_often_they_are_doubled() -> None:
    creased = geodesic.PullbackManifold(lambda z: torch.cat([z, 3 * z[:, :1].relu()], dim=1))
    path = geodesic.straight_path(START[:1], END[:1], 32)
    for segments in (64, 128, 256, 512, 1024):
        mesh = placed(creased, path, segments)
        path = mesh.path
    steps = mesh.times.diff(dim=1) * segments
    assert 1 / 20 < steps.amin() < 1 / 3
    assert steps.amax() < 3


def test_without_bends_nodes_are_spread_over_the_length() -> None:
    plane = geodesic.PullbackManifold(lambda z: z)
    t = torch.linspace(0, 1, 33)[:, None]
    mesh = placed(plane, (t + 0.1 * torch.sin(3 * t)).expand(33, 2)[None], 48)  # a line, at a speed that changes
    steps = mesh.path.diff(dim=1).norm(dim=2)
    torch.testing.assert_close(steps, steps.sum() * mesh.times.diff(dim=1), rtol=1e-3, atol=0)
    assert steps.amax() < 1.2 * steps.amin()


def test_a_path_that_stands_still_in_part_has_nodes_all_the_same() -> None:
    path = torch.tensor([[[0.0], [0.0], [1.0], [1.0], [2.0]]])
    mesh = placed(geodesic.PullbackManifold(lambda z: z), path, 8)
    assert mesh.path.isfinite().all()
    assert (mesh.times.diff(dim=1) > 0).all()


@pytest.mark.slow
def test_each_pair_gets_the_segments_that_its_length_needs() -> None:
    solution = geodesic.solve(RIDGE, START, END)
    assert solution.resolved.all()
    many, few = solution.segments.tolist()
    assert few == 32 < many
    assert solution.path.shape == (2, 33, 2)
    assert solution.mesh.shape == (2, many + 1, 2)
    assert torch.equal(solution.mesh[1, 32:], END[1:].expand(many - 31, 2))
    fine = geodesic.solve(RIDGE, START, END, segments=512, tol=1e-12)
    assert ((solution.length / fine.length - 1).abs() <= 3 * solution.error + 1e-12).all()
    assert not geodesic.solve(RIDGE, START, END, segments=32).resolved.all()


@pytest.mark.slow
def test_what_stalls_on_a_kink_goes_on_with_other_nodes() -> None:
    manifold = geodesic.PullbackManifold(network(activation=torch.nn.ReLU))
    start, end = (2 * z[[11, 21]] for z in pairs(40))
    coarse = geodesic.solve(manifold, start, end, segments=32)
    assert (coarse.status == Status.STALLED).all()
    solution = geodesic.solve(manifold, start, end)
    assert solution.resolved.any()  # rounding decides on which side of a kink a node comes to lie
    assert (solution.length <= (1 + coarse.error) * coarse.length).all()


@pytest.mark.slow
def test_the_path_has_its_points_at_equal_times_whatever_the_mesh() -> None:
    solution = geodesic.solve(RIDGE, START, END)
    arcs = along(RIDGE, geodesic.refine_path(solution.path, 512)).lengths.unflatten(1, (32, 16))
    shares = arcs.sum(2) / arcs.sum((1, 2))[:, None]
    torch.testing.assert_close(shares, torch.full_like(shares, 1 / 32), rtol=0.02, atol=0)
    torch.testing.assert_close(solution(torch.linspace(0, 1, 33)), solution.path, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "solver", [Newton(), NewtonKrylov(), LBFGS(), GradientDescent()], ids=lambda s: type(s).__name__
)
def test_all_solvers_resolve_in_both_precisions(solver: geodesic.solvers.Solver, dtype: torch.dtype) -> None:
    solution = geodesic.solve(RIDGE, START.to(dtype), END.to(dtype), solver=solver, tol=1e-4)
    assert solution.resolved.all()
    assert solution.mesh.dtype == solution.times.dtype == dtype
    exact = geodesic.solve(RIDGE, START, END, length_rtol=1e-6)
    assert ((solution.length / exact.length - 1).abs() < 2e-3).all()


@pytest.mark.slow
def test_a_pairs_answer_does_not_depend_on_its_batch() -> None:
    together = geodesic.solve(RIDGE, START, END)
    for i in range(2):
        alone = geodesic.solve(RIDGE, START[i], END[i])
        T = int(alone.segments)
        assert int(together.segments[i]) == T
        # Sums of matrix products are rounded differently, and the solver stops at its tolerance.
        torch.testing.assert_close(alone.mesh, together.mesh[i, : T + 1], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.path, together.path[i], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.length, together.length[i], rtol=1e-8, atol=0)


def test_a_fixed_number_of_segments_has_equal_times_and_its_nodes_are_the_path() -> None:
    solution = geodesic.solve(RIDGE, START, END, segments=16)
    assert torch.equal(solution.mesh, solution.path)
    assert torch.equal(solution.times, even(solution.path).times)
    assert solution.segments.tolist() == [16, 16]
    assert at_equal_times(RIDGE, solution) is solution


@pytest.mark.slow
def test_nodes_at_equal_times_are_found_from_any_others() -> None:
    solution = geodesic.solve(RIDGE, START, END)
    same = at_equal_times(RIDGE, solution)
    assert same.converged.all()
    assert torch.equal(same.mesh, same.path)
    assert same.path.shape == solution.mesh.shape
    assert (same.length / solution.length - 1).abs().amax() < 5e-3


@pytest.mark.slow
def test_the_energy_is_that_of_the_mesh_and_bounded_by_the_length() -> None:
    solution = geodesic.solve(RIDGE, START, END)
    chords = RIDGE.squared_chords(solution.mesh)
    steps = solution.times.diff(dim=1)
    energy = (chords / steps).nan_to_num(0.0).sum(1) / 2  # behind the last node nothing follows
    torch.testing.assert_close(solution.energy, energy, rtol=1e-10, atol=0)
    assert (2 * solution.energy <= solution.length**2 * (1 + 1e-6)).all()


@pytest.mark.slow
def test_a_smaller_error_takes_more_segments_and_holds() -> None:
    exact = geodesic.solve(RIDGE, START[:1], END[:1], segments=1024, tol=1e-14).length
    before = 0
    for rtol in (1e-2, 1e-4, 1e-6):
        solution = geodesic.solve(RIDGE, START[:1], END[:1], length_rtol=rtol)
        assert bool(solution.resolved)
        assert float(solution.error) <= rtol
        assert float((solution.length / exact - 1).abs()) <= 3 * rtol
        assert int(solution.segments) >= before
        before = int(solution.segments)
    assert before > 32


@pytest.mark.slow
def test_gradients_of_a_distance_are_those_of_the_geodesic_on_any_mesh() -> None:
    start = START.clone().requires_grad_()
    length = geodesic.distance(RIDGE, start, END)
    (slope,) = torch.autograd.grad(length.sum(), start)
    solution = geodesic.solve(RIDGE, START, END, length_rtol=1e-6)
    velocity = solution.velocity(0.0)
    first_variation = -(RIDGE.metric_tensor(START) @ velocity[..., None])[..., 0] / solution.length[:, None]
    torch.testing.assert_close(slope, first_variation, rtol=0, atol=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"segments": 8}, {"segments": 128}, {"length_rtol": 1e-2}])
def test_no_answer_is_longer_than_the_straight_line(settings: dict) -> None:
    manifold, a, b = folded()
    solution = geodesic.solve(manifold, a, b, **settings)
    assert float(solution.length) <= 0.9101
    assert int(solution.status) == Status.NOT_SHORTER
    assert not bool(solution.converged)
    assert not bool(solution.resolved)
    assert 'set init="best"' in solution.summary()


@pytest.mark.slow
def test_no_answer_is_longer_than_its_own_start() -> None:
    manifold, a, b = folded()
    best = geodesic.solve(manifold, a, b, init="best", segments=64)
    assert float(best.length) < 0.7
    again = geodesic.solve(manifold, a, b, init=best.path)
    assert float(again.length) <= float(geodesic.path_length(manifold, best.path)) * (1 + 1e-3)


def test_a_jump_makes_no_straight_line_shorter() -> None:
    # Through the center, where the decoder jumps from pole to pole, the straight line has no length at all.
    sphere = geodesic.PullbackManifold(lambda z: torch.nn.functional.normalize(z, dim=1))
    t = torch.linspace(0, torch.pi, 33)
    way = torch.stack([t.sin(), 0 * t, t.cos()], dim=1)
    way[0], way[-1] = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, -1.0])
    solution = geodesic.solve(sphere, way[0], way[-1], init=way)
    assert float(solution.length) == pytest.approx(math.pi, rel=1e-6)


@pytest.mark.slow
def test_nothing_is_certified_below_the_distance_of_its_ends() -> None:
    # A step so steep that no point at which speeds are taken lies on it.
    steep = geodesic.PullbackManifold(lambda z: torch.cat([z, torch.sigmoid(1e5 * (z[:, :1] - 0.8))], dim=1))
    start, end = torch.tensor([0.3, -0.4]), torch.tensor([1.3, 0.1])
    solution = geodesic.solve(steep, start, end, segments=32)
    assert float(solution.length) < float(solution.lower_bound)
    assert int(solution.status) == Status.NOT_RESOLVED
    assert not bool(solution.converged | solution.minimum | solution.resolved)
    assert not bool(geodesic.solve(steep, start, end).resolved)


def test_tools_that_work_with_the_nodes_refuse_to_refine_and_say_what_to_do() -> None:
    search = geodesic.Search(length_rtol=1e-4)
    with pytest.raises(
        geodesic.errors.InputError, match=r"a logarithm works with nodes at equal times.*raise segments"
    ):
        geodesic.log_map(RIDGE, START, END, search=search)


@pytest.mark.slow
def test_pairs_of_random_networks_are_resolved_and_their_errors_hold() -> None:
    manifold = geodesic.PullbackManifold(network())
    start, end = pairs(20)
    solution = geodesic.solve(manifold, 2 * start, 2 * end)
    assert solution.resolved.all()
    exact = geodesic.solve(manifold, 2 * start, 2 * end, init=geodesic.refine_path(solution.path, 256), tol=1e-12)
    off = (solution.length / exact.length - 1).abs()
    assert (off <= 3 * solution.error).all()
