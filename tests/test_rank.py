"""Metrics of deficient rank: geodesics on what the outputs see, and the rest said."""

import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic import LBFGS, GradientDescent, Newton, NewtonKrylov, Status
from geodesic.numerics.kernel import kernel, on_kernel, rank
from geodesic.solvers.solver import Solver
from tests.decoders import network, pairs

_START = torch.tensor([[-1.0, 0.2, 0.3], [0.5, -0.7, 2.0]], dtype=torch.float64)
_END = torch.tensor([[0.8, 1.0, 5.0], [1.0, 1.0, 2.0]], dtype=torch.float64)
_SOLVERS = [Newton(), NewtonKrylov(), LBFGS(), GradientDescent()]


def parabolas(z: Tensor) -> Tensor:
    """The product of two parabolas: a flat surface, whatever the third coordinate is."""
    return torch.stack([z[:, 0], z[:, 1], z[:, 0] ** 2, z[:, 1] ** 2], dim=1)


def between_parabolas(start: Tensor, end: Tensor) -> Tensor:
    """Distances there: hypotenuses of the arcs of the parabola."""
    arc = [t * (1 + 4 * t * t).sqrt() / 2 + (2 * t).asinh() / 4 for t in (start, end)]
    return (arc[1] - arc[0])[:, :2].norm(dim=1)


@pytest.mark.parametrize("solver", _SOLVERS, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_coordinate_without_effect_changes_no_length(solver: Solver, dtype: torch.dtype) -> None:
    start, end = _START.to(dtype), _END.to(dtype)
    solution = geodesic.solve(geodesic.PullbackManifold(parabolas), start, end, solver=solver)
    assert (solution.converged & solution.resolved & solution.minimum).all()
    torch.testing.assert_close(solution.length, between_parabolas(start, end), rtol=2e-5, atol=0)
    assert (solution.rank_deficiency == 1).all()
    assert "2 where the outputs ignore up to 1 of the latent directions" in solution.summary()


def test_the_coordinate_without_effect_goes_straight_on() -> None:
    path = geodesic.solve(geodesic.PullbackManifold(parabolas), _START, _END).path
    # Nodes move along it at the pace that the straight line's constant speed gave them, and keep their order.
    assert (path[0, :, 2].diff() > 0).all()
    assert (path[1, :, 2] == 2).all()


@pytest.mark.slow
def test_the_nodes_of_the_others_are_those_without_it() -> None:
    solution = geodesic.solve(geodesic.PullbackManifold(parabolas), _START, _END, tol=1e-12)
    plain = geodesic.solve(geodesic.PullbackManifold(parabolas), _START[:, :2], _END[:, :2], tol=1e-12)
    torch.testing.assert_close(solution.path[..., :2], plain.path, rtol=0, atol=1e-8)
    assert (plain.rank_deficiency == 0).all()


@pytest.mark.parametrize("solver", _SOLVERS[:3], ids=lambda solver: type(solver).__name__)
def test_dependent_coordinates_are_as_good_as_one(solver: Solver) -> None:
    net = network(activation=nn.Tanh)
    start, end = pairs(6, d=3)
    mix = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, -0.5]])
    solution = geodesic.solve(geodesic.PullbackManifold(lambda z: net(z @ mix / 3)), start, end, solver=solver)
    plain = geodesic.solve(geodesic.PullbackManifold(net), start @ mix / 3, end @ mix / 3)
    assert (solution.converged & solution.minimum).all()
    assert (solution.rank_deficiency == 1).all()
    torch.testing.assert_close(solution.length, plain.length, rtol=1e-5, atol=0)


def test_fibers_may_bend() -> None:
    manifold = geodesic.PullbackManifold(lambda z: parabolas(torch.stack([z[:, 0] + z[:, 2] ** 2 / 9, z[:, 1]], dim=1)))
    bent = [torch.stack([z[:, 0] + z[:, 2] ** 2 / 9, z[:, 1]], dim=1) for z in (_START, _END)]
    solution = geodesic.solve(manifold, _START, _END, segments=64)
    assert solution.converged.all()
    torch.testing.assert_close(solution.length, between_parabolas(*bent), rtol=1e-5, atol=0)


