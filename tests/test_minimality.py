"""Which geodesics are shortest paths, where that is known."""

import math

import pytest
import torch
from torch import Tensor

import geodesic
from geodesic import is_minimizing, solve
from geodesic.errors import GeodesicWarning


def hill(z: Tensor) -> Tensor:
    return torch.cat([z, 3 * (-z.square().sum(1, keepdim=True)).exp()], dim=1)


def around_the_equator(angle: float, segments: int = 32) -> tuple[geodesic.surfaces.Torus, geodesic.GeodesicSolution]:
    """The outer equator of a torus, a geodesic with conjugate points every pi sqrt(r (R + r))."""
    torus = geodesic.surfaces.Torus(major_radius=2.0, minor_radius=1.0)
    ends = torch.tensor([0.0, 0.0]), torch.tensor([0.0, angle])
    return torus, solve(torus, *ends, init=geodesic.straight_path(*ends, segments))


@pytest.mark.slow
@pytest.mark.parametrize(
    "follow", [geodesic.Follow(method="discrete"), geodesic.Follow(method="ode", rtol=1e-6)], ids=["discrete", "ode"]
)
def test_a_geodesic_is_minimizing_up_to_its_first_conjugate_point_only(follow: geodesic.Follow) -> None:
    conjugate = math.pi * math.sqrt(3.0) / 3  # as an angle: the equator has radius R + r = 3
    before, beyond = (around_the_equator(share * conjugate) for share in (0.9, 1.25))
    answer = is_minimizing(*before, follow=follow, starts=1)
    assert answer.minimizing
    assert answer.local_minimum
    assert answer.conjugate_time == math.inf
    answer = is_minimizing(*beyond, follow=follow, starts=1)
    assert beyond[1].converged
    assert not answer.minimizing
    assert not answer.local_minimum
    tolerance = 5e-3 if follow.method == "discrete" else 1e-5
    assert float(answer.conjugate_time) == pytest.approx(0.8, abs=tolerance)
    assert answer.gap < 0  # leaving the equator is shorter


@pytest.mark.slow
def test_the_discrete_conjugate_time_is_of_second_order_in_the_segments() -> None:
    conjugate = math.pi * math.sqrt(3.0) / 3
    errors = [
        abs(float(is_minimizing(*around_the_equator(1.25 * conjugate, T), starts=0).conjugate_time) - 0.8)
        for T in (16, 48)
    ]
    assert errors[1] < errors[0] / 6


@pytest.mark.parametrize("solver", ["auto", geodesic.LBFGS(), geodesic.NewtonKrylov()])
def test_beside_the_way_over_a_hill_paths_slide_down_though_little_seems_left(solver: geodesic.solvers.Solver) -> None:
    # Halfway between both ways round the top is a saddle point of the energy: near it a convex model sees next to no
    # gain, and the way round is 7 % shorter.
    manifold = geodesic.PullbackManifold(lambda z: torch.cat([z, (-2 * z.square().sum(1, keepdim=True)).exp()], dim=1))
    start, end = torch.tensor([[-1.0, 0.003], [-1.0, 0.01]]), torch.tensor([[1.0, 0.003], [1.0, 0.01]])
    loose, exact = (solve(manifold, start, end, solver=solver, tol=tol) for tol in (1e-3, 1e-9))
    assert bool(loose.converged.all() & loose.minimum.all())
    assert bool((loose.straight_length > 1.07 * exact.length).all())
    assert bool(((loose.length / exact.length - 1).abs() <= loose.error).all())


@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")  # as it should: paths are coarse here
@pytest.mark.slow
def test_over_a_hill_is_no_shortest_path_and_the_way_round_is_found() -> None:
    manifold = geodesic.PullbackManifold(hill)
    ends = torch.tensor([-1.5, 0.0]), torch.tensor([1.5, 0.0])
    over = solve(manifold, *ends, segments=16)
    answer = is_minimizing(manifold, over)
    assert over.converged
    assert not answer.minimizing
    assert answer.gap < -0.3
    assert answer.competitor_path[:, 1].abs().max() > 0.8
    round_it = solve(manifold, *ends, init=answer.competitor_path)
    assert is_minimizing(manifold, round_it).minimizing


