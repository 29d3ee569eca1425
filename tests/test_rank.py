"""Metrics of deficient rank: geodesics on what the outputs see, and the rest said."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic import LBFGS, GradientDescent, Newton, NewtonKrylov, Status
from geodesic.errors import DecoderError
from geodesic.numerics.kernel import frames, independent, kernel, on_kernel, rank
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
    torch.testing.assert_close(path[1, :, 2], torch.full_like(path[1, :, 2], 2), rtol=0, atol=1e-12)


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


@pytest.mark.slow
def test_units_that_are_dead_on_a_part_of_the_path_do_no_harm() -> None:
    # All points with z_1 below 1 have one output, from which the second one rises to 4.
    manifold = geodesic.PullbackManifold(lambda z: torch.stack([z[:, 1] * 0, (z[:, 0] - 1).relu() ** 2], dim=1))
    solution = geodesic.solve(manifold, torch.tensor([-1.0, 0.0]), torch.tensor([3.0, 1.0]))
    assert solution.converged
    assert abs(float(solution.length) - 4) <= max(float(solution.error * solution.length), 1e-6)
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
    with pytest.raises(DecoderError, match=r"differ by .*e-200 .* leave the range of torch.float64"):
        geodesic.solve(geodesic.PullbackManifold(lambda z: 1e-200 * z), _START, _END)


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


def test_what_needs_all_directions_names_the_point() -> None:
    manifold = geodesic.PullbackManifold(parabolas)
    with pytest.raises(geodesic.errors.SingularMetricError, match=r"singular at \(-1, 0.2, 0.3\)"):
        geodesic.log_map(manifold, _START, _END, follow=geodesic.Follow(method="ode"))
    u = torch.tensor([[1.0, 0.0, 0.0], [1.0, 2.0, 0.0]])
    with pytest.raises(geodesic.errors.InputError, match=r"at \[0\], u = .*the decoder ignores a direction of theirs"):
        geodesic.sectional_curvature(manifold, _START, u, torch.tensor([[1.0, 0.0, 3.0], [0.0, 1.0, 0.0]]))


# A surface in a space of six outputs, with three latent coordinates: the third one ignored, or all three dependent.
_NET = network(activation=nn.Tanh, outputs=6)
_MIX = torch.tensor([[1.0, 0.3], [0.2, 1.0], [0.9, -0.5]], dtype=torch.float64) / 2


def _bent(z: Tensor) -> Tensor:
    bent = [z[:, 0] + z[:, 2] ** 2 / 4 + 0.3 * z[:, 2], z[:, 1] + z[:, 0] * z[:, 2] / 2]
    return torch.stack(bent, dim=1)


_FIBERS = {"ignored": lambda z: z[:, :2], "dependent": lambda z: z @ _MIX.to(z), "bent": _bent}


class Fibers:
    """A manifold of deficient rank, the same without the directions that it ignores, and the map between the two."""

    def __init__(self, name: str) -> None:
        self.to = _FIBERS[name]
        self.manifold = geodesic.PullbackManifold(lambda z: _NET(self.to(z)))
        self.seen = geodesic.PullbackManifold(_NET)

    def push(self, z: Tensor, v: Tensor) -> Tensor:
        """What is seen of vectors v at points z."""
        rows, vectors = (x.reshape(-1, 3) for x in (z, v))
        return torch.func.jvp(self.to, (rows,), (vectors,))[1].reshape(*v.shape[:-1], 2)


@pytest.fixture(params=_FIBERS)
def fibers(request: pytest.FixtureRequest) -> Fibers:
    return Fibers(request.param)


_Z = torch.tensor([[0.3, -0.4, 0.2], [0.5, 0.1, -1.0]], dtype=torch.float64)
_U = torch.tensor([[0.9, 0.3, 1.0], [-0.2, 0.4, 0.5]], dtype=torch.float64)
_V = torch.tensor([[0.5, 0.2, 0.3], [-0.1, 0.4, 0.7]], dtype=torch.float64)


@pytest.mark.parametrize("transport", ["connection", "projection"])
def test_vectors_are_carried_as_what_is_seen_of_them(fibers: Fibers, transport: str) -> None:
    path = geodesic.straight_path(_Z, _U, 64)
    there = geodesic.parallel_transport(fibers.manifold, path, _V, transport=transport)
    seen = fibers.to(path.reshape(-1, 3)).reshape(2, 65, 2)
    alone = geodesic.parallel_transport(fibers.seen, seen, fibers.push(_Z, _V), transport=transport)
    assert there.converged.all()
    assert (there.rank_deficiency == 1).all()
    torch.testing.assert_close(fibers.push(path, there.vectors), alone.vectors, rtol=0, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "transport"), [("ignored", "pole_ladder"), ("dependent", "schild_ladder")])
def test_ladders_climb_as_without_the_directions_that_the_decoder_ignores(name: str, transport: str) -> None:
    fibers, path = Fibers(name), geodesic.straight_path(_Z[:1], _U[:1], 2)
    there = geodesic.parallel_transport(fibers.manifold, path, _V[:1], transport=transport)
    seen = fibers.to(path[0])[None]
    alone = geodesic.parallel_transport(fibers.seen, seen, fibers.push(_Z[:1], _V[:1]), transport=transport)
    torch.testing.assert_close(fibers.push(path, there.vectors), alone.vectors, rtol=0, atol=1e-7)
    assert torch.equal(there.status, alone.status)


@pytest.mark.slow
def test_curvature_is_that_of_what_is_seen(fibers: Fibers) -> None:
    at, u, v = fibers.to(_Z), fibers.push(_Z, _U), fibers.push(_Z, _V)
    near = {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(
        geodesic.sectional_curvature(fibers.manifold, _Z, _U, _V),
        geodesic.sectional_curvature(fibers.seen, at, u, v),
        **near,
    )
    scalar = geodesic.riemannian.scalar_curvature
    torch.testing.assert_close(scalar(fibers.manifold, _Z), scalar(fibers.seen, at), **near)
    units = torch.eye(3).expand(2, 3, 3)
    J = fibers.push(_Z[:, None].expand(2, 3, 3), units).mT  # from latent directions to those that are seen
    ricci = geodesic.riemannian.ricci_tensor
    torch.testing.assert_close(ricci(fibers.manifold, _Z), J.mT @ ricci(fibers.seen, at) @ J, **near)
    riemann = geodesic.riemannian.riemann_tensor
    pulled = torch.einsum("nabcd,nai,nbj,nck,ndl->nijkl", riemann(fibers.seen, at), J, J, J, J)
    torch.testing.assert_close(riemann(fibers.manifold, _Z), pulled, **near)


@pytest.mark.slow
def test_jacobi_fields_are_those_of_what_is_seen(fibers: Fibers) -> None:
    follow = geodesic.Follow(rtol=1e-6, segments=1)
    there = geodesic.jacobi_field(fibers.manifold, _Z, _V, _U, _V, follow=follow)
    u, v = fibers.push(_Z, _U), fibers.push(_Z, _V)
    alone = geodesic.jacobi_field(fibers.seen, fibers.to(_Z), v, u, v, follow=follow)
    assert there.converged.all()
    assert (there.rank_deficiency == 1).all()
    end = there.path[:, -1]
    torch.testing.assert_close(fibers.to(end), alone.path[:, -1], rtol=0, atol=1e-6)
    torch.testing.assert_close(fibers.push(end, there.field[:, -1]), alone.field[:, -1], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_conjugate_points_are_those_of_what_is_seen() -> None:
    def globe(z: Tensor) -> Tensor:
        theta, phi = (z @ _MIX.to(z)).unbind(1)
        return torch.stack([theta.cos() * phi.cos(), theta.cos() * phi.sin(), theta.sin()], dim=1)

    unseen = torch.linalg.svd(_MIX).U[:, 2]
    east = torch.linalg.lstsq(_MIX.mT, torch.tensor([0.0, 4.0])).solution + unseen
    v, follow = torch.stack([east, east / 2]), geodesic.Follow(rtol=1e-6, segments=8)
    answer = geodesic.conjugate_points(geodesic.PullbackManifold(globe), torch.zeros(2, 3), v, follow=follow)
    assert answer.converged.all()
    assert float(answer.time[0]) == pytest.approx(torch.pi / 4, abs=1e-5)
    assert answer.time[1] == torch.inf
    assert (answer.rank_deficiency == 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ignored", "dependent"])
def test_statistics_are_those_of_what_is_seen(name: str) -> None:
    fibers, search = Fibers(name), geodesic.Search(segments=8)
    x, points = torch.linspace(0, 1, 4), torch.randn(4, 3) / 3
    seen = fibers.to(points)
    found, alone = (
        geodesic.principal_geodesic_analysis(space, y, search=search)
        for space, y in ((fibers.manifold, points), (fibers.seen, seen))
    )
    assert found.converged
    assert found.rank_deficiency == 1
    torch.testing.assert_close(found.variances, torch.cat([alone.variances, torch.zeros(1)]), rtol=1e-5, atol=1e-9)
    assert (found.directions[2] == 0).all()
    torch.testing.assert_close(found.scores[:, :2].abs(), alone.scores.abs(), rtol=0, atol=1e-5)
    fit, plain = (
        geodesic.geodesic_regression(space, x, y, search=search)
        for space, y in ((fibers.manifold, points), (fibers.seen, seen))
    )
    assert fit.converged
    assert fit.rank_deficiency == 1
    torch.testing.assert_close(fibers.to(fit.predictions), plain.predictions, rtol=0, atol=1e-5)
    torch.testing.assert_close(fit.r_squared, plain.r_squared, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_clusters_are_those_of_what_is_seen() -> None:
    fibers, search = Fibers("dependent"), geodesic.Search(segments=8)
    points = torch.randn(5, 3) / 2
    found, alone = (
        geodesic.k_means(space, y, 2, initial_points=y[:2], search=search)
        for space, y in ((fibers.manifold, points), (fibers.seen, fibers.to(points)))
    )
    assert found.converged
    assert torch.equal(found.labels, alone.labels)
    torch.testing.assert_close(fibers.to(found.centers), alone.centers, rtol=0, atol=1e-5)
    assert "1 where the decoder ignores up to 1 of the latent directions" in found.summary()


@pytest.mark.slow
def test_samples_are_those_of_what_is_seen() -> None:
    # The parabolas are flat: squared distances over s^2 have mean 2, the number of directions that are seen.
    manifold, mean = geodesic.PullbackManifold(parabolas), torch.tensor([0.2, -0.3, 1.0])
    follow = geodesic.Follow(segments=4)
    samples = geodesic.riemannian_normal(manifold, mean, 0.2, 400, burn_in=2, follow=follow)
    assert samples.converged.all()
    assert (samples.points[:, 2] == 1).all()
    squared = between_parabolas(mean.expand(400, 3), samples.points).square() / 0.2**2
    assert abs(float(squared.mean()) - 2) < 4 * 2 / 400**0.5
    walks = geodesic.random_walk(manifold, mean, time=0.04, steps=4, count=400)
    assert walks.converged.all()
    assert (walks.point[:, 2] == 1).all()
    squared = between_parabolas(mean.expand(400, 3), walks.point).square() / 0.04
    assert abs(float(squared.mean()) - 2) < 4 * 2 / 400**0.5


@pytest.mark.parametrize(
    "tool",
    [
        lambda m: geodesic.parallel_transport(m, geodesic.straight_path(_Z, _U, 4), _V),
        lambda m: geodesic.parallel_transport(m, geodesic.straight_path(_Z, _U, 4), _V, transport="pole_ladder"),
        lambda m: geodesic.parallel_transport(m, geodesic.straight_path(_Z, _U, 4), _V, transport="projection"),
        lambda m: geodesic.shoot(m, _Z, _V),
        lambda m: geodesic.analogy(m, _Z, _U, _V),
        lambda m: geodesic.sectional_curvature(m, _Z, _U, _V),
        lambda m: geodesic.riemannian.scalar_curvature(m, _Z),
        lambda m: geodesic.christoffel_symbols(m, _Z),
        lambda m: geodesic.jacobi_field(m, _Z, _V, _U, _V),
        lambda m: geodesic.conjugate_points(m, _Z, _V),
        lambda m: geodesic.frechet_mean(m, _Z),
        lambda m: geodesic.frechet_median(m, _Z),
        lambda m: geodesic.k_means(m, _Z, 1, initial_points=_Z[:1]),
        lambda m: geodesic.principal_geodesic_analysis(m, _Z, mean=_Z[0]),
        lambda m: geodesic.geodesic_regression(m, torch.arange(2.0), _Z),
        lambda m: geodesic.riemannian_normal(m, _Z, 0.1, 2),
        lambda m: geodesic.random_walk(m, _Z, 0.1, 2),
    ],
)
def test_a_constant_decoder_has_no_direction_and_the_point_is_named(
    tool: Callable[[geodesic.Manifold], object],
) -> None:
    with pytest.raises(geodesic.errors.SingularMetricError, match="the metric is singular at"):
        tool(geodesic.PullbackManifold(lambda z: 0 * z + 1))


def test_a_distance_of_zero_has_no_slope() -> None:
    start = _START.clone().requires_grad_()
    distance = geodesic.distance(geodesic.PullbackManifold(lambda z: 0 * z + 1), start, _END)
    distance.sum().backward()
    assert (distance == 0).all()
    assert (start.grad == 0).all()


def test_volumes_of_ignored_directions_are_zero() -> None:
    manifold = geodesic.PullbackManifold(parabolas)
    assert (geodesic.magnification_factor(manifold, _START) == 0).all()
    assert (geodesic.riemannian.log_volume(manifold, _START) == -torch.inf).all()


def test_frames_are_orthonormal_on_the_range() -> None:
    J = torch.randn(20, 3) @ torch.randn(3, 5)
    G = J.mT @ J
    E, F = frames(G)
    torch.testing.assert_close(E.mT @ E, G)
    torch.testing.assert_close(F.mT @ G @ F, torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])))
    assert int(independent(G).sum()) == int(rank(G[independent(G)][:, independent(G)])) == 3


@pytest.mark.slow
def test_what_the_outputs_ignore_has_no_conjugate_point() -> None:
    manifold = geodesic.PullbackManifold(parabolas)
    answer = geodesic.is_minimizing(manifold, geodesic.solve(manifold, _START, _END))
    assert (answer.local_minimum & answer.minimizing).all()
    assert answer.conjugate_time.isinf().all()


@pytest.mark.slow
def test_a_logarithm_by_the_equation_has_a_bound_on_all_its_shots() -> None:
    # Second derivatives of ELU jump at every step or so of the integration: each shot alone takes hundreds.
    net, passes = network(), 0

    def counted(z: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        return net(z)

    manifold, (start, end) = geodesic.PullbackManifold(counted), pairs(1)
    solution = geodesic.solve(manifold, start, end)
    passes = 0
    answer = geodesic.log_map(
        manifold, start, end, solution=solution, follow=geodesic.Follow(method="ode", max_iterations=12)
    )
    assert answer.status == Status.MAX_ITERATIONS
    assert passes < 12 * 100
    discrete = geodesic.log_map(manifold, start, end, solution=solution, follow=geodesic.Follow(method="discrete"))
    assert torch.equal(answer.vector, discrete.vector)
