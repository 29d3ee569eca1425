"""Geodesic regression: least squares where space is flat, geodesics found again where it is not."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import geodesic
from geodesic import Follow, Manifold, Search, Stop, geodesic_regression
from geodesic.errors import InputError
from geodesic.riemannian.maps.neighbors import exp_with_neighbors, varied
from geodesic.riemannian.maps.stride import Stride


def network() -> geodesic.PullbackManifold:
    torch.manual_seed(1)
    return geodesic.PullbackManifold(nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4)).eval())


SPACES = {
    "sphere": lambda: geodesic.surfaces.StereographicSphere(),
    "hyperbolic plane": lambda: geodesic.surfaces.HyperbolicPlane(),
    "network": network,
}
P, V, X = torch.tensor([0.3, 1.1]), torch.tensor([0.3, -0.2]), torch.linspace(-1, 1, 6)


def on_a_geodesic(manifold: Manifold, method: str = "discrete", segments: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    p, v, x = P.double(), V.double(), X.double()
    there = geodesic.exp_map(
        manifold, p.expand(6, 2), x[:, None] * v, follow=geodesic.Follow(method=method, segments=segments)
    )
    return p, v, there.point


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"),
    [("sphere", "discrete"), ("hyperbolic plane", "ode"), ("network", "ode"), ("network", "discrete")],
)
def test_ends_of_geodesics_change_as_their_derivatives_say(name: str, method: str) -> None:
    manifold, stride = SPACES[name](), Stride(method, 4, 1e-11, 1000)
    z, v = P.double().expand(2, 2), torch.stack([V, -2 * V]).double()
    there = exp_with_neighbors(manifold, z, v, stride)
    # All eight changes at once: of the point and of the velocity, in both coordinates, to both sides.
    e, units, none = 1e-5, torch.eye(2), torch.zeros(2, 2)
    change, turn = torch.cat([units, none, -units, -none]), torch.cat([none, units, -none, -units])
    start = (x.repeat_interleave(8, 0) for x in (z, v))
    z_e, v_e = varied(manifold, stride, *start, *(e * x.repeat(2, 1) for x in (change, turn)))
    follow = geodesic.Follow(method=method, segments=4, rtol=1e-11 if method == "ode" else None)
    ends = geodesic.exp_map(manifold, z_e, v_e, follow=follow).point.reshape(2, 2, 4, 2)
    slopes = ((ends[:, 0] - ends[:, 1]) / (2 * e)).mT
    assert_close(slopes, torch.cat([there.by_point, there.by_velocity], dim=-1), rtol=1e-7, atol=1e-7)


@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")  # as it should: paths are coarse here
@pytest.mark.slow
@pytest.mark.parametrize("method", ["ode", "discrete"])
def test_under_an_affine_decoder_it_is_least_squares(method: str) -> None:
    A, x, points = torch.randn(5, 3), torch.randn(7) + 2, torch.randn(7, 3)
    plane = geodesic.PullbackManifold(lambda z: z @ A.mT + 1)
    fit = geodesic_regression(plane, x, points, follow=Follow(method=method), search=Search(segments=2))
    design = torch.stack([torch.ones(7), x], dim=-1)
    exact = torch.linalg.lstsq(design, points).solution
    assert fit.converged
    assert_close(fit.point, exact[0], rtol=1e-7, atol=1e-7)
    assert_close(fit.velocity, exact[1], rtol=1e-7, atol=1e-7)
    assert_close(fit.predictions, design @ exact, rtol=1e-7, atol=1e-7)
    left = ((points - design @ exact) @ A.mT).norm(dim=-1)
    assert_close(fit.residuals, left, rtol=1e-6, atol=1e-7)
    total = ((points - points.mean(0)) @ A.mT).square().sum()
    assert_close(fit.variance, total / 7, rtol=1e-6, atol=0)
    assert_close(fit.r_squared, 1 - left.square().sum() / total, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hyperbolic plane", "network"])
def test_exact_data_give_their_geodesic_back(name: str) -> None:
    manifold = SPACES[name]()
    p, v, points = on_a_geodesic(manifold, segments=4)
    fit = geodesic_regression(manifold, X.double(), points, stop=Stop(tol=1e-8), search=Search(segments=4))
    assert fit.converged
    assert_close(fit.point, p, rtol=0, atol=1e-7)
    assert_close(fit.velocity, v, rtol=0, atol=1e-7)
    assert_close(fit.predictions, points, rtol=0, atol=1e-7)
    assert 0 <= fit.r_squared <= 1
    assert_close(fit.r_squared, torch.tensor(1.0), rtol=0, atol=1e-10)


@pytest.mark.slow
def test_exact_data_give_their_geodesic_back_by_jacobi_fields() -> None:
    manifold = network()
    p, v, points = on_a_geodesic(manifold, "ode")
    fit = geodesic_regression(
        manifold,
        X.double(),
        points,
        follow=Follow(method="ode", rtol=1e-6),
        stop=Stop(tol=1e-5),
        search=Search(segments=4),
    )
    assert fit.converged
    assert_close(fit.point, p, rtol=0, atol=1e-5)
    assert_close(fit.velocity, v, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sphere", "network"])
def test_noisy_data_are_fitted_where_no_change_of_the_geodesic_lessens_the_squared_distances(name: str) -> None:
    manifold = SPACES[name]()
    points = on_a_geodesic(manifold, segments=4)[2] + 0.05 * torch.randn(6, 2)
    fit = geodesic_regression(manifold, X.double(), points, stop=Stop(tol=1e-8), search=Search(segments=4))
    assert fit.converged
    assert 0 < fit.r_squared < 1

    def losses(changes: Tensor) -> Tensor:
        n = len(changes)
        p, v = fit.point_at_center + changes[:, None, :2], fit.velocity_at_center + changes[:, None, 2:]
        start, pace = p.expand(n, 6, 2), X.double()[:, None] * v
        there = geodesic.exp_map(manifold, start, pace, follow=geodesic.Follow(method="discrete", segments=4))
        return 2 * geodesic.solve(manifold, there.point, points.expand(n, 6, 2), segments=4, tol=1e-12).energy.sum(-1)

    e = 1e-4 * torch.eye(4)
    least, ahead, behind = losses(torch.cat([torch.zeros(1, 4), e, -e])).split([1, 4, 4])
    assert_close(least[0], fit.residuals.square().sum(), rtol=1e-8, atol=0)
    assert (((ahead - behind) / 2e-4).abs() < 1e-4 * least).all()
    assert (torch.cat([ahead, behind]) > least).all()


@pytest.mark.slow
def test_the_fit_follows_changes_of_the_latent_coordinates_and_of_the_origin_and_unit_of_x() -> None:
    sphere = geodesic.surfaces.StereographicSphere()
    points = on_a_geodesic(sphere, segments=4)[2] + 0.05 * torch.randn(6, 2)
    A = torch.tensor([[2.0, 0.7], [-0.4, 0.1]])
    other = geodesic.PullbackManifold(lambda z: sphere.embed(z @ A.mT))
    here = geodesic_regression(sphere, X.double(), points, stop=Stop(tol=1e-6), search=Search(segments=4))
    there = geodesic_regression(
        other, 5 + 10 * X.double(), points @ torch.linalg.inv(A).mT, stop=Stop(tol=1e-6), search=Search(segments=4)
    )
    assert_close(there.center, torch.tensor(5.0))
    assert_close(A @ there.point_at_center, here.point, rtol=0, atol=1e-6)
    assert_close(A @ there.velocity_at_center, here.velocity / 10, rtol=0, atol=1e-6)
    assert_close(there.r_squared, here.r_squared, rtol=0, atol=1e-6)


def test_x_that_says_nothing_explains_nothing() -> None:
    sphere, x = geodesic.surfaces.StereographicSphere(), torch.tensor([-1.0, 1.0, 1.0, -1.0])
    points = 0.5 * torch.tensor([[1.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [-1.0, -1.0]])
    fit = geodesic_regression(sphere, x, points, search=Search(segments=4))
    assert fit.converged
    assert_close(fit.r_squared, torch.tensor(0.0), rtol=0, atol=1e-10)
    assert_close(fit.velocity, torch.zeros(2), rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")  # as it should: paths are coarse here
@pytest.mark.slow
def test_a_batch_has_the_answers_of_its_members() -> None:
    sphere = geodesic.surfaces.StereographicSphere()
    x = torch.stack([X, 2 * X + 1]).double()
    points = on_a_geodesic(sphere)[2] + 0.05 * torch.randn(2, 6, 2)
    both = geodesic_regression(sphere, x, points, search=Search(segments=2))
    assert both.predictions.shape == (2, 6, 2)
    one = geodesic_regression(sphere, x[1], points[1], search=Search(segments=2))
    assert both.converged[1] == one.converged
    assert_close(both.point[1], one.point, rtol=0, atol=1e-9)
    assert_close(both.residuals[1], one.residuals, rtol=0, atol=1e-9)


def polar(z: Tensor) -> Tensor:
    return z[..., :1] * torch.cat([z[..., 1:].cos(), z[..., 1:].sin()], dim=-1)


@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")  # as it should: paths are coarse here
@pytest.mark.slow
def test_a_set_whose_latent_mean_is_singular_starts_elsewhere() -> None:
    plane = geodesic.PullbackManifold(polar)
    # Polar coordinates name each point twice: the first set surrounds radius 0, the second lies to one side of it.
    x, r = torch.linspace(0, 1, 4), torch.tensor([-2.0, -1.0, 1.0, 2.0])
    angle = torch.tensor([1.0, 1.1, 0.9, 1.0])
    points = torch.stack([torch.stack([r, angle], dim=-1), torch.stack([r + 4, angle], dim=-1)])
    fit = geodesic_regression(plane, x, points, stop=Stop(max_iterations=8), search=Search(segments=4))
    alone = geodesic_regression(plane, x, points[1], search=Search(segments=4))
    assert fit.converged[1]
    assert_close(fit.point_at_center[1], alone.point_at_center, rtol=0, atol=1e-9)
    assert fit.point_at_center[0].isfinite().all()


@pytest.mark.slow
def test_without_a_mean_there_is_no_variance() -> None:
    sphere = geodesic.surfaces.StereographicSphere()
    points = on_a_geodesic(sphere)[2] + 0.2 * torch.randn(6, 2)
    fit = geodesic_regression(sphere, X, points, stop=Stop(max_iterations=1), search=Search(segments=4))
    assert not fit.converged
    assert fit.error > 1e-6
    assert fit.variance.isnan()
    assert fit.r_squared.isnan()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.ones(4)}, "x: expected numbers that differ, got 1"),
        ({"x": torch.ones(3)}, "x: expected a number for each point"),
        ({"x": torch.tensor([0.0, 1.0, 2.0, torch.nan])}, "x: expected finite numbers"),
        ({"points": torch.zeros(1, 2), "x": torch.zeros(1)}, "points: expected at least 2 points"),
        ({"points": torch.zeros(2)}, "points: expected at least 2 points"),
        ({"search": Search(length_rtol=1e-3)}, "search: a statistic works with nodes at equal times"),
        ({"follow": Follow(segments=8)}, "follow: geodesics have the segments of search here, 32, got segments=8"),
    ],
)
def test_bad_input_is_named(change: dict, message: str) -> None:
    plane = geodesic.PullbackManifold(lambda z: z)
    arguments = {"x": torch.arange(4.0), "points": torch.randn(4, 2)} | change
    with pytest.raises(InputError, match=message):
        geodesic_regression(plane, **arguments)
