"""The answer: the paths, what was measured on them, and for each pair whether and why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["GeodesicSolution", "Progress", "Status"]


class Status(IntEnum):
    """Why a pair ended. `remedy` says what to do about it.

    Example:
        >>> import geodesic
        >>> print(geodesic.Status.MAX_STEPS.remedy)
        the step limit came first: raise max_steps, raise tol, or use a preconditioned solver
    """

    RUNNING = 0
    CONVERGED = 1
    MAX_STEPS = 2
    STALLED = 3
    OWN_RULE = 4
    DIVERGED = 5

    @property
    def remedy(self) -> str:
        """What happened and what to do, in one line."""
        return _REMEDIES[self]


_REMEDIES = {
    Status.RUNNING: "still running",
    Status.CONVERGED: "converged: the relative excess energy is at most tol",
    Status.MAX_STEPS: "the step limit came first: raise max_steps, raise tol, or use a preconditioned solver",
    Status.STALLED: (
        "no step along the solver's direction lowers the energy: use the decoder direction if this was the "
        "encoder's, float64 if this was float32"
    ),
    Status.OWN_RULE: (
        "the solver's own rule stopped it before the relative excess energy reached tol: lower epsilon, or "
        "use the decoder direction if this was the encoder's"
    ),
    Status.DIVERGED: "the fixed step left the region where the energy is finite: lower step_size or drop it",
}


@dataclass(frozen=True)
class Progress:
    """What `solve` tells its callback after each step, for all pairs, in the order given.

    Attributes:
        step: Number of steps done; 0 before the first.
        energy: Energies, (*batch,).
        active: Which pairs are still being improved, (*batch,), boolean.
        converged: Which pairs have converged, (*batch,), boolean.
    """

    step: int
    energy: Float[Tensor, "*batch"]
    active: Bool[Tensor, "*batch"]
    converged: Bool[Tensor, "*batch"]


@dataclass(frozen=True)
class GeodesicSolution:
    """Geodesics between pairs of points. Leading axes are those of the endpoints.

    Attributes:
        path: Nodes, (*batch, T + 1, d), equally spaced in time.
        energy: E = (T/2) sum |x_{i+1} - x_i|^2, (*batch,).
        initial_energy: E of the straight line, (*batch,).
        length: Riemannian length of the spline through the nodes, (*batch,).
        straight_length: Riemannian length of the straight line, (*batch,).
        relative_excess_energy: Estimate of the part of E still to gain, (*batch,).
        decoder_residual: Largest tangential acceleration at the nodes over the speed, (*batch,).
        converged: Whether the relative excess energy is at most `tol`, (*batch,), boolean.
        status: Why the pair ended, a `Status` as integer, (*batch,).
        steps: Steps taken, (*batch,).
        tol: The tolerance that `converged` refers to.
    """

    path: Float[Tensor, "*batch nodes d"]
    energy: Float[Tensor, "*batch"]
    initial_energy: Float[Tensor, "*batch"]
    length: Float[Tensor, "*batch"]
    straight_length: Float[Tensor, "*batch"]
    relative_excess_energy: Float[Tensor, "*batch"]
    decoder_residual: Float[Tensor, "*batch"]
    converged: Bool[Tensor, "*batch"]
    status: Int[Tensor, "*batch"]
    steps: Int[Tensor, "*batch"]
    tol: float

    def summary(self) -> str:
        """How many pairs converged, how much shorter they became, and what to do about the others.

        Example:
            >>> import torch, geodesic
            >>> plane = geodesic.PullbackManifold(lambda z: z)
            >>> print(geodesic.solve(plane, torch.zeros(3, 2), torch.ones(3, 2)).summary())
            3 of 3 pairs converged (tol 1e-06); median length 1.0000 of the straight line's
        """
        converged = self.converged.reshape(-1)
        ratio = (self.length / self.straight_length).reshape(-1)
        lines = [f"{int(converged.sum())} of {converged.numel()} pairs converged (tol {self.tol:g})"]
        if (ratio := ratio[ratio.isfinite()]).numel():
            lines[0] += f"; median length {float(ratio.median()):.4f} of the straight line's"
        for status in Status:
            count = int((self.status == status).sum())
            if count and status is not Status.CONVERGED:
                lines.append(f"{count} {status.name.lower()}: {status.remedy}")
        return "\n".join(lines)
