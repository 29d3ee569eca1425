"""The logarithm map: the velocity with which a geodesic must leave one point to arrive at another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.inverse import MetricInverse, require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import rows_at_once
from geodesic.geometry.points import Rows, inverse_at, norms_at, require_limit
from geodesic.riemannian.maps.discrete import first_momentum
from geodesic.riemannian.maps.exp_map import SPEED, checked, judged
from geodesic.riemannian.maps.flow import follow, follow_with_neighbours, require_method
from geodesic.riemannian.maps.neighbours import ends_by_beginnings
from geodesic.riemannian.outcome import Outcome
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solve import solve

__all__ = ["LogarithmMap", "log_map"]

_SHOTS = 20  # Newton steps at most; from a solver's path three are usual
_MISS = 10  # times rtol: how near a shot must come, relative to the length
_STRIDE = 0.3  # most that a step may change the velocity by, relative to it: or another geodesic would be found
DISCRETE_TOL = {torch.float64: 1e-12, torch.float32: 1e-6}  # of the solver, where nothing improves its velocities


@dataclass(frozen=True)
class LogarithmMap:
    """Initial velocities of the geodesics from points a to points b. Leading axes are those of the points.

    Attributes:
        vector: log_a(b), (*batch, d), in latent coordinates: exp_a of it is b.
        length: Its Riemannian norm, (*batch,): the length of the geodesic.
        path: Nodes of the geodesic, (*batch, T + 1, d), with the given ends.
        miss: By how much exp_a(vector) misses b, over the length, (*batch,), in the metric at b. For "discrete" it is
            not measured: zero where the solver has converged, for its steps would be exact inverses of each other at
            `tol` = 0; the vector is known to about the root of the solver's `tol`.
        converged: Whether the miss is small enough, or for "discrete" whether the solver has converged, (*batch,),
            boolean. Where it is False, `vector` is the discrete logarithm of the solver's path.
        status: Why the row ended, an `Outcome` as integer, (*batch,).
        solution: The solver's answer that the search began with.
    """

    vector: Float[Tensor, "*point"]
    length: Float[Tensor, "*batch"]
    path: Float[Tensor, "*path"]
    miss: Float[Tensor, "*batch"]
    converged: Bool[Tensor, "*batch"]
    status: Int[Tensor, "*batch"]
    solution: GeodesicSolution


def log_map(
    manifold: Manifold,
    a: Tensor,
    b: Tensor,
    *,
    method: str = "ode",
    rtol: float | None = None,
    max_steps: int = 1000,
    solution: GeodesicSolution | None = None,
    **search: Any,
) -> LogarithmMap:
    """Logarithm map log_a(b): the velocity at a of the geodesic that arrives at b after unit time.

    The solver's path gives a velocity of second order in 1/T. "ode" improves it by Newton's method on
    exp_a(v) = b, where the derivative of exp_a is first that of the solver's own steps and, where this does not do,
    given by the Jacobi fields that vanish at a. "discrete" returns
    G^{-1} T J^T (x_1 - x_0), which `exp_map(..., method="discrete")` with as many segments takes to b.

    Warning:
        Where there are several geodesics, this is the one that the solver found; beyond a conjugate point it is not
        the shortest, see `is_minimizing`. For decoders whose second derivatives jump (ELU) or miss kinks (ReLU)
        take "discrete", as for `exp_map`.

    Reference:
        "ode": W. H. Press et al., Numerical Recipes, 2007, section 18.1 (shooting). "discrete": M. Rumpf, B. Wirth,
        Variational time discretization of geodesic calculus, 2015.

    Args:
        manifold: Where to measure.
        a: Points, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`.
        b: Points of the same shape.
        method: "ode" or "discrete".
        rtol: Of the integration, as in `exp_map`; the end is met within ten times as much of the length.
        max_steps: Of the integration, as in `exp_map`.
        solution: The geodesics, where they have been found already.
        search: Keywords of `solve`, where they have not, such as `segments`, `init` or `tol`.

    Returns:
        The velocities, and what happened to each row. Equal points give the zero vector.

    Raises:
        InputError: Shapes, dtypes or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point a or b is singular.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> a, b = torch.tensor([torch.pi / 4, 0.0]), torch.tensor([torch.pi / 4, 2.0])
        >>> there = geodesic.log_map(geodesic.Sphere(), a, b)
        >>> back = geodesic.exp_map(geodesic.Sphere(), a, there.vector)
        >>> print(f"{float(there.length):.4f}", bool((back.point - b).norm() < 1e-3))
        1.2746 True
    """
    given = Rows(manifold, a=a, b=b)
    require_limit(manifold, "logarithm map")
    rtol = checked(rtol, a.dtype, 1, max_steps)
    require_method(method)
    start, end = given.rows
    with torch.inference_mode(False):
        inverse, at_end = (inverse_at(manifold, z) for z in (start, end))
        require_regular(start, inverse, "a")
        require_regular(end, at_end, "b")
        if solution is None:
            if method == "discrete":  # velocities are as exact as the root of the excess energy
                search = {"tol": DISCRETE_TOL[a.dtype]} | search
            solution = solve(manifold, a, b, **search)
        path = _nodes(solution, given, start, end)
        vector = inverse(first_momentum(manifold, path))
        vector = torch.where((start == end).all(-1, keepdim=True), 0, vector)
        solved = solution.converged.reshape(-1)
        miss = torch.where(solved, 0, torch.full_like(solved, torch.nan, dtype=a.dtype))
        status = torch.where(solved, Outcome.CONVERGED, Outcome.NO_GEODESIC)
        if method == "ode":
            usable = solution.energy.reshape(-1).isfinite()
            vector, miss, path, status = _shoot(manifold, vector, path, usable, at_end, rtol, max_steps)
            status = torch.where((status == Outcome.STALLED) & ~solved, Outcome.NO_GEODESIC, status)
        length = norms_at(manifold, start, vector)
    return LogarithmMap(
        vector=given.back(vector),
        length=given.each(length),
        path=given.back(path),
        miss=given.each(miss),
        converged=given.each(status == Outcome.CONVERGED),
        status=given.each(status),
        solution=solution,
    )


def _nodes(solution: GeodesicSolution, given: Rows, start: Tensor, end: Tensor) -> Float[Tensor, "N nodes d"]:
    axes = len(given.event)
    if solution.path.shape[: -axes - 1] != given.batch or solution.path.shape[-axes:] != given.event:
        raise InputError(
            f"solution: expected paths for points of shape {(*given.batch, *given.event)}, got {solution.path.shape}"
        )
    path = solution.path.reshape(len(start), -1, start.shape[-1])
    if not (torch.equal(path[:, 0], start) and torch.equal(path[:, -1], end)):
        raise InputError("solution: its paths do not lead from a to b; give the one that was found for these points")
    return path


def _shoot(
    manifold: Manifold,
    guess: Tensor,
    path: Tensor,
    usable: Tensor,
    at_end: MetricInverse,
    rtol: float,
    max_steps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Improve velocities until their geodesics arrive: velocities, misses, paths, and the `Outcome` of each."""
    a, b, T, d = path[:, 0], path[:, -1], path.shape[1] - 1, path.shape[-1]

    def size(factor: Tensor, r: Tensor) -> Tensor:
        return (factor.mT @ r[..., None])[..., 0].norm(dim=-1)

    def shot(rows: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """What is left to b, and its size over the length."""
        run = follow(manifold, a[rows], v, 1, rtol, max_steps)
        left = b[rows] - run.states[:, -1, :d]
        length = norms_at(manifold, a[rows], v)
        miss = size(at_end.factor[rows], left) / length
        return left, torch.where(run.time < 1, torch.inf, miss)

    v, path = guess.clone(), path.clone()
    still = (v == 0).all(-1)
    miss = torch.where(still, 0, torch.full_like(v[:, 0], torch.inf))
    (rows,) = (~still & usable & guess.isfinite().all(-1)).nonzero(as_tuple=True)
    left = torch.zeros_like(v)
    if len(rows):
        left[rows], miss[rows] = shot(rows, v[rows])
    rows = rows[miss[rows].isfinite() & (miss[rows] > _MISS * rtol)]
    for attempt in range(_SHOTS):
        if not len(rows):
            break
        if attempt == 0:  # that of the solver's path is near enough for most, and costs no integration
            group = max(1, rows_at_once(manifold, a) // (T + 3))
            Y = torch.cat([ends_by_beginnings(manifold, path[some])[1] for some in rows.split(group)])
        else:
            Y = _derivative(manifold, a[rows], v[rows], rtol, max_steps)
        # The same derivative for several steps, as long as each brings the end nearer by a third.
        progress = torch.ones(len(rows), dtype=torch.bool, device=v.device)
        first = True
        while True:
            (now,) = (progress & (miss[rows] > _MISS * rtol)).nonzero(as_tuple=True)
            if not len(now):
                break
            step = torch.linalg.solve_ex(Y[now], left[rows[now]]).result
            gained = _advance(v, left, miss, rows[now], step, shot, tries=6 if first else 1)
            progress[:] = False
            progress[now] = gained & step.isfinite().all(-1)
            if first:
                useful = progress.clone()
            first = False
        rows = rows[(useful | (attempt == 0)) & (miss[rows] > _MISS * rtol)]
    status = torch.where(miss <= _MISS * rtol, Outcome.CONVERGED, Outcome.STALLED)
    (hit,) = ((status == Outcome.CONVERGED) & ~still).nonzero(as_tuple=True)
    if len(hit):
        nodes, velocity = follow(manifold, a[hit], v[hit], T, rtol, max_steps).states.split(d, dim=-1)
        speed = norms_at(manifold, nodes, velocity)
        # Where second derivatives see nothing (ReLU), the straight line arrives, and is no geodesic.
        moving = torch.ones_like(hit, dtype=torch.bool)
        status[hit] = judged(speed, moving, status[hit], SPEED * rtol)[1]
        kept = status[hit] == Outcome.CONVERGED
        path[hit[kept], 1:-1] = nodes[kept, 1:-1]
    return torch.where((status == Outcome.CONVERGED)[:, None], v, guess), miss, path, status


def _derivative(manifold: Manifold, z: Tensor, v: Tensor, rtol: float, max_steps: int) -> Float[Tensor, "N d d"]:
    """Of exp_z in v, by Jacobi fields."""
    N, d = z.shape
    units = torch.eye(d, dtype=z.dtype, device=z.device).expand(N, d, d)
    Y = follow_with_neighbours(manifold, z, v, torch.zeros_like(units), units, 1, max(rtol, 1e-6), max_steps)[3]
    return Y[:, -1]


def _advance(
    v: Tensor, left: Tensor, miss: Tensor, rows: Tensor, step: Tensor, shot: Any, tries: int
) -> Bool[Tensor, " N"]:
    """Take steps, halved until they bring the end nearer; which of them brought it nearer by a third at once."""
    long = step.norm(dim=-1) / v[rows].norm(dim=-1)
    share = (_STRIDE / long).clamp(max=1)
    gained = torch.zeros_like(rows, dtype=torch.bool)
    (open_rows,) = step.isfinite().all(-1).nonzero(as_tuple=True)
    for attempt in range(tries):
        if not len(open_rows):
            break
        i = rows[open_rows]
        candidate = v[i] + share[open_rows, None] * step[open_rows]
        rest, distance = shot(i, candidate)
        better = distance < miss[i]
        gained[open_rows] = better & ((distance < miss[i] / 1.5) | (attempt > 0) | (share[open_rows] < 1))
        v[i[better]], left[i[better]], miss[i[better]] = candidate[better], rest[better], distance[better]
        share[open_rows] /= 2
        open_rows = open_rows[~better]
    return gained