def test_units_that_are_dead_on_a_part_of_the_path_do_no_harm() -> None:
    # All points with z_1 below 1 have one output, from which the second one rises to 4.
    manifold = geodesic.PullbackManifold(lambda z: torch.stack([z[:, 1] * 0, (z[:, 0] - 1).relu() ** 2], dim=1))
    solution = geodesic.solve(manifold, torch.tensor([-1.0, 0.0]), torch.tensor([3.0, 1.0]), segments=64)
    assert solution.converged
    assert abs(float(solution.length) - 4) < float(solution.error * solution.length)
    assert solution.rank_deficiency >= 1


@pytest.mark.parametrize("solver", _SOLVERS, ids=lambda solver: type(solver).__name__)
def test_a_constant_decoder_has_length_zero_and_says_so(solver: Solver) -> None:
    solution = geodesic.solve(geodesic.PullbackManifold(lambda z: 0 * z + 1), _START, _END, solver=solver)
    assert solution.converged.all()
    assert (solution.length == 0).all()
    assert (solution.straight_length == 0).all()
    assert (solution.rank_deficiency == 3).all()
    assert "2 of length 0" in solution.summary()


def test_outputs_whose_squares_underflow_are_not_taken_for_constant() -> None:
    solution = geodesic.solve(geodesic.PullbackManifold(lambda z: 1e-200 * z), _START, _END)
    assert not solution.converged.any()


@pytest.mark.parametrize("solver", _SOLVERS, ids=lambda solver: type(solver).__name__)
def test_a_staircase_without_slope_is_a_jump_and_no_constant(solver: Solver) -> None:
    solution = geodesic.solve(geodesic.PullbackManifold(lambda z: (4 * z).round() + 0 * z), _START, _END, solver=solver)
    assert (solution.status == Status.JUMP).all()


def test_a_saddle_of_a_fold_stays_one() -> None:
    # Along the crest of a ridge the metric ignores z_2, and every step off it shortens the path.
    manifold = geodesic.PullbackManifold(
        lambda z: torch.stack([z[:, 0], (1 - z[:, 0] ** 2) * (1 - z[:, 1] ** 2)], dim=1)
    )
    solution = geodesic.solve(manifold, torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 0.0]))
    assert solution.converged
    assert not solution.minimum


def test_the_kernel_does_not_depend_on_units() -> None:
    J = torch.randn(20, 3) @ torch.randn(3, 5)
    for units in (torch.ones(5), torch.tensor([1e-8, 1.0, 1e6, 1e-3, 1e2])):
        G = (J * units).mT @ (J * units)
        scale, columns, ignored = kernel(G)
        assert int(rank(G)) == 3
        vectors = (columns / scale[:, None])[:, ignored]
        assert float((J * units @ vectors).norm()) < 1e-12 * float(J.norm())


def test_a_step_on_the_range_solves_the_system_with_the_least_norm() -> None:
    J = torch.randn(4, 6)
    J = J / J.norm(dim=0)  # coordinates are scaled alike, so that norms are those of the scaled ones
    G, g = J.mT @ J, J.mT @ torch.randn(4)
    y = torch.linalg.solve(G + on_kernel(G, G, 1e-8), g)
    torch.testing.assert_close(y, torch.linalg.pinv(G) @ g)


def test_the_lengths_that_no_inverse_is_needed_for_hold_too() -> None:
    exact = between_parabolas(_START, _END)
    manifold = geodesic.PullbackManifold(parabolas)
    torch.testing.assert_close(geodesic.distance(manifold, _START, _END), exact, rtol=2e-5, atol=0)
    path = geodesic.solve(manifold, _START, _END).path
    torch.testing.assert_close(geodesic.path_length(manifold, path), exact, rtol=2e-5, atol=0)


