"""Find geodesics: the one function that a user calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from geodesic.checks import broadcast_points, require_points
from geodesic.geometry.checks import guarded, require_manifold
from geodesic.geometry.manifold import Manifold
from geodesic.keywords import mistaken, renamed
from geodesic.solvers.driver import Driver
from geodesic.solvers.mesh import Mesh
from geodesic.solvers.plan import Plan
from geodesic.solvers.progress import Progress
from geodesic.solvers.search import Search, require_search
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solver import Solver

__all__ = ["at_equal_times", "find", "solve"]


@guarded
@mistaken(
    search="`solve` takes the settings of a Search as plain keywords: solve(..., segments=64)",
    stop="`solve` takes plain keywords: `tol` and `max_steps`",
    max_iterations="the limit of a solver is `max_steps`",
)
@renamed(points="graph_points", paths="init")
def solve(
    manifold: Manifold,
    start: Tensor,
    end: Tensor,
    *,
    solver: Solver[Any] | str = "auto",
    init: str | Tensor = "straight",
    graph_points: Tensor | None = None,
    segments: int | None = None,
    length_rtol: float | None = None,
    tol: float | None = None,
    max_steps: int = 1000,
    memory: float | None = None,
    plan: Plan | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> GeodesicSolution:
    """Find geodesics between pairs of points, all pairs at once.

    A pair has converged when its relative excess energy, from the Newton decrement, is at most `tol`, whatever rule
    the solver itself follows. That ratio has no unit: multiplying all outputs by a constant changes nothing, as long
    as their squares stay within the range of the dtype. Pairs that have ended leave the batch, and no pair's
    answer depends on the others.

    Args:
        manifold: Where to measure.
        start: First endpoints, (*batch, d), floating point; device and dtype are those of the answer. For a manifold
            with a `latent_shape`, (*batch, *latent_shape).
        end: Last endpoints, of the same dtype and device. Leading axes are broadcast: one start for many ends, say.
            Where the manifold has a `period`, the path ends at a copy of the point: that with the shortest straight
            line, or under "best" the best of those with nearly the shortest; `winding` in the answer says which.
        solver: How to improve the paths. "auto" takes `Newton()`, or `NewtonKrylov()` where exact Hessians would be
            dearer than products with them, see `Plan`.
        init: Where to start: "straight", the straight line at constant speed; "graph", a shortest path in a
            neighbor graph, see `graph_path`; "best", both, and the shorter of the two answers for each pair; or
            paths of your own, (*batch, T + 1, d), with the given ends, or copies of the last ones.
        graph_points: Latent points for the graph, (N, d), such as the encodings of the training data; drawn if None.
        segments: A fixed number T of segments, at least 2, passed in equal times. By default each pair gets as many as
            its length needs, from 32 on, more of them where the outputs bend. Paths of your own have their T.
        length_rtol: Largest estimated relative error of a length that is resolved, by default 1e-3. Set together with
            `segments`, or with paths of your own, it begins with these. Segments of a pair are doubled until it is
            resolved, up to 1,024.
        tol: Largest relative excess energy of a pair that counts as converged, without unit; by default 1e-6 in
            float64 and 1e-4 in float32.
        max_steps: Most steps for any pair and number of segments.
        memory: Bytes that the work may take besides its answer, about. By default half of what is free: of the
            machine's available memory and of what control groups leave, or on CUDA of what the driver says. Pairs are
            worked on in as large groups as fit; on a CPU these take no more than a gigabyte by default, since larger
            ones are no faster. A pair that does not fit is worked on in pieces of its path, and where not even
            the Jacobians of four nodes fit, `NewtonKrylov` takes the place of `Newton`; the answer's `plan` says so.
        plan: What an earlier answer was found by, its `plan`, in place of `solver` and `memory`: nothing is measured or
            decided anew, and the same input gives the same answer bit for bit.
        callback: Called with a `Progress` when a stage begins, before the first step and after each one: how many
            pairs have ended, how long the others may take, and what is being done. `callback=print` prints it.

    Returns:
        The paths with what was measured on them. A pair that did not converge says why in its `status`. Equal endpoints
        give the constant path, of length 0 and converged. Without history.

    Raises:
        InputError: Endpoints or settings cannot be used, three nodes with their backward pass do not fit into
            `memory`, or the plan was made for another manifold.
        DecoderError: The decoder does not take the endpoints, has coupled rows, or is not finite there.

    Example:
        >>> import torch, geodesic
        >>> a, b = torch.tensor([torch.pi / 4, 0.0]), torch.tensor([torch.pi / 4, 2.0])
        >>> solution = geodesic.solve(geodesic.surfaces.Sphere(), a, b)
        >>> print(f"{float(solution.length):.4f}", bool(solution.converged), bool(solution.resolved))
        1.2746 True True
    """
    search = Search(
        solver=solver,
        init=init,
        graph_points=graph_points,
        segments=segments,
        length_rtol=length_rtol,
        tol=tol,
        max_steps=max_steps,
        memory=memory,
        plan=plan,
    )
    return find(manifold, start, end, search, callback)


def at_equal_times(manifold: Manifold, solution: GeodesicSolution) -> GeodesicSolution:
    """The solution for nodes at equal times: solved for again, with the most that a pair has, where they are elsewhere.

    Args:
        manifold: Where it was found.
        solution: The answer of `solve`.
    """
    if solution.mesh.shape == solution.path.shape and torch.equal(solution.mesh, solution.path):
        return solution
    axis = -2 if manifold.latent_shape is None else -1 - len(manifold.latent_shape)
    start, end, T = solution.path.select(axis, 0), solution.path.select(axis, -1), solution.times.shape[-1] - 1
    path = solution(torch.linspace(0, 1, T + 1, dtype=start.dtype, device=start.device))
    path = torch.cat([start.unsqueeze(axis), path.narrow(axis, 1, T - 1), end.unsqueeze(axis)], axis)
    found = find(manifold, start, end, Search(init=path, tol=solution.tol))
    return replace(found, winding=solution.winding)  # from the end that was given, not from the copy of it


@guarded
def find(
    manifold: Manifold,
    start: Any,
    end: Any,
    search: Any,
    callback: Callable[[Progress], None] | None = None,
    known: Mesh | None = None,
) -> GeodesicSolution:
    """`solve` with its settings in one record: what tools call.

    Args:
        manifold: Where to measure.
        start: First endpoints.
        end: Last endpoints.
        search: How to look.
        callback: Called with a `Progress`.
        known: Curves near the answers, (P, T + 1, d), with these ends, to begin with: they take the place of
            `search.init`, which stays a word, and pairs are refined from their nodes on.
    """
    require_manifold(manifold)
    require_search(search)
    start, end = broadcast_points(manifold.latent_shape, start, end)
    require_points(manifold.latent_shape, start=start, end=end)
    search.require_suited(manifold)
    with torch.inference_mode(False):  # tensors made there have no derivatives, and these are needed
        return Driver.run(manifold, start, end, search, callback, known)
