"""Gradient descent on the path energy, along the decoder's gradient or Shao et al.'s encoder direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.checks import require_choice, require_flag, require_positive
from geodesic.errors import InputError
from geodesic.geometry.encoder import Encoder, encoder_form
from geodesic.geometry.energy import energy_and_gradient
from geodesic.geometry.manifold import Manifold
from geodesic.numerics.line_search import SUFFICIENT_DECREASE, Trial, backtrack
from geodesic.registry import setting
from geodesic.solvers.krylov import LARGEST_EXPLICIT, certify
from geodesic.solvers.solver import SOLVERS, Certificate, Solver, inner, moved
from geodesic.solvers.status import Status
from geodesic.solvers.stiffness import inverse_laplacian

__all__ = ["GradientDescent"]

_MAX_GROWTH = 10.0
_DIRECTIONS = ("decoder", "encoder")
_METHODS = ("forward", "double_vjp")


class _State(NamedTuple):
    path: Float[Tensor, "P nodes d"]
    weights: Float[Tensor, "P T"]
    energy: Float[Tensor, " P"]
    excess: Float[Tensor, " P"]  # no estimate: zero
    gradient: Float[Tensor, "P interior d"]  # of half the weighted squared chords
    alpha: Float[Tensor, " P"]  # the step to try next
    status: Int[Tensor, " P"]


@SOLVERS.register("gradient_descent")
@dataclass(frozen=True)
class GradientDescent(Solver[_State]):
    """z_i <- z_i - alpha p_i, with p the energy gradient or the encoder direction, preconditioned or not.

    The gradient's condition number grows with T^2, that of the 1-D Laplacian in time. Preconditioning divides
    it out: p = (T K)^{-1} dE/dz with K = tridiag(-1, 2, -1), at the price of two cumulative sums.

    Without a fixed step, each pair keeps its own: Barzilai and Borwein's for the decoder, twice the last
    one for the encoder, halved until the energy falls (Armijo's rule for the decoder).

    Warning:
        The encoder direction does not find geodesics in general, see `encoder_direction`. `solve` never
        takes its zeros for convergence.

    Reference:
        H. Shao, A. Kumar, P. T. Fletcher, The Riemannian Geometry of Deep Generative Models, 2017, algorithm 1;
        J. Barzilai, J. M. Borwein, Two-Point Step Size Gradient Methods, 1988.

    Args:
        direction: `decoder` for the gradient, `encoder` for Shao et al.'s encoder form.
        encoder: Row-wise function h from embedded outputs (N, ...) to latent points (N, d); required by
            `direction="encoder"`. A module should be in evaluation mode.
        step_size: A fixed alpha; by default backtracking for each path.
        preconditioned: Whether to precondition by the inverse 1-D Laplacian in time.
        epsilon: Shao et al.'s stopping rule: a pair ends when sum_i |eta_i|^2 <= epsilon, with eta the direction
            before preconditioning. It depends on the scale of the outputs; `solve` tests for convergence by
            itself.
        mode: How the encoder direction is computed, `forward` or `double_vjp`.

    Raises:
        InputError: A setting is out of range, or the encoder is missing.
        DecoderError: The encoder is a module in training mode with layers that behave differently there.

    Example:
        >>> import torch, geodesic
        >>> paraboloid = geodesic.PullbackManifold(lambda z: torch.cat([z, (z * z).sum(1, True)], dim=1))
        >>> a, b = torch.tensor([1.0, 0.0]), torch.tensor([-0.5, 1.0])
        >>> solution = geodesic.solve(paraboloid, a, b, solver=geodesic.GradientDescent())
        >>> print(f"{float(solution.length):.3f} of {float(solution.straight_length):.3f}")
        2.099 of 2.543
    """

    direction: str = field(
        default="decoder",
        metadata=setting("the gradient, or Shao et al.'s encoder form", words={word: word for word in _DIRECTIONS}),
    )
    encoder: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)
    step_size: float | None = field(
        default=None, metadata=setting("fixed step; null: backtracking for each path", gt=0)
    )
    preconditioned: bool = field(
        default=True, metadata=setting("whether to precondition by the inverse Laplacian in time")
    )
    epsilon: float | None = field(default=None, metadata=setting("stop when sum |eta_i|^2 <= epsilon", gt=0))
    mode: str = field(
        default="forward",
        metadata=setting("how the encoder direction takes its products", words={word: word for word in _METHODS}),
    )

    check_every: ClassVar[int] = 10  # a certificate costs many times as much as a step

    def __post_init__(self) -> None:
        require_choice("direction", self.direction, _DIRECTIONS)
        if self.direction == "encoder" and self.encoder is None:
            raise InputError("encoder: direction='encoder' needs the encoder h; pass encoder=vae.encode")
        if self.encoder is not None:
            Encoder(self.encoder)
        require_flag("preconditioned", self.preconditioned)
        require_choice("mode", self.mode, _METHODS)
        require_positive("step_size", self.step_size, optional=True)
        require_positive("epsilon", self.epsilon, optional=True)

    @cached_property
    def _encoder(self) -> Encoder | None:
        return None if self.encoder is None else Encoder(self.encoder)

    def uses_hessian(self, d: int) -> bool:
        return d <= LARGEST_EXPLICIT

    def preconditioned_by(self, d: int, forms_metric: bool) -> str:
        return "the Laplacian in time" if self.preconditioned else "nothing"

    def begin(self, manifold: Manifold, path: Tensor, weights: Tensor) -> _State:
        energy, gradient = _evaluated(manifold, path, weights)
        status = torch.zeros(len(path), dtype=torch.int64, device=path.device)
        state = _State(path, weights, energy, torch.zeros_like(energy), gradient, torch.ones_like(energy), status)
        if self.step_size is not None:
            return state._replace(alpha=torch.full_like(energy, self.step_size))
        return state._replace(alpha=self._cauchy_step(manifold, state))

    def step(self, manifold: Manifold, state: _State) -> _State:
        eta, p = self._directions(manifold, state)
        obeyed = torch.zeros_like(state.status, dtype=torch.bool)
        if self.epsilon is not None:
            obeyed = eta.square().sum((-2, -1)) <= self.epsilon

        if self.step_size is not None:
            path = moved(state.path, state.alpha[:, None, None] * p)
            failed = torch.zeros_like(obeyed)
        else:
            path, alpha, failed = self._backtrack(manifold, state, p)
            state = state._replace(alpha=alpha)
        energy, gradient = _evaluated(manifold, path, state.weights)
        finite = energy.isfinite() & gradient.isfinite().all(-1).all(-1)

        status = torch.where(finite, state.status, Status.DIVERGED)
        status = torch.where(failed, Status.STALLED, status)
        status = torch.where(obeyed, Status.OWN_RULE, status)
        kept = (status == Status.RUNNING)[:, None, None]  # a pair that ends keeps its last good path
        new = _State(
            torch.where(kept, path, state.path),
            state.weights,
            torch.where(kept[:, 0, 0], energy, state.energy),
            state.excess,
            torch.where(kept, gradient, state.gradient),
            state.alpha,
            status,
        )
        return new._replace(alpha=self._next_step_size(state, new, p))

    def certify(self, manifold: Manifold, state: _State, tol: Float[Tensor, " P"]) -> Certificate:
        return certify(manifold, state.path, state.weights, tol)

    def _directions(self, manifold: Manifold, state: _State) -> tuple[Tensor, Tensor]:
        """eta, and p: eta preconditioned, if asked for."""
        eta = (state.path.shape[1] - 1) * state.gradient
        if self.direction == "encoder" and self._encoder is not None:
            eta = encoder_form(manifold, state.path, self._encoder, self.mode, state.weights)
        return eta, inverse_laplacian(eta, state.weights) if self.preconditioned else eta

    def _cauchy_step(self, manifold: Manifold, state: _State) -> Tensor:
        """<g, p> / <p, S p>: the minimizer along p of the Gauss-Newton model, which has the right scale."""
        _, p = self._directions(manifold, state)
        # p is of the order of the squared outputs: products with it would leave the range of float32.
        size = p.abs().amax((1, 2)).clamp_min(torch.finfo(p.dtype).tiny)
        p = p / size[:, None, None]
        middle = (state.path[:, 1:] + state.path[:, :-1]) / 2
        change = torch.nn.functional.pad(p, (0, 0, 1, 1)).diff(dim=1)
        with torch.no_grad():
            curvature = (state.weights * manifold.squared_norm(middle, change)).sum(-1)
        alpha = inner(state.gradient, p) / curvature / size
        # A direction of ascent or without effect gets a step too, for backtracking to refuse.
        return torch.where((alpha > 0) & alpha.isfinite(), alpha, torch.ones_like(alpha))

    def _backtrack(self, manifold: Manifold, state: _State, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Halve each pair's step until its energy falls enough; pairs that never do are marked as failed."""
        T = state.path.shape[1] - 1
        decrease = torch.zeros_like(state.alpha)  # that the slope at the first trial promises
        if self.direction == "decoder":
            decrease = T * inner(state.gradient, state.alpha[:, None, None] * p)

        def trial(rows: Tensor, alpha: Tensor) -> Trial:
            path = moved(state.path[rows], alpha[:, None, None] * p[rows])
            with torch.no_grad():
                energy = T / 2 * (state.weights[rows] * manifold.squared_chords(path)).sum(-1)
            promised = alpha / state.alpha[rows] * decrease[rows]
            return Trial(energy < state.energy[rows] - SUFFICIENT_DECREASE * promised, lambda: (path,), alpha / 2)

        (path,), alpha, failed = backtrack(trial, (state.path,), state.alpha)
        return path, alpha, failed

    def _next_step_size(self, old: _State, new: _State, p: Tensor) -> Tensor:
        if self.step_size is not None:
            return new.alpha
        alpha = new.alpha
        if self.direction == "encoder":
            return 2 * alpha
        # Barzilai and Borwein's <s, M s> / <s, y> with s = -alpha p, M p = g and y the change of the gradient.
        y = new.gradient - old.gradient
        step = alpha[:, None, None] * p  # of the order of the path, whatever the scale of the outputs
        proposal = -alpha * inner(old.gradient, step) / inner(y, step)
        proposal = torch.where(proposal > 0, proposal, 2 * alpha)
        return torch.minimum(torch.maximum(proposal, alpha / _MAX_GROWTH), alpha * _MAX_GROWTH)


def _evaluated(manifold: Manifold, path: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Energies, and the gradients of half the weighted squared chords."""
    energy, gradient = energy_and_gradient(manifold, path, weights)
    return energy, gradient / (path.shape[1] - 1)
