"""Random points: the laws of normal samples and of Brownian motion where they are known."""

import inspect
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import kstest
from torch.testing import assert_close

import geodesic
from geodesic import Follow, random_walk, riemannian_normal
from geodesic.errors import InputError
from geodesic.riemannian.maps.follow import stride_of
from geodesic.solvers.status import Status


def law_of_the_radius(growth: Callable, s: float, end: float) -> Callable:
    """The distribution function of the density ~ growth(r) exp(-r^2 / (2 s^2)) on [0, end]."""
    r = np.linspace(0, end, 4001)
    density = growth(r) * np.exp(-(r**2) / (2 * s**2))
    total = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return lambda x: np.interp(x, r, total / total[-1])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ode", "discrete"])
def test_on_a_plane_samples_have_the_mean_and_covariance_of_the_normal_distribution(method: str) -> None:
    A, mean, s, n = torch.tensor([[2.0, 0.5], [0.0, 0.4]]), torch.tensor([1.0, -2.0]), 0.7, 400
    plane = geodesic.PullbackManifold(lambda z: z @ A.mT)
    rtol = 1e-3 if method == "ode" else None
    answer = riemannian_normal(plane, mean, s, n, burn_in=1, follow=Follow(method=method, segments=2, rtol=rtol))
    assert_close(answer.acceptance, torch.tensor(1.0))
    assert bool(answer.converged.all())
    x = (answer.points - mean) @ A.mT / s
    assert x.mean(0).abs().max() < 4 / n**0.5
    assert (x.mT @ x / n - torch.eye(2)).abs().max() < 4 * (2 / n) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("manifold", "growth", "end", "mean", "s"),
    [
        (geodesic.surfaces.StereographicSphere(), np.sin, math.pi, (0.3, 0.2), 1.0),
        (geodesic.surfaces.HyperbolicPlane(), np.sinh, 12.0, (0.5, 2.0), 0.7),
    ],
    ids=["sphere", "hyperbolic plane"],
)
def test_where_curvature_is_constant_the_radius_has_its_law_and_the_angle_is_uniform(
    manifold: geodesic.surfaces.DistanceManifold, growth: Callable, end: float, mean: tuple, s: float
) -> None:
    z = torch.tensor(mean, dtype=torch.float64)
    answer = riemannian_normal(manifold, z, s, 600, burn_in=6, follow=Follow(segments=4))
    assert bool(answer.converged.all())
    r = manifold.distance(z.expand(600, 2), answer.points)
    assert kstest(r.numpy(), law_of_the_radius(growth, s, end)).pvalue > 0.05
    # Proposals without acceptance have the law of a plane, which the same test tells apart.
    assert kstest(r.numpy(), law_of_the_radius(lambda r: r, s, end)).pvalue < 0.01
    angle = torch.atan2(answer.vectors[:, 1], answer.vectors[:, 0]) / (2 * math.pi) + 0.5
    assert kstest(angle.numpy(), "uniform").pvalue > 0.01


@pytest.mark.slow
def test_no_sample_lies_beyond_a_conjugate_point_even_where_two_meet() -> None:
    sphere, south = geodesic.surfaces.StereographicSphere(dimension=3), torch.zeros(3)
    answer = riemannian_normal(sphere, south, 2.5, 100, burn_in=2, follow=Follow(segments=12))
    length = sphere.squared_norm(torch.zeros(100, 3), answer.vectors).sqrt()[answer.converged]
    assert length.max() < math.pi * 1.01
    assert answer.acceptance < 0.7


@pytest.mark.slow
def test_the_vectors_lead_to_the_points() -> None:
    sphere, means = geodesic.surfaces.StereographicSphere(), torch.tensor([[0.0, 0.0], [0.5, -1.0]])
    answer = riemannian_normal(sphere, means, torch.tensor([0.1, 0.5]), 5, burn_in=2, follow=Follow(segments=8))
    assert answer.points.shape == (2, 5, 2)
    start = means[:, None].expand(2, 5, 2)
    there = geodesic.exp_map(sphere, start, answer.vectors, follow=geodesic.Follow(method="discrete", segments=8))
    assert_close(there.point, answer.points)
    one = riemannian_normal(sphere, means[:1], 0.1, 5, burn_in=2, follow=Follow(segments=8))
    alone = riemannian_normal(sphere, means[0], 0.1, 5, burn_in=2, follow=Follow(segments=8))
    assert_close(one.points[0], alone.points)
    assert_close(one.acceptance[0], alone.acceptance)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ode", "discrete"])
def test_one_step_on_the_sphere_has_the_mean_cosine_of_a_normal_step(method: str) -> None:
    sphere, h, n = geodesic.surfaces.StereographicSphere(), 0.5, 1000
    z = torch.tensor([0.1, 0.2])
    rtol = 1e-4 if method == "ode" else None
    walk = random_walk(sphere, z, h, 1, count=n, follow=Follow(method=method, segments=8, rtol=rtol))
    assert bool(walk.converged.all())
    cosine = sphere.distance(z.expand(n, 2), walk.point).cos()
    exact = quad(lambda r: math.cos(r) * r / h * math.exp(-(r**2) / (2 * h)), 0, 20)[0]
    assert abs(cosine.mean() - exact) < 4 * cosine.std() / n**0.5


@pytest.mark.slow
def test_short_steps_on_the_sphere_forget_the_beginning_as_brownian_motion_does() -> None:
    # cos of the angle is an eigenfunction: Delta cos = -2 cos, so its mean falls as exp(-time).
    sphere, n = geodesic.surfaces.StereographicSphere(), 1000
    z = torch.tensor([0.1, 0.2])
    walk = random_walk(sphere, z, 0.5, 10, count=n, follow=Follow(segments=2))
    cosine = sphere.distance(z.expand(n, 2), walk.point).cos()
    assert abs(cosine.mean() - math.exp(-0.5)) < 4 * cosine.std() / n**0.5


