"""What Newton's method rests on: the exact Hessian, its convex part, products with it, and what they certify."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic import LBFGS, Newton, Status
from geodesic.geometry.energy import energy_and_gradient
from geodesic.geometry.excess import newton_step
from geodesic.solvers.krylov import certify
from scripts.benchmarks.counting import flops_of
from tests import surfaces
from tests.decoders import network, pairs


def with_latent(decoder: nn.Module) -> Callable[[Tensor], Tensor]:
    """The decoder with its latent point beside its output: regular, however many latent coordinates there are."""
    return lambda z: torch.cat([decoder(z), z], dim=1)


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("manifold", [geodesic.PullbackManifold(network()), geodesic.surfaces.HyperbolicPlane()])
def test_the_hessian_is_the_derivative_of_the_gradient_and_that_of_the_energy(manifold, even: bool) -> None:
    path = torch.stack([torch.linspace(-1, 1, 6), 1.5 + torch.rand(6)], dim=-1)[None]
    weights = None if even else 0.5 + torch.rand(1, 5)
    expansion = manifold.expansion(path, weights)
    chords, gradient, product = manifold.gradient_and_product(path, weights)
    torch.testing.assert_close(gradient, expansion.gradient, rtol=1e-10, atol=1e-12)
    expected = manifold.squared_chords(path) * (1 if even else weights)
    for found in (chords, expansion.squared_chords, manifold.chords_and_pullback(path, weights)[0]):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    hessian = expansion.hessian
    units = torch.eye(8).reshape(8, 4, 2)
    columns = torch.stack([product(unit[None]) for unit in units])[:, 0].reshape(8, 8)
    dense = torch.zeros(8, 8)
    for i in range(4):
        dense[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = hessian.diagonal[0, i]
        if i < 3:
            dense[2 * i : 2 * i + 2, 2 * i + 2 : 2 * i + 4] = hessian.upper[0, i]
            dense[2 * i + 2 : 2 * i + 4, 2 * i : 2 * i + 2] = hessian.upper[0, i].T
    torch.testing.assert_close(columns, dense, rtol=1e-10, atol=1e-10)
    step = 1e-6
    for j in range(8):
        change = torch.nn.functional.pad(step * units[j], (0, 0, 1, 1))
        ahead, behind = (energy_and_gradient(manifold, path + c, weights) for c in (change, -change))
        torch.testing.assert_close(
            (ahead[1] - behind[1]).reshape(8) / (2 * step) / 5, dense[:, j], rtol=1e-6, atol=1e-6
        )
        slope = 5 * (gradient.reshape(8) * units[j].reshape(8)).sum()
        torch.testing.assert_close((ahead[0] - behind[0])[0] / (2 * step), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("manifold", [geodesic.PullbackManifold(network()), geodesic.surfaces.HyperbolicPlane()])
def test_without_its_negative_part_the_hessian_is_semidefinite_and_with_all_of_it_exact(manifold) -> None:
    path = torch.stack([torch.linspace(-2, 2, 6), 0.3 + 2 * torch.rand(6)], dim=-1)[None]
    expansion, rows = manifold.expansion(path), torch.tensor([0])
    exact = expansion.convexified(rows, 1.0)
    torch.testing.assert_close(exact.diagonal, expansion.hessian.diagonal, rtol=1e-10, atol=1e-10)
    convex = expansion.convexified(rows, 0.0)
    assert bool(convex.damped(1e-12).cholesky().positive)


def test_a_step_of_the_quadratic_model_is_a_direction_of_descent_wherever_it_is_finite() -> None:
    manifold = geodesic.PullbackManifold(network())
    paths = torch.randn(20, 9, 2)  # far from geodesics, where most Hessians are indefinite
    step = newton_step(manifold.expansion(paths))
    assert not step.minimum.all()
    assert (step.excess > 0).all()
    slope = (geodesic.energy_gradient(manifold, paths) * step.direction).sum((1, 2))
    assert (slope > 0).all()


def test_newton_ends_quadratically() -> None:
    manifold = geodesic.PullbackManifold(network())
    path = geodesic.solve(manifold, *pairs(4), tol=1e-5).path
    solver, excess = Newton(warm_up=None), []
    state = solver.begin(manifold, path, torch.ones_like(path[:, 1:, 0]))
    for _ in range(4):
        excess.append(state.excess)
        state = solver.step(manifold, state)
    # The excess is quadratic in the distance, which is squared at each step.
    assert (excess[1] < 1e3 * excess[0] ** 1.5).all()
    assert (excess[2] < 1e-15).all()


def test_a_hessian_is_kept_while_it_leads_on(monkeypatch: pytest.MonkeyPatch) -> None:
    manifold, formed = geodesic.PullbackManifold(network()), []
    expansion = type(manifold).expansion
    monkeypatch.setattr(
        type(manifold), "expansion", lambda self, path, *rest: formed.append(len(path)) or expansion(self, path, *rest)
    )
    a, b = pairs(8)
    solution = geodesic.solve(manifold, a, b, tol=1e-10, segments=32)
    assert solution.converged.all()
    assert sum(formed) < 1.5 * 8  # one where the warm-up ended, and few more
    monkeypatch.undo()
    # The certificate by a Hessian from before is that by the path's own, to a fifth.
    own = geodesic.geometry.relative_excess_energy(manifold, solution.path)
    assert (own < 1.2 * solution.relative_excess_energy + 1e-14).all()


def test_what_is_no_step_costs_a_bounded_number_of_passes() -> None:
    manifold = geodesic.PullbackManifold(network(width=64, outputs=400))
    a, b = pairs(8)
    path = geodesic.straight_path(a, b)
    once = flops_of(lambda: manifold.observe(path))
    manifold.door.derivatives(path)  # looked at before
    started = flops_of(lambda: geodesic.solve(manifold, a, b, segments=32, solver=geodesic.LBFGS(), max_steps=1))
    # Two for the straight line, two for the first gradient, 4 for two trials, 6 for the certificate, 15 of measuring.
    assert started < 31 * once


@pytest.mark.slow
def test_work_is_linear_in_the_segments() -> None:
    rows: list[int] = []
    decoder = network()

    def counted(z: torch.Tensor) -> torch.Tensor:
        rows.append(len(z))
        return decoder(z)

    counts, work = [16, 64, 256], []
    for T in counts:
        rows.clear()
        geodesic.solve(geodesic.PullbackManifold(counted), *pairs(2), segments=T)
        work.append(sum(rows))
    assert np.polyfit(np.log(counts), np.log(work), 1)[0] < 1.1


def test_a_saddle_is_called_converged_and_no_minimum() -> None:
    """More than halfway round the inner equator of a torus there are shorter ways beside it."""
    torus = geodesic.surfaces.Torus()
    start, end = torch.tensor([0.0, 0.0]), torch.tensor([0.0, 6.0])  # the outer equator: past its conjugate point
    solution = geodesic.solve(torus, start, end)
    assert bool(solution.converged)
    assert not bool(solution.minimum)
    assert "no strict minimum" in solution.summary()


def test_a_singular_hessian_is_no_strict_minimum() -> None:
    # All half circles from pole to pole are equally long; the radius is ignored besides.
    sphere = geodesic.PullbackManifold(lambda z: nn.functional.normalize(z, dim=1))
    start, end = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, -1.0])
    t = torch.linspace(0, torch.pi, 33)
    way = torch.stack([t.sin(), 0 * t, t.cos()], dim=1)
    way[0], way[-1] = start, end
    solution = geodesic.solve(sphere, start, end, init=way)
    assert solution.converged
    assert not solution.minimum


def test_what_the_outputs_ignore_is_no_part_of_a_minimum_and_said() -> None:
    A = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    solution = geodesic.solve(geodesic.PullbackManifold(lambda z: z @ A), *pairs(3))
    assert (solution.converged & solution.minimum).all()
    assert (solution.rank_deficiency == 1).all()


@pytest.mark.slow
def test_products_alone_tell_a_saddle_from_a_minimum() -> None:
    def hilly(z: torch.Tensor) -> torch.Tensor:
        return torch.cat([z, 3 * (-z.square().sum(1, keepdim=True)).exp()], dim=1)

    end = torch.zeros(34)
    end[0] = 1.5
    over = geodesic.solve(geodesic.PullbackManifold(hilly), -end, end)
    aside = geodesic.solve(geodesic.PullbackManifold(hilly), -end, end + 0.1)
    assert bool(over.converged)
    assert not bool(over.minimum)
    assert bool(aside.minimum)
    assert float(aside.length) < float(over.length)


@pytest.mark.slow
def test_what_products_certify_is_the_excess_of_the_exact_hessian_to_a_quarter_and_no_less_at_the_end() -> None:
    d = 40
    scales, net = 10 ** -torch.linspace(0, 3, d), network(d, width=64, outputs=80)
    manifold = geodesic.PullbackManifold(lambda z: net(z * scales))
    start, end = pairs(2, d)
    loose = geodesic.solve(manifold, start, end, solver=LBFGS(), segments=8, tol=1e-9, max_steps=40).path
    certified = certify(manifold, loose, torch.ones(2, 8), torch.zeros(2))
    exact = geodesic.geometry.relative_excess_energy(manifold, loose)
    assert certified.minimum.all()
    assert (exact > 1e-5).all()
    assert (certified.excess >= 0.8 * exact).all()
    assert (certified.excess <= 1.25 * exact).all()
    solution = geodesic.solve(manifold, start, end, segments=8, tol=1e-4)
    assert solution.converged.all()
    exact = geodesic.geometry.relative_excess_energy(manifold, solution.path)
    assert (exact <= solution.relative_excess_energy).all()
    assert (solution.relative_excess_energy <= 1e-4).all()


@pytest.mark.slow
def test_thousands_of_latent_coordinates_form_no_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("a Jacobian was formed")

    for name in ("jacobian", "metric_tensor", "expansion"):
        monkeypatch.setattr(geodesic.geometry.EmbeddedManifold, name, forbidden)
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(2048, 16), nn.Tanh(), nn.Linear(16, 8)).double().requires_grad_(False)
    manifold = geodesic.PullbackManifold(lambda z: torch.cat([decoder(z), z / 10], dim=1))
    solution = geodesic.solve(manifold, *pairs(2, 2048), segments=16)
    assert solution.converged.all()
    assert solution.plan.reason.startswith("NewtonKrylov: d = 2048 is above 32")


@pytest.mark.parametrize(("d", "name"), [(2, "Newton: d = 2"), (40, "NewtonKrylov: d = 40")])
def test_auto_says_which_solver_and_why(d: int, name: str) -> None:
    solution = geodesic.solve(geodesic.PullbackManifold(with_latent(network(d))), *pairs(2, d), segments=8)
    assert solution.plan.reason.startswith(name)
    assert solution.converged.all()


@pytest.mark.parametrize("d", [2, 34])
def test_backward_passes_without_forward_mode_rules_will_do(d: int) -> None:
    decoder = with_latent(network(d, activation=nn.SiLU))
    solution = geodesic.solve(geodesic.PullbackManifold(decoder), *pairs(2, d), segments=8)
    assert solution.converged.all()
    assert solution.decoder_residual.isfinite().all()


@pytest.mark.slow
def test_steps_that_the_warm_up_leaves_are_the_solvers() -> None:
    manifold, start, end, *_ = surfaces.KNOWN["paraboloid"]
    solution = geodesic.solve(
        manifold, torch.tensor(start), torch.tensor(end), solver=Newton(), max_steps=100, tol=1e-30
    )
    assert int(solution.status) != Status.MAX_STEPS


class Slope(torch.autograd.Function):
    """1, with a derivative that is NaN between 8.4 and 8.6."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return torch.ones_like(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, v):
        return torch.where((ctx.saved_tensors[0] - 8.5).abs() < 0.1, torch.nan, 0 * v)

    @staticmethod
    def jvp(ctx, u):
        return torch.where((ctx.saved_tensors[0] - 8.5).abs() < 0.1, torch.nan, 0 * u)


class Rough(torch.autograd.Function):
    """x, with derivative 1 and a second derivative that is NaN between 8.4 and 8.6, where no end of a path lies."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, v):
        return v * Slope.apply(ctx.saved_tensors[0])

    @staticmethod
    def jvp(ctx, u):
        return u * Slope.apply(ctx.saved_tensors[0])


@pytest.mark.parametrize("solver", [Newton(), Newton(warm_up=None)])
def test_second_derivatives_that_are_not_finite_end_their_pair_alone(solver: Newton) -> None:
    manifold = geodesic.PullbackManifold(lambda z: torch.cat([Rough.apply(z), z.square()], dim=1))
    start, end = torch.tensor([[0.0, 1.0], [8.0, 0.0]]), torch.tensor([[1.0, 2.0], [9.0, 1.0]])
    solution = geodesic.solve(manifold, start, end, solver=solver)
    assert solution.status.tolist() == [Status.CONVERGED, Status.NOT_FINITE]
    assert not bool(solution.converged[1])
    assert "its derivatives are not finite" in solution.summary()
