"""Is a geodesic a shortest path? What can be certified, and what only searched for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.errors import InputError
from geodesic.geometry.checks import guarded
from geodesic.geometry.copies import nearest_copies
from geodesic.geometry.excess import hessian_seen
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.path import straight_path
from geodesic.geometry.pieces import pieced
from geodesic.geometry.points import Rows, require_limit
from geodesic.keywords import renamed
from geodesic.numerics.block_tridiagonal import BlockTridiagonal
from geodesic.riemannian.curvature.conjugate import conjugate_points
from geodesic.riemannian.maps.follow import IN_FOLLOW, Follow, stride_of
from geodesic.riemannian.maps.followed import Followed
from geodesic.riemannian.maps.log_map import log_map
from geodesic.solvers.doubts import doubts_of, warn_of_doubts
from geodesic.solvers.search import IN_SEARCH, Search, require_search
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solve import at_equal_times, find
from geodesic.solvers.status import Status

__all__ = ["Minimality", "is_minimizing"]

_SHORTER = 1e-3  # relative difference of lengths from which a competitor counts as shorter
_BEND = 0.4  # amplitude of the bent starts, over the latent distance of the ends
_COPIES = 3  # of the end, to which straight lines compete where coordinates are periodic


@dataclass(frozen=True)
class Minimality(Followed):
    """What is known about geodesics being shortest paths. Leading axes are those of the solution.

    Attributes:
        minimizing: Whether nothing speaks against it: converged, a local minimum, no conjugate point before the end,
            no shorter competitor, (*batch,), boolean. The last is a search and no proof: another path may be shorter.
        local_minimum: Whether the Hessian of the energy is positive definite, (*batch,), boolean: no path near by is
            shorter. This is certain up to the discretization.
        conjugate_time: First time in (0, 1] that is conjugate to the start, (*batch,); inf where there is none.
            Beyond it the geodesic is no shortest path.
        competitor_length: Least length that other starts led to, (*batch,); inf where none of them converged.
        competitor_path: Nodes of that path, (*batch, T + 1, d).
        gap: Its length over that of the geodesic, minus one, (*batch,): negative where it is shorter.
        converged: Whether the geodesic has, and its conjugate time is known, (*batch,), boolean.
        status: Why the first of the two ended that is not, a `Status` as integer, (*batch,).
        iterations: Searches for competitors, (*batch,): from the graph, from each of the bent lines, and, where
            coordinates are periodic, from straight lines to copies of the end.
        error: Estimated relative error of the length, that of the solution, (*batch,).
        rank_deficiency: Latent directions that the decoder ignores along the path, (*batch,), integer, as in the
            solution: nothing is asked along these.
    """

    minimizing: Bool[Tensor, "*batch"]
    local_minimum: Bool[Tensor, "*batch"]
    conjugate_time: Float[Tensor, "*batch"]
    competitor_length: Float[Tensor, "*batch"]
    competitor_path: Float[Tensor, "*path"]
    gap: Float[Tensor, "*batch"]


@guarded
@renamed(**(IN_SEARCH | IN_FOLLOW))
def is_minimizing(
    manifold: Manifold,
    solution: GeodesicSolution,
    *,
    follow: Follow = Follow(),
    starts: int = 4,
    seed: int = 0,
    search: Search = Search(init="graph"),
) -> Minimality:
    """Ask of geodesics whether they are shortest paths: locally, up to conjugate points, and against competitors.

    "discrete" finds the first conjugate point from the Hessian of the energy: by Morse's index theorem a part of the
    geodesic is a local minimum just as long as it holds none, and the leading blocks of the Hessian are those of the
    parts. The time is interpolated between two nodes. "ode" follows Jacobi fields, see `conjugate_points`, which is
    far more accurate and needs continuous second derivatives.

    Warning:
        No search can prove that a path is shortest. Competitors come from a neighbor graph, from bent lines, and where
        coordinates are periodic from straight lines to the nearest copies of the end; in many dimensions they explore
        little.

    Reference:
        J. Milnor, Morse Theory, 1963, section 15 (the index theorem).

    Args:
        manifold: The one that the solution was found on.
        solution: The geodesics.
        follow: How conjugate points are looked for: by "discrete" unless told otherwise; the rest is for `log_map` and
            `conjugate_points`, and so for "ode" alone.
        starts: Number of bent lines from which to look for competitors, beside the neighbor graph.
        seed: Of the directions in which the lines are bent.
        search: How competitors are looked for: by which solver, in a graph over which `graph_points`. They start from
            the graph and from the bent lines, with as many segments as the solution, whatever the search says.

    Returns:
        What was found for each pair. Without history.

    Raises:
        InputError: The solution does not fit the manifold, a setting cannot be used, or there are no lengths.

    Example:
        >>> import torch, geodesic
        >>> hill = geodesic.PullbackManifold(lambda z: torch.cat([z, 3 * (-z.square().sum(1, True)).exp()], dim=1))
        >>> solution = geodesic.solve(hill, torch.tensor([-1.5, 0.0]), torch.tensor([1.5, 0.0]))
        >>> answer = geodesic.is_minimizing(hill, solution)  # of the geodesic over the top
        >>> print(bool(solution.converged), bool(answer.minimizing), f"{float(answer.gap):.2f}")
        True False -0.34
    """
    if not isinstance(solution, GeodesicSolution):
        raise InputError(f"solution: expected the answer of `solve`, got {type(solution).__name__}")
    solution = at_equal_times(manifold, solution)
    axes = 1 if manifold.latent_shape is None else len(manifold.latent_shape)
    start, end = solution.path.select(-axes - 1, 0), solution.path.select(-axes - 1, -1)
    given = Rows(manifold, start=start, end=end)
    require_limit(manifold, "shortest path to compare with")
    stride = stride_of(follow, solution.path.dtype, "discrete")
    require_search(search)
    require_integer("starts", starts, least=0, note="a number of bent lines")
    require_integer("seed", seed)
    d = math.prod(given.event)
    path = solution.path.reshape(len(given.rows[0]), -1, d)
    still = (path == path[:, :1]).flatten(1).all(1)
    definite, time = _first_indefinite_part(manifold, path)
    status = torch.full_like(definite, Status.CONVERGED, dtype=torch.long)
    if stride.method == "ode":
        vector = log_map(manifold, start, end, follow=follow, solution=solution).vector.reshape(-1, d)
        found = torch.full_like(time, torch.inf)
        if not bool(still.all()):
            conjugate = conjugate_points(manifold, path[~still, 0], vector[~still], follow=follow)
            found[~still], status[~still] = conjugate.time, conjugate.status
        time = found
    time = torch.where(still, torch.inf, time)
    status = torch.where(solution.converged.reshape(-1), status, solution.status.reshape(-1))
    lines = _bent_lines(path, starts, seed) + _lines_to_copies(manifold, path)
    length, others = _competitors(manifold, given, path, lines, search)
    own = solution.length.reshape(-1)
    gap = torch.where(still, torch.inf, length / own - 1)
    warn_of_doubts("is_minimizing", doubts_of(solution), "nothing is certified of them, or of coarse paths alone")
    local = solution.converged.reshape(-1) & (definite | still)
    # Not a number where nothing could be found out, which is no certificate.
    best = local & (time > 1) & (gap > -_SHORTER)
    return Minimality(
        minimizing=given.each(best),
        local_minimum=given.each(local),
        conjugate_time=given.each(time),
        competitor_length=given.each(length),
        competitor_path=given.back(others),
        gap=given.each(gap),
        converged=given.each(status == Status.CONVERGED),
        status=given.each(status),
        iterations=given.each(torch.full_like(status, 1 + len(lines))),
        error=solution.error,
        rank_deficiency=solution.rank_deficiency,
        method=stride.method,
    )


def _first_indefinite_part(
    manifold: Manifold, path: Float[Tensor, "P nodes d"]
) -> tuple[Bool[Tensor, " P"], Float[Tensor, " P"]]:
    """Whether the Hessian of the energy is positive definite, and the time up to which the parts of a path have one.

    The part up to node k + 1 has the first k blocks. Eliminating them one by one shows which is the first that has no
    positive definite pivot. Directions that the outputs ignore are no part of this.
    """
    return _pivots(hessian_seen(pieced(manifold, path).expansion(path)))


def _pivots(hessian: BlockTridiagonal) -> tuple[Bool[Tensor, " P"], Float[Tensor, " P"]]:
    n = hessian.diagonal.shape[1]
    pivot = hessian.diagonal[:, 0]
    time = torch.full_like(pivot[:, 0, 0], torch.inf)
    for k in range(n):
        if k:
            B = hessian.upper[:, k - 1]
            pivot = hessian.diagonal[:, k] - B.mT @ torch.linalg.solve_ex(pivot, B).result
        # In units of the stiffness of one segment, half of the block, a pivot is the ratio of a discrete Jacobi field
        # at node k + 2 to its value at node k + 1. Where that is negative, the field has a zero between the two.
        L, failed = torch.linalg.cholesky_ex(hessian.diagonal[:, k] / 2)
        inner = torch.linalg.solve_triangular(L, torch.linalg.solve_triangular(L, pivot, upper=False).mT, upper=False)
        usable = (failed == 0) & inner.isfinite().flatten(1).all(1)
        inner = torch.where(
            usable[:, None, None], inner, -torch.eye(pivot.shape[-1], dtype=pivot.dtype, device=pivot.device)
        )
        ratio = torch.linalg.eigvalsh((inner + inner.mT) / 2)[:, 0]
        crossing = (k + 1 + 1 / (1 - ratio)) / (n + 1)
        time = torch.where((ratio <= 0) & time.isinf(), crossing, time)
    return time.isinf(), time


def _bent_lines(path: Float[Tensor, "P nodes d"], count: int, seed: int) -> list[Float[Tensor, "P nodes d"]]:
    """Lines between the ends, bent to either side in turn: in the plane these are all the sides there are."""
    n, d = path.shape[1:]
    a, b = path[:, :1], path[:, -1:]
    t = torch.linspace(0, 1, n, dtype=path.dtype, device=path.device)[:, None]
    line = torch.lerp(a, b, t)
    generator = torch.Generator().manual_seed(seed)
    tiny = torch.finfo(path.dtype).tiny
    span = (b - a).norm(dim=-1, keepdim=True)
    along = (b - a) / span.clamp_min(tiny)
    direction, lines = path.new_zeros(1, 1, d), []
    for i in range(count):
        direction = -direction
        if i % 2 == 0:
            direction = torch.randn(1, 1, d, generator=generator, dtype=torch.float64, device="cpu").to(path)
        across = direction - (direction * along).sum(-1, keepdim=True) * along
        across = across / across.norm(dim=-1, keepdim=True).clamp_min(tiny)
        bent = line + _BEND * (1 + i // 2) * span * (math.pi * t).sin() * across
        lines.append(torch.cat([a, bent[:, 1:-1], b], dim=1))
    return lines


def _lines_to_copies(manifold: Manifold, path: Float[Tensor, "P nodes d"]) -> list[Float[Tensor, "P nodes d"]]:
    """Straight lines to the nearest copies of the end, its own among them; none where no coordinate is periodic."""
    if manifold.period is None:
        return []
    copies = nearest_copies(manifold, path[:, 0], path[:, -1], _COPIES)
    return [straight_path(path[:, 0], copy.end, path.shape[1] - 1) for copy in copies]


def _competitors(
    manifold: Manifold,
    given: Rows,
    path: Float[Tensor, "P nodes d"],
    lines: list[Float[Tensor, "P nodes d"]],
    search: Search,
) -> tuple[Float[Tensor, " P"], Float[Tensor, "P nodes d"]]:
    """The shortest path to which a neighbor graph and lines lead each pair."""
    length, best = torch.full_like(path[:, 0, 0], torch.inf), path
    a, b = given.back(path[:, 0]), given.back(path[:, -1])
    graph = replace(search, init="graph", segments=path.shape[1] - 1, length_rtol=None)
    for how in [graph, *(replace(graph, init=given.back(line), graph_points=None, segments=None) for line in lines)]:
        found = find(manifold, a, b, how)
        other = torch.where(found.converged, found.length, torch.inf).reshape(-1)
        better = other < length
        length = torch.where(better, other, length)
        best = torch.where(better[:, None, None], found.path.reshape(path.shape), best)
    return length, best
