"""Fréchet means and geometric medians: known answers, and the laws that they follow from."""

import dataclasses
import inspect
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.testing import assert_close

import geodesic
from geodesic import Follow, Search, Status, Stop, frechet_mean, frechet_median
from geodesic.errors import GeodesicWarning, InputError
from geodesic.riemannian import frechet_variance
from geodesic.riemannian.statistics import pairs
from geodesic.riemannian.statistics.pairs import require_for_moving_ends
from geodesic.riemannian.statistics.stop import require_stop
from geodesic.solvers.solve import find

SPHERE = geodesic.surfaces.StereographicSphere()
HYPERBOLIC = geodesic.surfaces.HyperbolicPlane()


def affine() -> Any:
    A = torch.randn(4, 2)
    return geodesic.PullbackManifold(lambda z: z @ A.mT + 1)


def chart(x: Tensor) -> Tensor:
    """Stereographic coordinates of points of the sphere."""
    return x[..., :-1] / (1 - x[..., -1:])


def ring(n: int, tilt: float) -> Tensor:
    """Points at equal distances on a great circle."""
    angle = 2 * torch.pi * torch.arange(n) / n
    height = angle.sin() * math.sin(tilt)
    return chart(torch.stack([angle.cos(), angle.sin() * math.cos(tilt), height], dim=-1))


@pytest.mark.slow
def test_the_mean_under_an_affine_decoder_is_the_weighted_arithmetic_mean_in_one_step() -> None:
    x, w = torch.randn(3, 6, 2), torch.rand(3, 6)
    expected = (w[..., None] * x).sum(1) / w.sum(1, keepdim=True)
    manifold = affine()
    for initial_point, iterations in ((None, 0), (torch.randn(3, 2), 1)):
        mean = frechet_mean(manifold, x, w, initial_point=initial_point, search=Search(segments=4))
        assert mean.converged.all()
        assert mean.iterations.tolist() == [iterations] * 3
        assert_close(mean.point, expected, rtol=0, atol=1e-8)
        squared = manifold.lower_bound(expected[:, None].expand_as(x), x) ** 2
        assert_close(mean.variance, (w * squared).sum(1) / w.sum(1))
        assert_close(mean.distances, squared.sqrt())


@pytest.mark.slow
def test_the_discrete_mean_on_a_flat_torus_is_of_second_order_and_that_of_ode_is_exact() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 2.0]])
    torus = geodesic.surfaces.FlatTorus()
    errors = [
        float((frechet_mean(torus, x, stop=Stop(tol=1e-9), search=Search(segments=T)).point - x.mean(0)).norm())
        for T in (8, 16)
    ]
    assert 1.9 < math.log2(errors[0] / errors[1]) < 2.1
    exact = frechet_mean(torus, x, follow=Follow(method="ode"), search=Search(segments=8))
    assert_close(exact.point, x.mean(0), rtol=0, atol=1e-6)
    assert_close(exact.variance, (x - x.mean(0)).square().sum(1).mean(), rtol=1e-7, atol=0)


