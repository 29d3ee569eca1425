"""What is measured on the paths of a solution: lengths, and how much of them is certain."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.energy import constant, energy_and_gradient, path_energy
from geodesic.geometry.jumps import along, unseen
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.path import refine_path, spline_speed, straight_path
from geodesic.geometry.residual import tangential_acceleration
from geodesic.solvers.run import Ended
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.status import Status

__all__ = ["StraightLines", "measured", "straight_lines"]

_RESOLVED = 1e-3  # largest estimated relative error of a resolved length


class StraightLines(NamedTuple):
    """What a solution says about the straight lines between its endpoints.

    Attributes:
        energy: (P,).
        length: (P,).
    """

    energy: Float[Tensor, " P"]
    length: Float[Tensor, " P"]


def measured(
    manifold: Manifold, ended: Ended, lines: StraightLines, tol: float, solver: str, memory: float
) -> GeodesicSolution:
    """The solution for these paths.

    Args:
        manifold: Where the paths lie.
        ended: Where a run ended.
        lines: The straight lines between the same endpoints.
        tol: Largest relative excess energy that counts as converged.
        solver: Which solver was used, and why.
        memory: Bytes that its work took, about.
    """
    path, status, steps, excess, minimum = ended
    T, still = path.shape[1] - 1, constant(path)
    sizes, jump, share = _sizes(manifold, path)
    # A path on which the decoder is constant has no length either.
    still = still | ((status == Status.CONVERGED) & (sizes["energy"] == 0))
    # What no derivative sees is neither in the length nor in the certificate.
    jump &= ~still & (status != Status.NOT_CONNECTED)
    sizes["relative_excess_energy"] = excess = torch.where(jump, torch.nan, excess)
    # There all of these are zero, where a decoder's rounding leaves traces.
    sizes = {name: torch.where(still & (name != "rank_deficiency"), 0, size) for name, size in sizes.items()}
    if not manifold.has_length:  # nor between equal ends
        sizes["error"] = torch.full_like(excess, torch.inf)
    lost = (status == Status.CONVERGED) & ~(excess <= tol) & ~still
    status = torch.where(lost, Status.STALLED, status)
    status = torch.where(jump, Status.JUMP, status)
    converged = status == Status.CONVERGED
    even = torch.linspace(0, 1, T + 1, dtype=path.dtype, device=path.device)
    return GeodesicSolution(
        path=path,
        **sizes,
        initial_energy=lines.energy,
        straight_length=lines.length,
        status=status,
        converged=converged,
        minimum=minimum & ~jump,
        resolved=converged & (sizes["error"] <= _RESOLVED),
        iterations=steps,
        segments=torch.full_like(status, T),
        arc=torch.where(still[:, None], even, share / share[:, -1:]),
        tol=tol,
        solver=solver,
        memory=memory,
    )


def _sizes(manifold: Manifold, path: Float[Tensor, "P nodes d"]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Fields of a solution by name, (P,); whether the decoder jumps along the path, (P,); lengths up to its nodes."""
    T = path.shape[1] - 1
    with torch.no_grad():
        seen = along(manifold, path)
        speed, weights, chords, arcs = seen.speed, seen.weights, seen.squared_chords, seen.lengths
        length = speed @ weights
        coarse_speed, coarse_weights = spline_speed(manifold, refine_path(path, max(T // 2, 2)))
        # As dear as a step: half of the segments will do, unless there are few.
        residual, deficiency = tangential_acceleration(manifold, path, every=2 if T >= 16 else 1)
        # |x_{i+1} - 2 x_i + x_{i-1}|^2 from the chords between next neighbors.
        wide = torch.stack([path[:, :-2], path[:, 2:]], dim=2)
        bend = 2 * (chords[:, 1:] + chords[:, :-1]) - manifold.squared_chords(wide)[..., 0]
        lower_bound = manifold.lower_bound(path[:, 0], path[:, -1])
    energy, gradient = energy_and_gradient(manifold, path)
    missed = unseen(manifold, path, seen)
    # What the spline loses, as if its order were 2, which is what a decoder with kinks leaves of its 4; and what
    # the nodes lose: a tangential acceleration of period 1/T bends the path by a factor (pi T)^2 less.
    error = (length - coarse_speed @ coarse_weights).abs() / 3 / length
    error = error + residual.square().mean(-1) / (2 * math.pi**2 * T**2)
    error = error.maximum(missed.length / length)
    # Too few nodes to leave out every second one: nothing is known of the spline's error.
    if T < 4:
        error = torch.full_like(error, torch.inf)
    sizes = {
        "energy": energy,
        "length": length,
        "gradient_norm": gradient.square().sum((1, 2)).sqrt(),
        "error": error,
        "decoder_residual": residual.amax(-1),
        "speed_variation": (speed.amax(-1) - speed.amin(-1)) / length,
        "speed_allowance": (bend.clamp_min(0) / (chords[:, 1:] * chords[:, :-1]).sqrt()).amax(-1),
        "rank_deficiency": deficiency,
        # Equal up to rounding on a straight line of a flat manifold.
        "lower_bound": torch.where(lower_bound < (1 + 1e-6) * length, lower_bound.minimum(length), lower_bound),
    }
    return sizes, missed.jump, torch.nn.functional.pad(arcs.cumsum(-1), (1, 0))


def straight_lines(
    manifold: Manifold, start: Float[Tensor, "P d"], end: Float[Tensor, "P d"], segments: int
) -> StraightLines:
    """Energies and lengths of the straight lines between endpoints, at equal latent steps."""
    path = straight_path(start, end, segments)
    with torch.no_grad():
        energy = path_energy(manifold, path)
        speed, weights = spline_speed(manifold, path)
    return StraightLines(*(torch.where(constant(path), 0, x) for x in (energy, speed @ weights)))
