"""Gradient descent: what preconditioning gains, Shao et al.'s encoder form and stopping rule, and what is refused."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic import GradientDescent, Status
from geodesic.errors import DecoderError
from tests import surfaces


@pytest.mark.slow
def test_preconditioning_takes_away_the_growth_of_steps_with_the_segments() -> None:
    manifold, start, end, *_ = surfaces.KNOWN["paraboloid"]

    def steps(preconditioned: bool, T: int) -> int:
        solver = GradientDescent(preconditioned=preconditioned)
        solution = geodesic.solve(
            manifold, torch.tensor(start), torch.tensor(end), solver=solver, segments=T, max_steps=20000
        )
        assert bool(solution.converged)
        return int(solution.iterations)

    assert steps(True, 32) <= steps(True, 8) + 10
    assert steps(False, 16) >= 8 * steps(True, 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "preconditioned"), [(1e-12, True), (1e-8, True), (1e8, True), (1e12, True), (1e-12, False), (1e12, False)]
)
def test_single_precision_converges_whatever_the_scale_of_the_outputs(scale: float, preconditioned: bool) -> None:
    start, end = (torch.tensor(z, dtype=torch.float32) for z in ((1.0, 0.0), (-0.5, 1.0)))
    manifold = geodesic.PullbackManifold(lambda z: scale * geodesic.surfaces.Paraboloid().embed(z))
    # Plain descent needs steps whose gain is lost in the rounding of float32 before it comes nearer.
    solver, tol = GradientDescent(preconditioned=preconditioned), 1e-5 if preconditioned else 1e-3
    solution = geodesic.solve(manifold, start, end, solver=solver, tol=tol, segments=32 if preconditioned else 16)
    assert bool(solution.converged)
    assert float(solution.length) / scale == pytest.approx(2.0993679, rel=tol)


def test_the_encoder_form_stops_on_the_straight_line_of_the_paraboloid_and_is_not_called_converged() -> None:
    """H = (x_1, x_2) inverts g exactly, yet its direction vanishes on every straight line."""
    manifold, start, end, length, straight = surfaces.KNOWN["paraboloid"]

    def encoder(x: torch.Tensor) -> torch.Tensor:
        return x[:, :2]

    path = geodesic.straight_path(torch.tensor(start), torch.tensor(end))
    assert geodesic.encoder_direction(manifold, path, encoder).abs().max() < 1e-13
    for step_size, epsilon, status in (
        (None, None, Status.STALLED),
        (0.1, None, Status.STALLED),
        (0.1, 1e-6, Status.OWN_RULE),
    ):
        solution = geodesic.solve(
            manifold,
            torch.tensor(start),
            torch.tensor(end),
            solver=GradientDescent("encoder", encoder, step_size=step_size, epsilon=epsilon),
            init=path,
            max_steps=50,
        )
        assert float(solution.length) == pytest.approx(straight, abs=1e-6)
        assert not bool(solution.converged)
        assert int(solution.status) == status
        assert float(solution.decoder_residual) > 1
    decoder_form = geodesic.solve(manifold, torch.tensor(start), torch.tensor(end))
    assert float(decoder_form.decoder_residual) < 2e-2
    assert float(decoder_form.length) == pytest.approx(length, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["forward", "double_vjp"])
def test_the_encoder_form_finds_geodesics_of_flat_space(mode: str) -> None:
    A, a, b = torch.randn(5, 2), torch.tensor([-1.0, 0.5]), torch.ones(2)
    pinv = torch.linalg.pinv(A)
    manifold = geodesic.PullbackManifold(lambda z: z.sinh() @ A.T)
    solver = GradientDescent("encoder", lambda x: (x @ pinv.T).asinh(), mode=mode)
    solution = geodesic.solve(manifold, a, b, solver=solver, tol=1e-8)
    expected = (A @ (b.sinh() - a.sinh())).norm()
    assert bool(solution.converged)
    assert float(solution.length) == pytest.approx(float(expected), rel=1e-5)


def test_shaos_rule_stops_a_pair_and_convergence_is_judged_apart_from_it() -> None:
    manifold, start, end, *_ = surfaces.KNOWN["paraboloid"]
    loose, tight = (
        geodesic.solve(
            manifold,
            torch.tensor(start),
            torch.tensor(end),
            solver=GradientDescent(epsilon=epsilon),
            tol=tol,
        )
        for epsilon, tol in ((1.0, 1e-9), (1e-6, 1e-3))
    )
    assert int(loose.status) == Status.OWN_RULE
    assert not bool(loose.converged)
    assert bool(tight.converged)


def test_a_fixed_step_that_is_too_long_is_said_to_diverge_and_leaves_a_finite_path() -> None:
    manifold, start, end, *_ = surfaces.KNOWN["paraboloid"]
    solution = geodesic.solve(manifold, torch.tensor(start), torch.tensor(end), solver=GradientDescent(step_size=1e3))
    assert int(solution.status) == Status.DIVERGED
    assert solution.path.isfinite().all()
    assert "lower step_size" in solution.summary()


class Model(nn.Module):
    """A model whose encoder is a method, as a VAE's is."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), *layers, nn.Linear(4, 2))

    def encode(self, x: Tensor) -> Tensor:
        return self.net(x)


ENCODERS: dict[str, Callable[[Model], Callable[[Tensor], Tensor]]] = {
    "module": lambda model: model.net,
    "bound method": lambda model: model.encode,
}


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.Dropout(0.5)], ids=["batch norm", "dropout"])
@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_in_training_mode_is_refused_until_it_is_in_evaluation_mode(kind: str, layer: nn.Module) -> None:
    model = Model(layer)
    encoder = ENCODERS[kind](model.train())
    with pytest.raises(DecoderError, match=rf"^encoder: its layer '.*' \({type(layer).__name__}\) .*encoder\.eval"):
        GradientDescent("encoder", encoder)
    model.eval()
    assert GradientDescent("encoder", encoder).encoder == encoder


def test_an_encoder_without_layers_that_differ_in_training_may_be_in_training_mode() -> None:
    for encoder in (Model().train().encode, torch.sin):
        assert GradientDescent("encoder", encoder).encoder == encoder