@pytest.mark.slow
def test_points_symmetric_round_an_axis_of_the_sphere_have_their_mean_on_it() -> None:
    angle = torch.arange(5) * 2 * torch.pi / 5
    x = torch.stack([angle.cos(), angle.sin(), torch.full((5,), -0.8)], dim=-1)
    x = x / x.norm(dim=-1, keepdim=True)
    turn = torch.linalg.matrix_exp(torch.tensor([[0, 0.2, 0.7], [-0.2, 0, 0.3], [-0.7, -0.3, 0]]))
    mean = frechet_mean(SPHERE, chart(x @ turn.mT), search=Search(segments=8))
    assert_close(mean.variance.sqrt(), torch.atan2(torch.tensor(1.0), torch.tensor(0.8)), rtol=1e-4, atol=0)
    # All distances are equal: so are their errors, and the discrete mean is exact as well.
    assert_close(mean.point, chart(turn @ torch.tensor([0.0, 0.0, -1.0])), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("manifold", [SPHERE, HYPERBOLIC], ids=["sphere", "hyperbolic plane"])
def test_the_weighted_mean_of_two_points_divides_the_geodesic_in_proportion(manifold: Any) -> None:
    x = torch.tensor([[-0.3, 0.5], [0.6, 0.9]])
    length = manifold.distance(*x)
    weights = torch.tensor([3.0, 1.0])
    mean = frechet_mean(manifold, x, weights, stop=Stop(tol=1e-5), search=Search(segments=16))
    assert_close(mean.distances, torch.stack([length / 4, 3 * length / 4]), rtol=2e-3, atol=0)
    assert_close(mean.distances.sum(), length, rtol=1e-5, atol=0)
    assert_close(mean.variance, length**2 * 3 / 16, rtol=1e-4, atol=0)
    assert torch.equal(
        frechet_variance(manifold, x, weights, stop=Stop(tol=1e-5), search=Search(segments=16)), mean.variance
    )


@pytest.mark.slow
def test_exact_geodesics_divide_it_exactly() -> None:
    x = torch.tensor([[-0.3, 0.5], [0.6, 0.9]])
    length = SPHERE.distance(*x)
    mean = frechet_mean(
        SPHERE,
        x,
        torch.tensor([3.0, 1.0]),
        follow=Follow(method="ode", rtol=1e-6),
        stop=Stop(tol=1e-5),
        search=Search(segments=8),
    )
    assert mean.converged
    assert_close(mean.distances, torch.stack([length / 4, 3 * length / 4]), rtol=2e-6, atol=0)


@pytest.mark.slow
def test_the_mean_of_points_on_a_vertical_line_of_the_hyperbolic_plane_is_their_geometric_mean() -> None:
    y = torch.tensor([0.5, 1.0, 3.0])
    x, expected = torch.stack([torch.zeros(3), y], dim=-1), y.log().mean().exp()
    coarse, fine = (frechet_mean(HYPERBOLIC, x, search=Search(segments=T)).point for T in (8, 16))
    assert_close(fine, torch.stack([torch.tensor(0.0), expected]), rtol=0, atol=1e-3)
    assert 1.9 < math.log2(float((coarse[1] - expected) / (fine[1] - expected))) < 2.1


@pytest.mark.slow
def test_the_gradient_by_exact_logarithms_vanishes_at_the_mean() -> None:
    x = 0.4 * torch.randn(3, 2) + 0.3

    def gradient(mean: Any) -> float:
        """By the closed form of the sphere: log_p(q) = d (q - <p, q> p) / |q - <p, q> p|."""
        p, q = SPHERE.embed(mean.point), SPHERE.embed(x)
        across = q - (q @ p)[:, None] * p
        d = SPHERE.distance(mean.point.expand_as(x), x)
        logarithm = d[:, None] * across / across.norm(dim=-1, keepdim=True)
        return float(logarithm.mean(0).norm() / d.square().mean().sqrt())

    assert (
        gradient(
            frechet_mean(
                SPHERE, x, follow=Follow(method="ode", rtol=1e-6), stop=Stop(tol=1e-5), search=Search(segments=16)
            )
        )
        < 2e-5
    )
    coarse, fine = (gradient(frechet_mean(SPHERE, x, search=Search(segments=T))) for T in (8, 16))
    assert coarse < 1e-3
    assert 1.8 < math.log2(coarse / fine) < 2.2


@pytest.mark.slow
def test_the_mean_moves_with_rotations_of_the_sphere() -> None:
    x = 0.4 * torch.randn(3, 2)
    turn = torch.linalg.matrix_exp(torch.tensor([[0, 0.4, -0.3], [-0.4, 0, 0.5], [0.3, -0.5, 0]]))
    mean = frechet_mean(SPHERE, x, stop=Stop(tol=1e-7), search=Search(segments=8))
    turned = frechet_mean(SPHERE, chart(SPHERE.embed(x) @ turn.mT), stop=Stop(tol=1e-7), search=Search(segments=8))
    assert_close(turned.point, chart(turn @ SPHERE.embed(mean.point)), rtol=0, atol=1e-6)
    assert_close(turned.variance, mean.variance, rtol=1e-6, atol=0)


@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")  # as it should: paths are coarse here
@pytest.mark.slow
@pytest.mark.parametrize("center", [frechet_mean, frechet_median])
def test_an_affine_change_of_latent_coordinates_changes_nothing_else(center: Any) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)).eval()
    A, b, x = torch.randn(2, 2) + 2 * torch.eye(2), torch.randn(2), torch.randn(4, 2) / 2
    one = center(geodesic.PullbackManifold(net), x @ A.mT + b, stop=Stop(tol=1e-6), search=Search(segments=4))
    other = center(
        geodesic.PullbackManifold(lambda z: net(z @ A.mT + b)), x, stop=Stop(tol=1e-6), search=Search(segments=4)
    )
    assert one.converged
    assert other.converged
    assert_close(other.point @ A.mT + b, one.point, rtol=0, atol=1e-5)
    assert_close(other.variance, one.variance, rtol=1e-6, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("center", [frechet_mean, frechet_median])
def test_a_batch_gives_what_its_rows_give_alone_in_any_order_of_the_points(center: Any) -> None:
    x, w = 0.4 * torch.randn(2, 2, 4, 2), torch.rand(2, 2, 4)
    many = center(SPHERE, x, w, stop=Stop(tol=1e-6), search=Search(segments=4))
    assert many.point.shape == (2, 2, 2)
    assert many.paths.shape == (2, 2, 4, 5, 2)
    order = torch.tensor([2, 0, 3, 1])
    one = center(SPHERE, x[1, 0, order], w[1, 0, order], stop=Stop(tol=1e-6), search=Search(segments=4))
    assert_close(one.point, many.point[1, 0], rtol=0, atol=1e-7)
    assert_close(one.distances, many.distances[1, 0, order], rtol=1e-6, atol=1e-8)
    assert torch.equal(one.paths[:, 0], one.point.expand(4, 2))
    assert torch.equal(one.paths[:, -1], x[1, 0, order])


@pytest.mark.slow
@pytest.mark.parametrize("center", [frechet_mean, frechet_median])
def test_a_weight_of_zero_is_an_absent_point_and_whole_weights_are_repeated_points(center: Any) -> None:
    x = 0.4 * torch.randn(4, 2)
    weighted = center(SPHERE, x, torch.tensor([1.0, 2.0, 0.0, 3.0]), stop=Stop(tol=1e-6), search=Search(segments=8))
    repeated = center(SPHERE, x[[0, 1, 1, 3, 3, 3]], stop=Stop(tol=1e-6), search=Search(segments=8))
    assert_close(weighted.point, repeated.point, rtol=0, atol=1e-7)
    assert_close(weighted.variance, repeated.variance, rtol=1e-7, atol=1e-12)
    assert_close(weighted.distances[2], SPHERE.distance(weighted.point, x[2]), rtol=1e-4, atol=0)


def test_a_single_point_and_equal_points_are_their_own_center() -> None:
    z = torch.tensor([0.2, -0.4])
    for center in (frechet_mean, frechet_median):
        for N in (1, 3):
            answer = center(SPHERE, z.expand(N, 2), search=Search(segments=4))
            assert_close(answer.point, z)
            assert answer.converged
            assert_close(answer.variance, torch.tensor(0.0))


def test_points_of_any_latent_shape_keep_it() -> None:
    A = torch.randn(7, 6)
    decoder = geodesic.PullbackManifold(lambda z: z.flatten(1) @ A.mT, latent_shape=(2, 3))
    x = torch.randn(2, 4, 2, 3)
    mean = frechet_mean(decoder, x, search=Search(segments=4))
    assert_close(mean.point, x.mean(1))
    assert mean.paths.shape == (2, 4, 5, 2, 3)


@pytest.mark.slow
def test_float32_converges_to_what_it_can_tell_apart() -> None:
    x = 0.4 * torch.randn(5, 2)
    single, double = (frechet_mean(SPHERE, z, search=Search(segments=4)) for z in (x.float(), x))
    assert single.converged
    assert single.point.dtype == torch.float32
    assert_close(single.point.double(), double.point, rtol=0, atol=5e-3)


def test_the_middle_of_three_points_on_a_line_is_their_median() -> None:
    x = torch.tensor([[0.0, 0.5], [0.0, 1.0], [0.0, 4.0]])
    median = frechet_median(HYPERBOLIC, x, search=Search(segments=8))
    assert torch.equal(median.point, x[1])
    assert float(median.error) == 0


@pytest.mark.slow
def test_a_point_of_more_than_half_of_the_weight_is_the_median() -> None:
    x, w = 0.5 * torch.randn(6, 2), torch.tensor([1.0, 1.0, 1.0, 5.5, 1.0, 1.0])
    for initial_point in (None, torch.tensor([0.5, 0.5])):
        median = frechet_median(SPHERE, x, w, initial_point=initial_point, search=Search(segments=8))
        assert torch.equal(median.point, x[3])
        assert median.converged


@pytest.mark.slow
@pytest.mark.parametrize("N", [3, 4, 7, 20])
def test_the_median_of_a_plane_is_that_of_scipy(N: int) -> None:
    A, x = torch.randn(3, 2), torch.randn(N, 2)
    manifold = geodesic.PullbackManifold(lambda z: z @ A.mT)
    embedded, a = (x @ A.mT).numpy(), A.numpy()

    def cost(z: np.ndarray) -> float:
        return float(np.linalg.norm(embedded - a @ z, axis=1).mean())

    best = min(
        (minimize(cost, z, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}) for z in (x.mean(0), x[0])),
        key=lambda answer: answer.fun,
    )
    median = frechet_median(manifold, x, search=Search(segments=4))
    assert median.converged
    assert median.iterations <= 25
    assert_close(median.distances.mean(), torch.tensor(best.fun), rtol=1e-10, atol=0)
    assert_close(median.point, torch.as_tensor(best.x), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")  # as it should: paths are coarse here
@pytest.mark.slow
def test_an_outlier_moves_the_mean_and_hardly_the_median() -> None:
    x = 0.1 * torch.randn(7, 2) + torch.tensor([0.0, 1.0])
    far = torch.cat([x, torch.tensor([[5.0, 1.0]])])
    moved = [
        HYPERBOLIC.distance(
            c(HYPERBOLIC, x, stop=Stop(tol=1e-3), search=Search(segments=8)).point,
            c(HYPERBOLIC, far, stop=Stop(tol=1e-3), search=Search(segments=8)).point,
        )
        for c in (frechet_mean, frechet_median)
    ]
    assert moved[0] > 0.3
    assert moved[1] < 0.1


def test_equally_spaced_points_on_a_great_circle_warn_that_there_may_be_several_means() -> None:
    with pytest.warns(GeodesicWarning, match=r"Fréchet mean: 1 of 1 may not be unique: two starts led to points 1\.5"):
        mean = frechet_mean(SPHERE, ring(3, 0.0), search=Search(segments=8))
    assert not mean.unique
    assert mean.start == 0
    assert_close(mean.variance, torch.tensor((torch.pi / 2) ** 2), rtol=1e-6, atol=0)


@pytest.mark.slow
def test_points_round_a_hill_warn_and_the_answer_is_the_lower_one() -> None:
    hill = geodesic.PullbackManifold(
        lambda z: torch.cat([z, 3 * torch.exp(-2 * z.square().sum(-1, keepdim=True))], dim=-1)
    )
    angle = torch.arange(3) * 2 * torch.pi / 3 + 0.1
    x = 1.2 * torch.stack([angle.cos(), angle.sin()], dim=-1)
    with pytest.warns(GeodesicWarning, match="may not be unique"):
        mean = frechet_mean(hill, x, search=Search(segments=16))
    top = frechet_mean(hill, x, initial_point=x.mean(0), search=Search(segments=16))
    assert top.converged
    assert mean.variance < top.variance
    assert mean.start == 1


def test_the_median_of_an_even_number_of_points_on_a_line_is_not_unique() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.2, 0.0], [5.0, 0.0]])
    with pytest.warns(GeodesicWarning, match="geometric median"):
        median = frechet_median(affine(), x, search=Search(segments=4))
    assert 1 - 1e-9 <= float(median.point[0]) <= 2.2 + 1e-9