def without_the_third(z: Tensor) -> Tensor:
    return parabolas(torch.cat([z, torch.zeros_like(z[:, :1])], dim=1))


@pytest.mark.slow
def test_maps_are_those_without_the_coordinate_that_the_decoder_ignores() -> None:
    manifold, seen = (geodesic.PullbackManifold(decoder) for decoder in (parabolas, without_the_third))
    start, end = _START[0], _END[0]
    there = geodesic.log_map(manifold, start, end)
    plane = geodesic.log_map(seen, start[:2], end[:2], follow=geodesic.Follow(method="discrete"))
    assert there.converged
    assert there.method == "discrete"
    assert there.rank_deficiency == 1
    assert there.vector[2] == 0
    torch.testing.assert_close(there.vector[:2], plane.vector, rtol=1e-6, atol=1e-6)
    for follow in (geodesic.Follow(rtol=1e-3, segments=4), geodesic.Follow(method="discrete", segments=32)):
        back = geodesic.exp_map(manifold, start, there.vector + torch.tensor([0.0, 0.0, 3.0]), follow=follow)
        alone = geodesic.exp_map(seen, start[:2], there.vector[:2], follow=follow)
        assert back.converged
        assert back.rank_deficiency == 1
        torch.testing.assert_close(back.path[:, :2], alone.path, rtol=1e-6, atol=1e-6)
        assert (back.path[:, 2] == start[2]).all()


@pytest.mark.slow
def test_means_are_those_without_the_coordinate_that_the_decoder_ignores() -> None:
    manifold, seen = (geodesic.PullbackManifold(decoder) for decoder in (parabolas, without_the_third))
    points, search = torch.randn(3, 3) / 2, geodesic.Search(segments=8)
    mean, alone = (
        geodesic.frechet_mean(space, x, search=search) for space, x in ((manifold, points), (seen, points[:, :2]))
    )
    assert mean.converged
    torch.testing.assert_close(mean.point[:2], alone.point, rtol=0, atol=1e-5)
    torch.testing.assert_close(mean.variance, alone.variance, rtol=1e-6, atol=0)


def test_a_pole_of_coordinates_and_a_constant_are_no_ignored_directions() -> None:
    north, south = torch.zeros(2), torch.tensor([1.0, 0.0])
    with pytest.raises(geodesic.errors.SingularMetricError, match=r"z: the metric is singular at \(0, 0\)"):
        geodesic.exp_map(geodesic.surfaces.Sphere(), north, south)
    constant = geodesic.PullbackManifold(lambda z: 0 * z + 1)
    with pytest.raises(geodesic.errors.SingularMetricError, match=r"z: the metric is singular at \(0, 0\)"):
        geodesic.exp_map(constant, north, south)


@pytest.mark.slow
def test_what_needs_all_directions_names_the_point() -> None:
    manifold = geodesic.PullbackManifold(parabolas)
    with pytest.raises(geodesic.errors.SingularMetricError, match=r"singular at \(-1, 0.2, 0.3\)"):
        geodesic.log_map(manifold, _START, _END, follow=geodesic.Follow(method="ode"))
    with pytest.raises(geodesic.errors.SingularMetricError, match=r"singular at \(-1, 0.2, 0.3\)"):
        geodesic.riemannian_normal(manifold, _START, 0.1, 2)
    with pytest.raises(geodesic.errors.SingularMetricError, match=r"singular at \(-1, 0.2, 0.3\)"):
        geodesic.sectional_curvature(manifold, _START, _START, _END)


@pytest.mark.slow
def test_what_the_outputs_ignore_has_no_conjugate_point() -> None:
    manifold = geodesic.PullbackManifold(parabolas)
    answer = geodesic.is_minimizing(manifold, geodesic.solve(manifold, _START, _END))
    assert (answer.local_minimum & answer.minimizing).all()
    assert answer.conjugate_time.isinf().all()
