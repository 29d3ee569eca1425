"""Laws of the exponential map, the logarithm map and the distance."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import linregress
from torch import Tensor, nn

import geodesic
from geodesic import Follow, Status, exp_map, log_map
from geodesic.numerics.ode import integrate
from geodesic.riemannian.maps.discrete import first_momentum
from tests.surfaces import KNOWN

PLANAR = [name for name, known in KNOWN.items() if len(known.start) == 2]
CLOSED = [name for name in PLANAR if isinstance(KNOWN[name].manifold, geodesic.surfaces.DistanceManifold)]
SYMMETRIC = [name for name in PLANAR if isinstance(KNOWN[name].manifold, geodesic.surfaces.SymmetricSurface)]
# One of each kind: bent either way, flat, without an embedding, of more dimensions. The tests of the solver have all.
SHOT_AT = ["cylinder", "helicoid", "hyperbolic plane", "sphere of dimension 3", "torus"]


def mlp(activation: nn.Module | None = None, d: int = 2, D: int = 10) -> nn.Module:
    torch.manual_seed(0)
    act = nn.Tanh() if activation is None else activation
    return nn.Sequential(nn.Linear(d, 16), act, nn.Linear(16, D)).requires_grad_(False)


def great_circle(sphere: geodesic.surfaces.Sphere, z: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """Points of R^3 at times t, (N, T + 1, 3)."""
    x, u = sphere.embed(z)[:, None], geodesic.autodiff.jvp(sphere.embed, z, v)[:, None]
    angle = u.norm(dim=-1, keepdim=True) / sphere.radius * t[:, None]
    return x * angle.cos() + sphere.radius * u / u.norm(dim=-1, keepdim=True) * angle.sin()


def euclidean(y: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda error: error.norm(dim=-1)


# --- the integrator -----------------------------------------------------------------------------


def test_the_integrator_is_of_order_eight() -> None:
    def field(y: Tensor) -> Tensor:  # a pendulum of period 2 pi over one unit of time, and its phase
        return 2 * math.pi * torch.stack([y[:, 1], -y[:, 0]], dim=-1)

    start = torch.tensor([[1.0, 0.0]])
    steps, errors = [], []
    for rtol in (1e-5, 1e-7, 1e-9, 1e-11):
        run = integrate(field, start, nodes=1, rtol=rtol, measure=euclidean, max_iterations=1000)
        steps.append(int(run.steps))
        errors.append(float((run.states[0, -1] - start[0]).norm()))
    assert linregress(np.log(steps), np.log(errors)).slope < -7


def test_values_between_the_steps_are_as_good_as_at_their_ends() -> None:
    def field(y: Tensor) -> Tensor:
        return 3 * torch.stack([y[:, 1], -y[:, 0]], dim=-1)

    run = integrate(
        field,
        torch.tensor([[0.0, 1.0]]),
        nodes=100,
        rtol=1e-10,
        measure=euclidean,
        max_iterations=1000,
    )
    t = torch.linspace(0, 3, 101)
    assert int(run.steps) < 30
    torch.testing.assert_close(run.states[0], torch.stack([t.sin(), t.cos()], dim=-1), rtol=0, atol=1e-8)


def test_a_field_that_jumps_is_followed_by_short_steps() -> None:
    def field(y: Tensor) -> Tensor:
        return torch.where(y < 0.5, 1.0, 3.0)

    run = integrate(field, torch.tensor([[0.0]]), nodes=1, rtol=1e-8, measure=euclidean, max_iterations=1000)
    assert float(run.states[0, -1, 0]) == pytest.approx(2.0, abs=1e-6)
    assert float(run.time) == 1


# --- the exponential map ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rtol", [1e-6, 1e-11])
def test_geodesics_of_the_sphere_are_great_circles_to_the_tolerance(rtol: float) -> None:
    sphere = geodesic.surfaces.Sphere(radius=2.0)
    z = torch.tensor([[1.0, 0.0], [1.5, 2.0], [2.0, -1.0]])
    v = torch.tensor([[0.3, 2.0], [1.0, 0.5], [-0.5, -0.7]])
    answer = exp_map(sphere, z, v, follow=Follow(rtol=rtol))
    expected = great_circle(sphere, z, v, torch.linspace(0, 1, 33))
    assert (sphere.embed(answer.path) - expected).norm(dim=-1).max() < 30 * rtol
    assert answer.converged.all()
    assert (answer.error < 30 * rtol).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", SYMMETRIC)
def test_clairauts_relation_holds_along_geodesics(name: str) -> None:
    known = KNOWN[name]
    z, v = torch.tensor(known.start), torch.tensor([0.4, 0.3])
    answer = exp_map(known.manifold, z, v)
    constant = known.manifold.clairaut_constant(answer.path, answer.velocity)
    assert answer.converged
    torch.testing.assert_close(constant, constant[:1].expand_as(constant), rtol=1e-6, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torus", "hyperbolic plane", "sphere of dimension 3"])
def test_the_metric_alone_gives_the_same_geodesics_as_the_embedding(name: str) -> None:
    known = KNOWN[name]
    z = torch.tensor(known.start)
    v = 0.2 * (torch.tensor(known.end) - z)
    answers = [exp_map(m, z, v) for m in (known.manifold, geodesic.MetricFunction(known.manifold.metric_tensor))]
    torch.testing.assert_close(answers[0].path, answers[1].path, rtol=0, atol=1e-7)


@pytest.mark.slow
def test_time_and_velocity_are_interchangeable_and_time_runs_backwards() -> None:
    manifold = geodesic.PullbackManifold(mlp())
    z, v = torch.randn(2, 2, 2)
    v = v / 4
    there = exp_map(manifold, z, v, t=2.0)
    torch.testing.assert_close(there.point, exp_map(manifold, z, 2 * v).point, rtol=0, atol=1e-7)
    torch.testing.assert_close(there.velocity[:, 0], v)
    back = exp_map(manifold, there.point, there.velocity[:, -1], t=-2.0)
    torch.testing.assert_close(back.point, z, rtol=0, atol=1e-6)
    torch.testing.assert_close(back.velocity[:, -1], v, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_geodesic_goes_on_as_itself() -> None:
    torus = geodesic.surfaces.Torus()
    z, v = torch.tensor([0.5, 0.0]), torch.tensor([0.7, 0.4])
    half = exp_map(torus, z, v, t=0.5, follow=Follow(segments=16))
    whole = exp_map(torus, z, v, follow=Follow(segments=32))
    rest = exp_map(torus, half.point, half.velocity[-1], t=0.5, follow=Follow(segments=16))
    torch.testing.assert_close(torch.cat([half.path, rest.path[1:]]), whole.path, rtol=0, atol=1e-7)


@pytest.mark.slow
def test_each_row_has_its_own_time() -> None:
    z, v, t = torch.rand(3, 2) + 0.5, torch.randn(3, 2) / 2, torch.tensor([0.0, 0.5, -1.0])
    together = exp_map(geodesic.surfaces.Torus(), z, v, t=t)
    for i in range(3):
        alone = exp_map(geodesic.surfaces.Torus(), z[i], v[i], t=float(t[i]))
        torch.testing.assert_close(together.path[i], alone.path, rtol=0, atol=1e-12)
        torch.testing.assert_close(together.velocity[i], alone.velocity, rtol=0, atol=1e-12)
        assert together.iterations[i] == alone.iterations
    assert torch.equal(together.point[0], z[0])
    assert torch.equal(together.velocity[0], v[0].expand(33, 2))


@pytest.mark.slow
def test_the_velocity_is_the_derivative_of_the_path() -> None:
    answer = exp_map(geodesic.PullbackManifold(mlp()), torch.randn(2), torch.randn(2) / 2, follow=Follow(segments=256))
    slope = (answer.path[2:] - answer.path[:-2]) * 128
    torch.testing.assert_close(answer.velocity[1:-1], slope, rtol=0, atol=1e-3 * float(slope.abs().max()))


def test_no_velocity_leads_nowhere() -> None:
    for method in ("ode", "discrete"):
        answer = exp_map(
            geodesic.surfaces.Torus(),
            torch.tensor([[1.0, 2.0]]),
            torch.zeros(1, 2),
            follow=Follow(method=method),
        )
        assert answer.converged.all()
        assert torch.equal(answer.path, torch.tensor([1.0, 2.0]).expand(1, 33, 2))


@pytest.mark.slow
def test_single_precision_agrees_with_double() -> None:
    net = mlp()
    z, v = torch.randn(2, 3, 2) / 2
    double = exp_map(geodesic.PullbackManifold(net), z, v).point
    single = exp_map(geodesic.PullbackManifold(mlp().float()), z.float(), v.float())
    assert single.point.dtype == torch.float32
    assert single.converged.all()
    torch.testing.assert_close(single.point.double(), double, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_a_geodesic_that_meets_a_singular_metric_says_where_and_stays_finite() -> None:
    # A quarter of a circle over its own tangent: at z = 1 the decoder's derivative is infinite.
    circle = geodesic.PullbackManifold(lambda z: torch.cat([z, (1 - z.square()).sqrt()], dim=1))
    answer = exp_map(circle, torch.tensor([[0.0], [0.0]]), torch.tensor([[2.0], [1.0]]), follow=Follow(rtol=1e-5))
    assert answer.status.tolist() == [Status.CUT_SHORT, Status.CONVERGED]
    assert answer.converged.tolist() == [False, True]
    assert float(answer.time[0]) == pytest.approx(math.pi / 4, abs=1e-3)
    assert answer.path.isfinite().all()
    assert float(answer.point[1, 0]) == pytest.approx(math.sin(1.0), abs=1e-5)


def test_a_decoder_with_kinks_is_told_apart() -> None:
    manifold = geodesic.PullbackManifold(mlp(nn.ReLU()))
    z, v = torch.randn(2, 6, 2)
    assert (exp_map(manifold, z, v, follow=Follow(rtol=1e-5)).status == Status.SPEED_CHANGED).all()


@pytest.mark.slow
def test_discrete_steps_are_of_second_order() -> None:
    manifold = geodesic.PullbackManifold(mlp())
    z, v = torch.randn(2, 2, 2) / 2
    exact = exp_map(manifold, z, v, follow=Follow(rtol=1e-7)).point
    counts = [8, 16, 32]
    errors = [
        float((exp_map(manifold, z, v, follow=Follow(method="discrete", segments=T)).point - exact).norm())
        for T in counts
    ]
    assert linregress(np.log(counts), np.log(errors)).slope == pytest.approx(-2, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("activation", [nn.Tanh(), nn.ELU(), nn.ReLU()], ids=["tanh", "elu", "relu"])
def test_the_discrete_maps_undo_each_other(activation: nn.Module) -> None:
    manifold = geodesic.PullbackManifold(mlp(activation))
    a = torch.randn(6, 2)
    b = a + torch.randn(6, 2) / 4
    there = log_map(manifold, a, b, follow=Follow(method="discrete"), search=geodesic.Search(tol=1e-15))
    back = exp_map(manifold, a, there.vector, follow=Follow(method="discrete", segments=32))
    solved = there.converged & (back.status != Status.NO_NEARER)
    assert solved.sum() >= 3  # a path that ends on a kink of ReLU is no stationary point
    torch.testing.assert_close(back.point[solved], b[solved], rtol=0, atol=1e-5)
    torch.testing.assert_close(back.path[solved], there.path[solved], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "method", "affine"),
    [(nn.Tanh(), "ode", ""), (nn.ELU(), "discrete", ""), (nn.ReLU(), "discrete", "refraction")],
)
def test_maps_take_the_method_that_suits_the_second_derivatives(
    activation: nn.Module, method: str, affine: str
) -> None:
    manifold = geodesic.PullbackManifold(mlp(activation))
    a, b = torch.tensor([[0.3, -0.4], [0.5, 0.1]])
    there = log_map(manifold, a, b, search=geodesic.Search(segments=16))
    back = exp_map(manifold, a, there.vector, follow=Follow(segments=16))
    assert (there.method, back.method) == (method, affine or method)
    assert f'followed by "{back.method}"' in back.summary()
    told = log_map(manifold, a, b, follow=Follow(method="discrete"), search=geodesic.Search(segments=16))
    assert told.method == "discrete"
    if not isinstance(activation, nn.ReLU):  # a path that ends on a kink of ReLU is no stationary point
        assert there.converged
        torch.testing.assert_close(back.point, b, rtol=0, atol=1e-4)
        torch.testing.assert_close(there.vector, told.vector, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_an_accuracy_asks_for_the_equation_and_statistics_for_chords() -> None:
    bent, torus = geodesic.PullbackManifold(mlp(nn.ELU())), geodesic.surfaces.Torus()
    z, v = torch.randn(2, 2) / 8
    assert exp_map(bent, z, v, follow=Follow(rtol=1e-4)).method == "ode"
    assert exp_map(torus, z, v).method == "ode"
    assert geodesic.frechet_mean(torus, torch.stack([z, v])).method == "discrete"
    assert geodesic.random_walk(torus, z, time=0.1, steps=2).method == "discrete"


@pytest.mark.slow
def test_steps_too_long_for_a_constant_speed_are_shortened_where_nobody_says_how_many() -> None:
    torch.manual_seed(1)
    layers = nn.Linear(2, 32), nn.ELU(), nn.Linear(32, 32), nn.ELU(), nn.Linear(32, 20)
    sharp = nn.Sequential(*layers).requires_grad_(False)
    sharp[0].weight *= 8
    manifold, (z, v) = geodesic.PullbackManifold(sharp), torch.randn(2, 3, 2)
    asked = exp_map(manifold, z, 4 * v, follow=Follow(method="discrete", segments=32))
    open_ = exp_map(manifold, z, 4 * v)
    mended = ~asked.converged
    assert mended.any()
    assert open_.converged.all()
    assert (open_.iterations > 32).tolist() == mended.tolist()
    assert open_.path.shape == asked.path.shape
    torch.testing.assert_close(open_.path[~mended], asked.path[~mended], rtol=0, atol=0)
    exact = exp_map(manifold, z[mended], 4 * v[mended], follow=Follow(method="discrete", segments=128))
    before, after = ((x.point[mended] - exact.point).norm() for x in (asked, open_))
    assert after < before / 2


def test_the_momentum_is_the_derivative_of_the_energy_in_the_first_node() -> None:
    manifold = geodesic.PullbackManifold(mlp())
    path = geodesic.straight_path(*torch.randn(2, 1, 2), segments=8).requires_grad_()
    (slope,) = torch.autograd.grad(geodesic.path_energy(manifold, path).sum(), path)
    torch.testing.assert_close(first_momentum(manifold, path.detach()), -slope[:, 0])


# --- the logarithm map --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", SHOT_AT)
def test_exp_undoes_log_and_its_length_is_the_known_one(name: str) -> None:
    known = KNOWN[name]
    a, b = torch.tensor(known.start), torch.tensor(known.end)
    there = log_map(known.manifold, a, b)
    back = exp_map(known.manifold, a, there.vector)
    assert there.converged
    assert (back.point - b).norm() < 1e-6
    assert float(there.length) == pytest.approx(known.length, rel=1e-6)
    torch.testing.assert_close(back.path, there.path, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["catenoid", "hyperbolic plane", "saddle"])
def test_log_undoes_exp(name: str) -> None:
    known = KNOWN[name]
    z = torch.tensor(known.start).expand(2, -1)
    v = 0.5 * torch.randn(2, z.shape[-1])
    v = v / known.manifold.squared_norm(z, v).sqrt()[:, None]
    answer = log_map(known.manifold, z, exp_map(known.manifold, z, v).point)
    torch.testing.assert_close(answer.vector, v, rtol=0, atol=1e-6)


def test_the_logarithm_of_the_same_point_is_zero() -> None:
    for method in ("ode", "discrete"):
        z = torch.tensor([[1.0, 2.0], [0.5, 0.5]])
        answer = log_map(geodesic.surfaces.Torus(), z, z.clone(), follow=Follow(method=method))
        assert answer.converged.all()
        assert torch.equal(answer.vector, torch.zeros(2, 2))
        assert torch.equal(answer.length, torch.zeros(2))


@pytest.mark.slow
def test_logarithms_of_a_batch_are_those_of_its_rows() -> None:
    manifold = geodesic.PullbackManifold(mlp())
    a, b = torch.randn(2, 2, 2, 2)
    how = {"follow": Follow(rtol=1e-4), "search": geodesic.Search(segments=16)}
    together = log_map(manifold, a, b, **how)
    assert together.vector.shape == (2, 2, 2)
    alone = log_map(manifold, a[1, 0], b[1, 0], **how)
    torch.testing.assert_close(together.vector[1, 0], alone.vector, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_solution_at_hand_is_used() -> None:
    torus, a, b = geodesic.surfaces.Torus(), torch.tensor([0.5, 0.0]), torch.tensor([2.0, 1.5])
    solution = geodesic.solve(torus, a, b, segments=16)
    answer = log_map(torus, a, b, solution=solution, follow=Follow(rtol=1e-3))
    assert answer.solution is solution
    torch.testing.assert_close(
        answer.vector,
        log_map(torus, a, b, follow=Follow(rtol=1e-3), search=geodesic.Search(segments=16)).vector,
    )
    with pytest.raises(geodesic.errors.InputError, match="its paths do not lead from start to end"):
        log_map(torus, b, a, solution=solution)


@pytest.mark.slow
def test_shooting_without_a_geodesic_equation_returns_the_discrete_logarithm() -> None:
    manifold = geodesic.PullbackManifold(mlp(nn.ReLU()))
    a, b = torch.randn(2, 3, 2)
    answer = log_map(manifold, a, b, follow=Follow(rtol=1e-6), search=geodesic.Search(segments=16))
    assert not answer.converged.any()
    assert set(answer.status.tolist()) <= {Status.SPEED_CHANGED, Status.NO_NEARER, Status.NO_GEODESIC}
    discrete = log_map(manifold, a, b, follow=Follow(method="discrete"), solution=answer.solution)
    torch.testing.assert_close(answer.vector, discrete.vector)


@pytest.mark.slow
def test_maps_take_and_return_points_in_their_latent_shape() -> None:
    net = mlp(d=4)
    flat = geodesic.PullbackManifold(net)
    shaped = geodesic.PullbackManifold(lambda z: net(z.flatten(1)), latent_shape=(2, 2))
    a, b = torch.randn(2, 2, 4) / 2
    how = {"follow": Follow(rtol=1e-4), "search": geodesic.Search(segments=8)}
    expected = log_map(flat, a, b, **how)
    answer = log_map(shaped, a.reshape(2, 2, 2), b.reshape(2, 2, 2), **how)
    torch.testing.assert_close(answer.vector, expected.vector.reshape(2, 2, 2))
    point = exp_map(shaped, a.reshape(2, 2, 2), answer.vector, follow=Follow(segments=8, rtol=1e-4))
    assert point.path.shape == (2, 9, 2, 2)
    torch.testing.assert_close(point.point, b.reshape(2, 2, 2), rtol=0, atol=1e-3)


@pytest.mark.slow
def test_a_logarithm_says_which_of_its_limits_came_first_and_either_can_be_raised() -> None:
    sphere, rough = geodesic.surfaces.Sphere(), geodesic.Search(segments=2, tol=0.9)
    a, b = torch.tensor([1.3, 0.0]), torch.tensor([1.0, 2.8])
    few = log_map(sphere, a, b, search=rough, follow=Follow(rtol=1e-3), max_iterations=1)
    short = log_map(sphere, a, b, search=rough, follow=Follow(rtol=1e-3, max_iterations=2))
    assert few.status == short.status == Status.MAX_ITERATIONS
    assert few.iterations == 1
    assert few.error > 1e-2
    assert short.error.isinf()
    enough = log_map(sphere, a, b, search=rough, follow=Follow(rtol=1e-3))
    assert bool(enough.converged)
    assert enough.iterations > 1
    torch.testing.assert_close(enough.length, sphere.distance(a, b), rtol=1e-2, atol=0)


# --- what they are given ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": torch.zeros(3, 2)}, r"v: expected the shape of z, \(2,\), got \(3, 2\); z.expand_as\(v\)"),
        ({"v": torch.zeros(2, dtype=torch.float32)}, "v: expected the dtype of z, torch.float64, got torch.float32"),
        ({"z": torch.tensor([1, 2])}, r"z: expected floating point, .* use z.double\(\)"),
        ({"v": torch.tensor([1.0, math.nan], dtype=torch.float64)}, "v: expected finite coordinates, got nan at"),
        ({"follow": {"rtol": 0.0}}, "rtol: expected a number between 0 and 1, got 0.0"),
        ({"follow": {"rtol": 1e-17}}, "rtol: expected at least 2.2e-15, which is what torch.float64 can tell apart"),
        ({"follow": {"segments": 0}}, "segments: expected an integer of at least 1, got 0"),
        ({"t": math.inf}, "t: expected a finite time, a number or of shape .*, got inf"),
        ({"t": torch.zeros(3)}, r"t: expected finite times, a number or of shape \(\)"),
        ({"follow": {"method": "euler"}}, "method: expected 'ode', 'discrete' or 'refraction', got 'euler'"),
    ],
)
def test_input_that_cannot_be_used_is_refused(change: dict[str, Any], message: str) -> None:
    arguments = {"z": torch.tensor([1.0, 2.0]), "v": torch.ones(2), "follow": {}} | change
    with pytest.raises(geodesic.errors.InputError, match=message):
        exp_map(geodesic.surfaces.Torus(), **(arguments | {"follow": Follow(**arguments["follow"])}))


def test_a_singular_metric_is_named_with_its_point() -> None:
    fold = geodesic.PullbackManifold(lambda z: torch.stack([z[:, 0], (z[:, 1] - 4) ** 2], dim=1))
    with pytest.raises(geodesic.errors.SingularMetricError, match=r"z: the metric is singular at \(3, 4\)"):
        exp_map(fold, torch.tensor([[3.0, 4.0]]), torch.ones(1, 2))
    pole = torch.zeros(2)
    with pytest.raises(geodesic.errors.SingularMetricError, match=r"end: the metric is singular at \(0, 0\)"):
        log_map(geodesic.surfaces.Sphere(), torch.ones(2), pole)


def test_manifolds_without_lengths_have_no_maps() -> None:
    ensemble = geodesic.IndependentEnsembleManifold([lambda z: z, lambda z: 2 * z])
    for f in (exp_map, log_map, geodesic.distance):
        with pytest.raises(geodesic.errors.InputError, match="do not vanish with the step"):
            f(ensemble, torch.zeros(2), torch.ones(2))


# --- the distance -------------------------------------------------------------------------------


def numerical_gradient(f, z: Tensor, step: float = 1e-5) -> Tensor:
    units = step * torch.eye(len(z))
    ahead, behind = f(torch.cat([z + units, z - units])).split(len(z))
    return (ahead - behind) / (2 * step)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANAR)
def test_the_gradient_is_that_of_the_distance_returned(name: str) -> None:
    manifold = KNOWN[name].manifold

    def f(z: Tensor) -> Tensor:
        return geodesic.distance(manifold, z[..., :2], z[..., 2:], search=geodesic.Search(tol=1e-15, segments=16))

    z = torch.tensor(KNOWN[name].start + KNOWN[name].end, requires_grad=True)
    (gradient,) = torch.autograd.grad(f(z), z)
    expected = numerical_gradient(f, z.detach())
    assert (gradient - expected).abs().max() < 1e-8 * expected.abs().max()


@pytest.mark.parametrize(
    "name", [name for name in PLANAR if isinstance(KNOWN[name].manifold, geodesic.surfaces.DistanceManifold)]
)
def test_distance_and_gradient_are_those_of_the_closed_form(name: str) -> None:
    manifold = KNOWN[name].manifold
    ends = [torch.tensor(z, requires_grad=True) for z in (KNOWN[name].start, KNOWN[name].end)]
    ours, exact = (
        geodesic.distance(manifold, *ends, search=geodesic.Search(segments=64, tol=1e-12)),
        manifold.distance(*ends),
    )
    torch.testing.assert_close(ours, exact, rtol=1e-6, atol=0)
    for mine, true in zip(torch.autograd.grad(ours, ends), torch.autograd.grad(exact, ends), strict=True):
        torch.testing.assert_close(mine, true, rtol=0, atol=2e-6 * float(true.abs().max()))


@pytest.mark.slow
def test_the_gradient_is_the_first_variation() -> None:
    manifold = geodesic.PullbackManifold(mlp())
    a, b = (z.requires_grad_() for z in torch.randn(2, 1, 2))
    at_a, at_b = torch.autograd.grad(
        geodesic.distance(manifold, a, b, search=geodesic.Search(segments=64, tol=1e-12)).sum(), (a, b)
    )
    there, back = (
        log_map(manifold, *(z.detach() for z in ends), follow=Follow(rtol=1e-6)) for ends in ((a, b), (b, a))
    )
    for z, log, gradient in ((a, there, at_a), (b, back, at_b)):
        expected = -torch.linalg.vecdot(manifold.metric_tensor(z), (log.vector / log.length[:, None])[:, None])
        torch.testing.assert_close(gradient, expected.detach(), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_the_gradient_reaches_every_parameter_of_the_decoder() -> None:
    net = mlp().requires_grad_()
    manifold = geodesic.PullbackManifold(net)
    a, b = torch.randn(2, 2, 2)

    def f() -> Tensor:
        return geodesic.distance(manifold, a, b, search=geodesic.Search(tol=1e-15, segments=8)).sum()

    f().backward()
    for parameter in net.parameters():
        entries = parameter.data.view(-1)
        for i in (0, len(entries) - 1):
            entries[i] += 1e-5
            above = float(f().detach())
            entries[i] -= 2e-5
            below = float(f().detach())
            entries[i] += 1e-5
            assert (above - below) / 2e-5 == pytest.approx(float(parameter.grad.view(-1)[i]), rel=1e-6, abs=1e-8)


@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")  # as it should: paths are coarse here
@pytest.mark.slow
def test_a_loss_can_ask_for_a_distance() -> None:
    net = mlp().requires_grad_()
    manifold = geodesic.PullbackManifold(net)
    a, b = torch.randn(2, 3, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-2)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (geodesic.distance(manifold, a, b, search=geodesic.Search(segments=4)) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 20


def test_equal_points_have_distance_and_gradient_zero() -> None:
    a = torch.tensor([[1.0, 2.0], [0.5, 0.5]], requires_grad=True)
    b = torch.tensor([[1.0, 2.0], [0.7, 0.5]], requires_grad=True)
    d = geodesic.distance(geodesic.surfaces.Torus(), a, b)
    d.sum().backward()
    assert d[0] == 0
    assert torch.equal(a.grad[0], torch.zeros(2))
    assert (a.grad[1] != 0).any()


@pytest.mark.slow
def test_distances_are_a_metric() -> None:
    manifold = geodesic.PullbackManifold(mlp())
    a, b, c = torch.randn(3, 3, 2)
    ab, ba, bc, ac = (
        geodesic.distance(manifold, *ends, search=geodesic.Search(init="best"))
        for ends in ((a, b), (b, a), (b, c), (a, c))
    )
    torch.testing.assert_close(ab, ba, rtol=1e-5, atol=0)
    assert (ac <= ab + bc + 1e-5).all()


def test_pairs_that_did_not_converge_are_warned_of() -> None:
    a, b = torch.tensor([0.5, 0.0]), torch.tensor([2.0, 1.5])
    with pytest.warns(geodesic.errors.GeodesicWarning, match="distance: of 1 geodesics 1 did not converge"):
        geodesic.distance(
            geodesic.surfaces.Torus(),
            a,
            b,
            search=geodesic.Search(solver=geodesic.GradientDescent(), max_steps=1, tol=1e-14),
        )


@pytest.mark.cuda
def test_maps_and_distance_run_on_cuda() -> None:
    net = mlp().cuda()
    manifold = geodesic.PullbackManifold(net)
    a, b = torch.randn(2, 8, 2, device="cuda")
    there = log_map(manifold, a, b)
    assert there.converged.all()
    torch.testing.assert_close(exp_map(manifold, a, there.vector).point, b, rtol=0, atol=1e-6)
    back = exp_map(
        manifold,
        a,
        log_map(manifold, a, b, follow=Follow(method="discrete")).vector,
        follow=Follow(method="discrete"),
    )
    torch.testing.assert_close(back.point, b, rtol=0, atol=1e-3)
    a.requires_grad_()
    geodesic.distance(manifold, a, b).sum().backward()
    assert a.grad.is_cuda
    assert a.grad.isfinite().all()


def test_a_distance_of_which_nobody_asks_a_gradient_carries_no_history() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([1.2, 1.0])
    sphere = geodesic.surfaces.Sphere()
    assert not geodesic.distance(sphere, a, b, search=geodesic.Search(segments=8)).requires_grad
    assert geodesic.distance(sphere, a, b.requires_grad_(), search=geodesic.Search(segments=8)).requires_grad
    with torch.no_grad():
        assert not geodesic.distance(sphere, a, b, search=geodesic.Search(segments=8)).requires_grad


def test_a_distance_of_equal_points_alone_has_a_gradient_too() -> None:
    manifold = geodesic.PullbackManifold(mlp().requires_grad_())
    a = torch.randn(3, 2, requires_grad=True)
    geodesic.distance(manifold, a, a.detach()).sum().backward()
    assert torch.equal(a.grad, torch.zeros(3, 2))


def test_a_pair_without_a_finite_path_is_not_shot_at() -> None:
    # Beyond z = 1 the decoder has no finite output: no path of this pair has an energy.
    wall = geodesic.PullbackManifold(lambda z: torch.cat([z, (1 - z[:, :1].square()).abs().log()], dim=1))
    a, b = torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.2, 0.3], [2.0, 0.0]])
    answer = log_map(wall, a, b, search=geodesic.Search(segments=16))
    assert answer.converged.tolist() == [True, False]
    assert answer.status[1] in (Status.NO_GEODESIC, Status.NO_NEARER)