@pytest.mark.slow
def test_points_in_a_small_ball_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert frechet_mean(SPHERE, 0.2 * torch.randn(2, 5, 2), search=Search(segments=8)).unique.all()


@pytest.mark.slow
def test_too_few_steps_are_reported() -> None:
    mean = frechet_mean(
        HYPERBOLIC,
        torch.tensor([[-1.0, 0.5], [1.0, 1.0], [0.0, 3.0]]),
        stop=Stop(max_iterations=1),
        search=Search(segments=8),
    )
    assert not mean.converged
    assert mean.status == Status.MAX_ITERATIONS
    assert mean.error > 1e-6
    assert mean.summary().splitlines() == [
        "0 of 1 rows converged",
        f"1 max_iterations: {Status.MAX_ITERATIONS.remedy}",
        'geodesics followed by "discrete"',
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": torch.ones(3)}, r"weights: expected one for each point, shape \(2, 4\) or \(4,\), got \(3,\)"),
        ({"weights": torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, 1]])}, r"none below zero, got \(1, -1, 1, 1\) in row 1"),
        ({"weights": torch.tensor([[0.0, 0, 0, 0], [1, 1, 1, 1]])}, "a positive sum.* in row 0"),
        ({"weights": torch.tensor([1.0, math.nan, 1, 1])}, "finite numbers"),
        ({"initial_point": torch.zeros(2)}, r"initial_point: expected a point for each row, shape \(2, 2\)"),
        ({"follow": Follow(segments=8)}, r"follow: geodesics have the segments of search here, 32, got segments=8"),
        ({"search": Search(init=torch.zeros(2, 4, 5, 2))}, "search: expected init to be 'straight', 'graph' or 'best'"),
        ({"search": Search(length_rtol=1e-3)}, "search: a statistic works with nodes .* raise segments instead"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        frechet_mean(SPHERE, torch.zeros(2, 4, 2), **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tol": 0.0}, "tol: expected a number between 0 and 1"),
        ({"max_iterations": 0}, "max_iterations: expected an integer of at least 1, got 0"),
    ],
)
def test_a_stop_that_cannot_be_used_is_refused_when_it_is_made(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Stop(**settings)


def test_what_is_no_stop_is_refused_with_an_example() -> None:
    # Without the type checker that watches the tests: a user has none.
    with pytest.raises(InputError, match=r"stop: expected a Stop, such as Stop\(tol=1e-4\), got float"):
        inspect.unwrap(require_stop)(1e-3)


def test_what_is_no_search_is_refused_with_an_example() -> None:
    # Without the type checker that watches the tests: a user has none.
    with pytest.raises(InputError, match=r"search: expected a Search, such as Search\(segments=16\), got dict"):
        inspect.unwrap(require_for_moving_ends)({"segments": 16})


@pytest.mark.slow
@pytest.mark.parametrize("tool", [frechet_mean, frechet_median])
def test_what_a_search_says_reaches_the_solver(tool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Search] = []

    def spy(manifold: Any, start: Any, end: Any, search: Search) -> Any:
        asked.append(search)
        return find(manifold, start, end, search)

    monkeypatch.setattr(pairs, "find", spy)
    search = Search(init="graph", graph_points=torch.randn(30, 2), segments=6, tol=1e-9, max_steps=40, memory=1e8)
    tool(SPHERE, 0.3 * torch.randn(3, 2), search=search)
    first, *others = asked
    assert all(getattr(first, field.name) is getattr(search, field.name) for field in dataclasses.fields(Search))
    assert {(how.segments, how.tol, how.memory, how.graph_points) for how in others} == {(None, 1e-9, 1e8, None)}


def test_a_single_point_without_an_axis_for_their_number_is_refused() -> None:
    with pytest.raises(InputError, match=r"points: expected \(\*batch, N, d\), got \(2,\)"):
        frechet_mean(SPHERE, torch.zeros(2))
