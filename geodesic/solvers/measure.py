"""What is measured on the paths of a solution: lengths, and how much of them is certain."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.energy import constant
from geodesic.geometry.jumps import along, spline_lengths, unseen
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.path import refine_path, straight_path
from geodesic.geometry.residual import forms_metric, geodesic_curvature
from geodesic.solvers.krylov import LARGEST_EXPLICIT
from geodesic.solvers.mesh import Mesh, turns_of
from geodesic.solvers.plan import Plan
from geodesic.solvers.run import Ended
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.status import Status

__all__ = ["Asked", "StraightLines", "above_their_bounds", "measured", "straight_lines", "unmeasured"]

_ROUNDINGS = 10  # of a length: no error below is known
_BESIDE_KINKS = 2.0  # times the difference of two rules, that the error on a segment with a kink is at most
_LIKELY = 3.0  # times the root of the summed squares of the segments' errors
_PRODUCTS = 3  # with the metric of many latent coordinates, for a curvature of which a share of an error is made


class StraightLines(NamedTuple):
    """What a solution says about the straight lines between its endpoints.

    Attributes:
        energy: (P,).
        length: (P,).
        chords: Lengths of their chords, at equal latent steps, (P, T).
        arcs: Lengths of the parts between, (P, T), which sum to `length`.
    """

    energy: Float[Tensor, " P"]
    length: Float[Tensor, " P"]
    chords: Float[Tensor, "P T"]
    arcs: Float[Tensor, "P T"]


@dataclass(frozen=True)
class Asked:
    """What paths are measured against, and what is said of all of them.

    Attributes:
        tol: Largest relative excess energy that counts as converged.
        rtol: Largest estimated relative error of a resolved length.
        plan: That was followed.
    """

    tol: float
    rtol: float
    plan: Plan


def measured(manifold: Manifold, ended: Ended, lines: StraightLines, asked: Asked) -> GeodesicSolution:
    """The solution for these paths.

    Args:
        manifold: Where the paths lie.
        ended: Where a run ended.
        lines: The straight lines between the same endpoints.
        asked: What is asked of them.
    """
    mesh, status, _, excess, minimum, energy, slope = ended
    still = constant(mesh.path)
    sizes, jump, share = _sizes(manifold, mesh, excess)
    sizes |= {"energy": energy, "gradient_norm": slope}
    # A path on which the decoder is constant has no length either.
    still = still | ((status == Status.CONVERGED) & (sizes["energy"] == 0))
    # What no derivative sees is neither in the length nor in the certificate.
    jump &= ~still & (status != Status.NOT_CONNECTED)
    sizes["relative_excess_energy"] = excess = torch.where(jump, torch.nan, excess)
    # There all of these are zero, where a decoder's rounding leaves traces.
    sizes = {name: torch.where(still & (name != "rank_deficiency"), 0, size) for name, size in sizes.items()}
    if not manifold.has_length:  # nor between equal ends
        sizes["error"] = sizes["quadrature_error"] = torch.full_like(excess, torch.inf)
    lost = (status == Status.CONVERGED) & ~(excess <= asked.tol) & ~still
    status = torch.where(lost, Status.STALLED, status)
    status = torch.where(jump, Status.JUMP, status)
    sizes |= {"arc": torch.where(still[:, None], mesh.times, share / share[:, -1:])}
    return _answer(ended._replace(status=status, minimum=minimum & ~jump), sizes, lines, asked)


def unmeasured(ended: Ended, lines: StraightLines, asked: Asked) -> GeodesicSolution:
    """The solution for paths that are neither solved nor measured, since they get more segments: in it all is NaN."""
    nothing = torch.full_like(ended.energy, torch.nan)
    names = ("length", "error", "quadrature_error", "decoder_residual", "speed_variation", "speed_allowance")
    sizes = dict.fromkeys((*names, "lower_bound", "energy", "gradient_norm", "relative_excess_energy"), nothing)
    return _answer(
        ended, sizes | {"rank_deficiency": torch.zeros_like(ended.steps), "arc": ended.mesh.times}, lines, asked
    )


def _answer(ended: Ended, sizes: dict[str, Tensor], lines: StraightLines, asked: Asked) -> GeodesicSolution:
    """The solution with these fields, and with what follows from where paths ended."""
    mesh, status = ended.mesh, ended.status
    converged = status == Status.CONVERGED
    return GeodesicSolution(
        path=mesh.path,
        mesh=mesh.path,
        times=mesh.times,
        **sizes,
        initial_energy=lines.energy,
        straight_length=lines.length,
        status=status,
        converged=converged,
        minimum=ended.minimum,
        resolved=converged & (sizes["error"] <= asked.rtol),
        iterations=ended.steps,
        segments=torch.full_like(status, mesh.path.shape[1] - 1),
        polygon=torch.zeros_like(converged),
        winding=torch.zeros_like(mesh.path[:, 0], dtype=torch.long),
        tol=asked.tol,
        plan=asked.plan,
    )


def _sizes(manifold: Manifold, mesh: Mesh, excess: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Fields of a solution by name, (P,); whether the decoder jumps along the path, (P,); lengths up to its nodes."""
    path, T = mesh.path, mesh.path.shape[1] - 1
    every = _every(T, path.shape[2])
    with torch.no_grad():
        seen = along(manifold, path, doubted=True, every=every if forms_metric(manifold, path.shape[2]) else 0)
        arcs, length = seen.lengths, seen.lengths.sum(1)
        coarse = spline_lengths(manifold, refine_path(path, max(T // 2, 2)))
        bend, deficiency = geodesic_curvature(manifold, path, every=every, products=_PRODUCTS, seen=seen)
        lower_bound = manifold.lower_bound(path[:, 0], path[:, -1])
    missed = unseen(manifold, path, seen)
    error = _spline_error(arcs, coarse) / length
    # What the nodes lose, twice the likely part: bends of the period of two segments move a path by a factor pi^2 less.
    near = arcs[:, every // 2 :: every]
    error = error + (near * (bend * near).square()).sum(-1) / near.sum(-1) / math.pi**2
    error = error.maximum(missed.length / length)
    error = error + excess.clamp_min(0).nan_to_num(0.0) / 2  # and what is left of the energy, a square of lengths
    error = error.clamp_min(_ROUNDINGS * torch.finfo(path.dtype).eps)
    # Too few nodes to leave out every second one: nothing is known of the spline's error.
    if T < 4:
        error = torch.full_like(error, torch.inf)
    sizes = {
        "length": length,
        "error": error,
        "quadrature_error": _quadrature_error(arcs, seen.off),
        "decoder_residual": bend.amax(-1) * length,
        "speed_variation": _spread(arcs / mesh.times.diff(dim=1)) / length,
        "speed_allowance": turns_of(seen.squared_chords, seen.wide).amax(-1),
        "rank_deficiency": deficiency,
        # Equal up to rounding on a straight line of a flat manifold.
        "lower_bound": torch.where(lower_bound < (1 + 1e-6) * length, lower_bound.minimum(length), lower_bound),
    }
    return sizes, missed.jump, torch.nn.functional.pad(arcs.cumsum(-1), (1, 0))


def _every(T: int, d: int) -> int:
    """Of how many segments one has its curvature measured: as dear as a step, so few will do, unless there are few."""
    if T < 16:
        return 1
    return 4 if T >= 32 and d > LARGEST_EXPLICIT else 2


def _spline_error(arcs: Float[Tensor, "P T"], coarse: Float[Tensor, "P half"]) -> Float[Tensor, " P"]:
    """What the spline loses of the length, from that of the spline through every second node, twice the likely part.

    As if its order were 2, which is what a decoder with kinks leaves of its 4. Kinks make signs random, and lengths
    agree by chance: so many errors of random sign add up to the root of the sum of their squares.
    """
    T, segments = arcs.shape[1], coarse.shape[1]
    total = (arcs.sum(-1) - coarse.sum(-1)).abs()
    if 2 * segments == T:
        total = total.maximum((arcs.unflatten(-1, (segments, 2)).sum(-1) - coarse).square().sum(-1).sqrt())
    return 2 / 3 * total


def _quadrature_error(lengths: Float[Tensor, "P T"], off: Float[Tensor, "P T"]) -> Float[Tensor, " P"]:
    """Of lengths of curves, relative, by how much other rules differ on each segment.

    The rules that lengths are from are of order 6; others, of order 4, err more where curves are smooth. Where a
    velocity jumps on a segment, from one constant to another, twice the difference bounds the error wherever that is
    (by Gauss and Legendre), or nearly everywhere (by quintics, which err less). These bounds add up as they are, or as
    three times the root of the sum of their squares where that is less: between many kinks, whose signs are random.
    """
    off = _BESIDE_KINKS * off
    return off.sum(1).minimum(_LIKELY * off.square().sum(1).sqrt()) / lengths.sum(1)


def _spread(x: Float[Tensor, "P n"]) -> Float[Tensor, " P"]:
    return x.amax(-1) - x.amin(-1)


def above_their_bounds(answer: GeodesicSolution, rtol: float) -> GeodesicSolution:
    """The answers, none of which is certified below the distance of its ends in the surrounding space, up to `rtol`.

    A step that is steeper than quadrature sees is missing in the length; that it is none of a jump's is no excuse.
    """
    short = answer.converged & ((1 + rtol) * answer.length < answer.lower_bound)
    return replace(
        answer,
        status=torch.where(short, Status.NOT_RESOLVED, answer.status),
        converged=answer.converged & ~short,
        minimum=answer.minimum & ~short,
        resolved=answer.resolved & ~short,
    )


def straight_lines(
    manifold: Manifold, start: Float[Tensor, "P d"], end: Float[Tensor, "P d"], segments: int
) -> StraightLines:
    """Energies and lengths of the straight lines between endpoints, at equal latent steps."""
    path = straight_path(start, end, segments)
    with torch.no_grad():
        if manifold.has_embedding and manifold.has_length:
            velocity = ((end - start) / segments)[:, None].expand_as(path)
            squared, arcs = manifold.arcs(path, velocity)
        else:
            squared = manifold.squared_chords(path)
            arcs = spline_lengths(manifold, path)
        energy = segments / 2 * squared.sum(-1)
        still = constant(path)
        arcs = torch.where(still[:, None], 0, arcs)
    return StraightLines(torch.where(still, 0, energy), arcs.sum(-1), squared.clamp_min(0).sqrt(), arcs)
