"""The logarithm map: the velocity with which a geodesic must leave one point to arrive at another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import broadcast_points, require_integer
from geodesic.errors import InputError
from geodesic.geometry.checks import guarded, require_manifold
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.period import same_points
from geodesic.geometry.points import Rows, inverse_at, norms_at, require_limit
from geodesic.keywords import renamed
from geodesic.numerics.tolerance import excess_for_vectors, usual_tol
from geodesic.riemannian.endings import unless_unseen
from geodesic.riemannian.maps.aim import Budget, Target, aimed
from geodesic.riemannian.maps.discrete import first_momentum
from geodesic.riemannian.maps.follow import IN_FOLLOW, Follow, method_at, stride_of
from geodesic.riemannian.maps.followed import Followed
from geodesic.solvers.search import IN_SEARCH, Search, require_search
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solve import at_equal_times, find
from geodesic.solvers.status import Status

__all__ = ["LogarithmMap", "exact_enough", "log_map"]


@dataclass(frozen=True)
class LogarithmMap(Followed):
    """Initial velocities of the geodesics from points a to points b. Leading axes are those of the points.

    Attributes:
        vector: log_a(b), (*batch, d), in latent coordinates: exp_a of it is b, or a copy of it.
        length: Its Riemannian norm, (*batch,): the length of the geodesic.
        path: Nodes of the geodesic, (*batch, T + 1, d), with the given ends; where coordinates are periodic, to the
            copy of b that was reached, which exp_a(vector) is.
        error: By how much exp_a(vector) misses b, over the length, (*batch,), in the metric at b. For "discrete" the
            root of the relative excess energy of the solution, to about which its vector is known.
        converged: Whether the error is small enough, or for "discrete" whether the solver has converged, (*batch,),
            boolean. Where it is False, `vector` is the discrete logarithm of the solver's path.
        status: Why the row ended, a `Status` as integer, (*batch,).
        iterations: Derivatives of exp_a that the shot was improved with, (*batch,); none for "discrete".
        solution: The solver's answer that the search began with.
        rank_deficiency: Latent directions that the decoder ignores at an end, (*batch,), integer; `vector` is then the
            shortest that leads to the outputs of b, and has no part along them.
    """

    vector: Float[Tensor, "*point"]
    length: Float[Tensor, "*batch"]
    path: Float[Tensor, "*path"]
    solution: GeodesicSolution


@guarded
@renamed(**(IN_FOLLOW | IN_SEARCH | {"a": "start", "b": "end"}))
def log_map(
    manifold: Manifold,
    start: Tensor,
    end: Tensor,
    *,
    follow: Follow = Follow(),
    solution: GeodesicSolution | None = None,
    search: Search = Search(),
    max_iterations: int = 20,
) -> LogarithmMap:
    """Logarithm map log_a(b): the velocity at a of the geodesic that arrives at b after unit time.

    The solver's path gives a velocity of second order in 1/T. "ode" improves it by Newton's method on
    exp_a(v) = b, where the derivative of exp_a is first that of the solver's own steps and, where this does not do,
    given by the Jacobi fields that vanish at a. "discrete" returns
    G^{-1} T J^T (x_1 - x_0), which `exp_map(..., follow=Follow(method="discrete"))` with as many segments takes to b.
    Unless told otherwise it is "ode" where second derivatives are continuous, and "discrete" where they are not.

    Warning:
        Where there are several geodesics, this is the one that the solver found; beyond a conjugate point it is not
        the shortest, see `is_minimizing`.

    Reference:
        "ode": W. H. Press et al., Numerical Recipes, 2007, section 18.1 (shooting). "discrete": M. Rumpf, B. Wirth,
        Variational time discretization of geodesic calculus, 2015.

    Args:
        manifold: Where to measure.
        start: Points a, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`.
        end: Points b of as many numbers; leading axes are broadcast.
        follow: How geodesics are followed to their ends, see `Follow`; unless told otherwise "ode" takes at most 500
            steps of integrations for all shots at a point together, and meets the end within 10 `rtol` of the length.
            Segments are those of the solution.
        solution: The geodesics, where they have been found already.
        search: How geodesics are looked for, where they have not been found; its `tol` is for "discrete" 1e-12 in
            float64 and 1e-8 in float32 where it is None, since velocities are as exact as the root of it.
        max_iterations: Most derivatives of exp_a that a shot is improved with, not the steps of the integration, whose
            limit is in `follow`; for "ode" alone. From a solver's path three are usual.

    Returns:
        The velocities, and what happened to each row. Equal points give the zero vector. Without history.

    Raises:
        InputError: Shapes, dtypes or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point a or b is singular, and its rank not the same all around: a pole; or
            `follow` asks for "ode", where others are followed by "discrete" on the range of the metric.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> a, b = torch.tensor([torch.pi / 4, 0.0]), torch.tensor([torch.pi / 4, 2.0])
        >>> there = geodesic.log_map(geodesic.surfaces.Sphere(), a, b)
        >>> back = geodesic.exp_map(geodesic.surfaces.Sphere(), a, there.vector)
        >>> print(f"{float(there.length):.4f}", bool((back.point - b).norm() < 1e-3))
        1.2746 True
    """
    require_manifold(manifold)
    start, end = broadcast_points(manifold.latent_shape, start, end)
    given = Rows(manifold, start=start, end=end)
    require_limit(manifold, "logarithm map")
    a, b = given.rows
    method = method_at(follow, manifold, torch.cat([a, b]))
    stride = stride_of(follow, start.dtype, method, max_iterations=500)
    require_integer("max_iterations", max_iterations, least=1)
    with torch.inference_mode(False):
        inverse, at_end = (inverse_at(manifold, z, on_range=follow.method != "ode") for z in (a, b))
        if bool((inverse.deficiency + at_end.deficiency).any()):
            stride = stride_of(follow, start.dtype, "discrete")
        require_regular(a, inverse, "start")
        require_regular(b, at_end, "end")
        if solution is None:
            solution = find(manifold, start, end, exact_enough(search, "a logarithm", stride.method, a.dtype))
        elif stride.method == "discrete" and not bool(solution.polygon.all()):
            solution = at_equal_times(manifold, solution)
        path = _nodes(manifold, solution, given)
        b = path[:, -1]  # where coordinates are periodic, the copy that was reached
        vector = inverse(first_momentum(manifold, path))
        taut = solution.polygon.reshape(-1, 1)  # its first segment leads the way, whatever bends after it
        vector = torch.where(taut, solution.velocity(0.0).reshape(vector.shape), vector)
        vector = torch.where((a == b).all(-1, keepdim=True), 0, vector)
        solved = solution.converged.reshape(-1)
        error, iterations = (
            solution.relative_excess_energy.reshape(-1).clamp_min(0).sqrt(),
            torch.zeros_like(solved).long(),
        )
        status = torch.where(solved, Status.CONVERGED, Status.NO_GEODESIC)
        if stride.method == "ode":
            usable = solution.energy.reshape(-1).isfinite()
            budget = Budget(len(a), stride.max_iterations, a.device)
            rows = torch.arange(len(a), device=a.device)
            target = Target(manifold, a, b, at_end.factor, rows, budget, stride, max_iterations)
            vector, error, path, status, iterations = aimed(target, vector, path, usable)
            status = torch.where((status == Status.NO_NEARER) & ~solved, Status.NO_GEODESIC, status)
        length = norms_at(manifold, a, vector)
        status = unless_unseen(manifold, path, status, length[:, None].expand(-1, path.shape[1]))
    return LogarithmMap(
        vector=given.back(vector),
        length=given.each(length),
        path=given.back(path),
        error=given.each(error),
        converged=given.each(status == Status.CONVERGED),
        status=given.each(status),
        iterations=given.each(iterations),
        solution=solution,
        rank_deficiency=given.each(torch.maximum(inverse.deficiency, at_end.deficiency)),
        method=stride.method,
    )


def exact_enough(search: Any, tool: str, method: str, dtype: torch.dtype) -> Search:
    """The search for nodes at equal times, with a tolerance that suits velocities: they are as exact as its root.

    Raises:
        InputError: It is no `Search`, or refines lengths.
    """
    require_search(search)
    search = search.even(tool)
    open_ = method == "discrete" and search.tol is None
    return replace(search, tol=excess_for_vectors(usual_tol(dtype), dtype)) if open_ else search


def _nodes(manifold: Manifold, solution: GeodesicSolution, given: Rows) -> Float[Tensor, "N nodes d"]:
    axes, (start, end) = len(given.event), given.rows
    if solution.path.shape[: -axes - 1] != given.batch or solution.path.shape[-axes:] != given.event:
        raise InputError(
            f"solution: expected paths for points of shape {(*given.batch, *given.event)}, got {solution.path.shape}"
        )
    path = solution.path.reshape(len(start), -1, start.shape[-1])
    known = same_points(manifold.period, end, path[:, -1])
    if not (torch.equal(path[:, 0], start) and torch.equal(path[:, -1], known)):
        raise InputError("solution: its paths do not lead from start to end; give the one for these points")
    return path