def test_on_the_flat_torus_the_variance_of_each_coordinate_is_the_time() -> None:
    n, time = 3000, 0.04
    walk = random_walk(
        geodesic.surfaces.FlatTorus(frequency=1.0), torch.zeros(2), time, 4, count=n, follow=Follow(segments=4)
    )
    for i in range(1, 5):
        variance = walk.path[:, i].square().mean(0)
        assert ((variance / (time * i / 4) - 1).abs() < 4 * (2 / n) ** 0.5).all()


def test_walks_of_a_batch_are_different_and_begin_where_they_should() -> None:
    plane, z = geodesic.PullbackManifold(lambda z: z), torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    walk = random_walk(plane, z, 1.0, 3, count=4, follow=Follow(segments=1))
    assert walk.path.shape == (2, 4, 4, 2)
    assert_close(walk.path[:, :, 0], z[:, None].expand(2, 4, 2))
    assert_close(walk.path[..., -1, :], walk.point)
    assert_close(walk.time, torch.ones(2, 4))
    steps = walk.path.diff(dim=2).reshape(-1, 2)
    assert len({tuple(x) for x in steps.tolist()}) == len(steps)
    assert random_walk(plane, z, 1.0, 3, follow=Follow(segments=1)).path.shape == (2, 4, 2)


@pytest.mark.slow
def test_a_walk_that_leaves_the_chart_is_lost_alone_and_says_when() -> None:
    # A disc whose metric ends at its rim.
    class Disc(geodesic.geometry.MetricManifold):
        def metric_tensor(self, z: torch.Tensor) -> torch.Tensor:
            square = z.square().sum(-1)
            return torch.eye(2) * torch.where(square < 1, 1 + square, torch.nan)[..., None, None]

    walk = random_walk(Disc(), torch.zeros(2), 1.0, 8, count=50, follow=Follow(segments=1))
    lost = ~walk.converged
    assert 0 < lost.sum() < 50
    assert (walk.time[lost] < 1).all()
    assert (walk.status[lost] != Status.CONVERGED).all()
    assert_close(walk.error, 1 - walk.time)
    assert_close(walk.iterations.to(walk.time) / 8, walk.time)
    assert (walk.point.norm(dim=-1) < 1).all()
    assert_close(walk.time[walk.converged], torch.ones(int(walk.converged.sum())))


@pytest.mark.slow
def test_a_seed_decides_everything_and_no_global_state_is_touched() -> None:
    sphere, z = geodesic.surfaces.StereographicSphere(), torch.zeros(2)
    state = torch.get_rng_state()
    for draw in (
        lambda seed: riemannian_normal(sphere, z, 0.3, 4, seed=seed, burn_in=1, follow=Follow(segments=2)).points,
        lambda seed: random_walk(sphere, z, 0.1, 2, count=4, seed=seed, follow=Follow(segments=1)).path,
    ):
        first = draw(3)
        assert torch.equal(first, draw(3))
        assert not torch.equal(first, draw(4))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 0.0}, "scale: expected positive lengths, got 0.0"),
        ({"scale": torch.tensor([1.0, 1.0])}, "scale: expected a number or one for each mean"),
        ({"count": 0}, "count: expected an integer of at least 1"),
        ({"burn_in": 0}, "burn_in: expected an integer of at least 1"),
        ({"follow": Follow(segments=1)}, "segments: expected an integer of at least 2"),
    ],
)
def test_bad_input_for_samples_is_named(change: dict, message: str) -> None:
    arguments = {"mean": torch.zeros(2), "scale": 1.0, "count": 3} | change
    with pytest.raises(InputError, match=message):
        riemannian_normal(geodesic.surfaces.StereographicSphere(), **arguments)


def test_how_geodesics_are_followed_is_checked_when_it_is_said() -> None:
    with pytest.raises(InputError, match="method: expected 'ode', 'discrete' or 'refraction'"):
        Follow(method="euler")
    with pytest.raises(InputError, match=r'^rtol: got 0\.001, which "discrete" does not look at'):
        Follow(method="discrete", rtol=1e-3)
    assert stride_of(Follow(), torch.float64, "discrete").method == "discrete"
    assert stride_of(Follow(max_iterations=5), torch.float64, "discrete").method == "ode"
    # Without the type checker that watches the tests: a user has none.
    with pytest.raises(InputError, match=r"follow: expected a Follow, such as Follow\(segments=16\), got str"):
        inspect.unwrap(stride_of)("ode", torch.float64, "ode")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": 0.0}, "time: expected a positive number"),
        ({"steps": 0}, "steps: expected an integer of at least 1"),
        ({"count": 0}, "count: expected an integer of at least 1"),
        ({"method": "ode"}, r"method: unknown argument; it is `follow=Follow\(method=...\)` now"),
    ],
)
def test_bad_input_for_walks_is_named(change: dict, message: str) -> None:
    arguments = {"z": torch.zeros(2), "time": 1.0, "steps": 3} | change
    with pytest.raises(InputError, match=message):
        random_walk(geodesic.surfaces.StereographicSphere(), **arguments)


def test_walks_begin_also_where_inference_mode_is_on() -> None:
    torus, z = geodesic.surfaces.FlatTorus(), torch.tensor([1.0, 2.0])
    expected = geodesic.random_walk(torus, z, 0.1, 3)
    with torch.inference_mode():
        walk = geodesic.random_walk(torus, z, 0.1, 3)
    assert torch.equal(walk.path, expected.path)