@pytest.mark.slow
@pytest.mark.parametrize(
    "manifold", [geodesic.surfaces.Saddle(), geodesic.surfaces.HyperbolicPlane()], ids=["saddle", "half plane"]
)
def test_where_curvature_is_negative_every_geodesic_is_minimizing(manifold: geodesic.Manifold) -> None:
    a, b = torch.rand(2, 2, 2) + 0.5
    solution = solve(manifold, a, b, segments=16)
    for follow, starts in ((geodesic.Follow(method="discrete"), 2), (geodesic.Follow(method="ode", rtol=1e-5), 0)):
        answer = is_minimizing(manifold, solution, follow=follow, starts=starts)
        assert answer.minimizing.all()
        assert (answer.gap.abs() < 1e-4).all()  # all starts end in the only geodesic that there is
        assert answer.conjugate_time.isinf().all()


def test_a_path_that_is_no_geodesic_is_not_minimizing() -> None:
    torus, a, b = geodesic.surfaces.Torus(), torch.tensor([[0.5, 0.0]]), torch.tensor([[2.0, 1.5]])
    rough = solve(torus, a, b, solver=geodesic.GradientDescent(), max_steps=1, tol=1e-14, segments=8)
    assert not rough.converged
    with pytest.warns(GeodesicWarning, match="is_minimizing: of 1 geodesics 1 did not converge"):
        assert not is_minimizing(torus, rough, starts=0).minimizing


def test_equal_ends_are_minimizing() -> None:
    a = torch.tensor([[0.5, 0.0], [0.5, 0.0]])
    b = torch.tensor([[0.5, 0.0], [1.0, 0.5]])
    torus = geodesic.surfaces.Torus()
    answer = is_minimizing(torus, solve(torus, a, b, segments=8), starts=0)
    assert answer.minimizing.tolist() == [True, True]


@pytest.mark.slow
def test_batches_are_rows_and_latent_shapes_are_kept() -> None:
    flat = geodesic.PullbackManifold(hill)
    shaped = geodesic.PullbackManifold(lambda z: hill(z.flatten(1)), latent_shape=(2, 1))
    a, b = torch.randn(2, 3, 2)
    one = is_minimizing(flat, solve(flat, a, b, segments=8), starts=1)
    other = is_minimizing(shaped, solve(shaped, a[..., None], b[..., None], segments=8), starts=1)
    torch.testing.assert_close(one.competitor_length, other.competitor_length)
    assert other.competitor_path.shape == (3, 9, 2, 1)
    alone = is_minimizing(flat, solve(flat, a[1], b[1], segments=8), starts=1)
    assert alone.minimizing == one.minimizing[1]


def test_the_straight_line_is_compared_with_the_geodesic() -> None:
    a, b = torch.tensor([math.pi / 4, 0.0]), torch.tensor([math.pi / 4, 2.0])
    sphere = geodesic.surfaces.Sphere()
    assert float(geodesic.riemannian.length_ratio(sphere, a, b)) == pytest.approx(1.2745557823 / math.sqrt(2), rel=1e-6)
    assert geodesic.riemannian.length_ratio(sphere, a, a) == 1
    hasty = geodesic.Search(solver=geodesic.GradientDescent(), max_steps=1, tol=1e-14)
    with pytest.warns(GeodesicWarning, match="length_ratio: of 1 geodesics 1 did not converge"):
        lost = geodesic.riemannian.length_ratio(sphere, a, b, search=hasty)
    assert lost.isnan()


def test_settings_that_cannot_be_used_are_refused() -> None:
    torus, solution = around_the_equator(0.5)
    with pytest.raises(
        geodesic.errors.InputError, match="method: expected 'ode', 'discrete' or 'refraction', got 'eye'"
    ):
        is_minimizing(torus, solution, follow=geodesic.Follow(method="eye"))
    with pytest.raises(geodesic.errors.InputError, match=r"starts: expected an integer .* \(a number of bent lines\)"):
        is_minimizing(torus, solution, starts=-1)
