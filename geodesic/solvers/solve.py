"""Find geodesics: the one function that a user calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geodesic.checks import broadcast_points, require_points
from geodesic.geometry.checks import guarded, require_manifold
from geodesic.geometry.manifold import Manifold
from geodesic.keywords import mistaken, renamed
from geodesic.solvers.driver import Driver
from geodesic.solvers.progress import Progress
from geodesic.solvers.search import Search, require_search
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solver import Solver

__all__ = ["find", "solve"]


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
    segments: int = 32,
    length_rtol: float | None = None,
    tol: float | None = None,
    max_steps: int = 1000,
    memory: float | None = None,
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
        solver: How to improve the paths. "auto" takes `Newton()`, or `NewtonKrylov()` where Jacobians would be too
            large, see `choose_solver`.
        init: Where to start: "straight", the straight line at constant speed; "graph", a shortest path in a
            neighbor graph, see `graph_path`; "best", both, and the shorter of the two answers for each pair; or
            paths of your own, (*batch, T + 1, d), with the given ends.
        graph_points: Latent points for the graph, (N, d), such as the encodings of the training data; drawn if None.
        segments: Number T of segments of each path, at least 2. Paths of your own have their T.
        length_rtol: Double T, from `segments` on, until two successive lengths of a pair agree to this relative
            difference; a pair that does not agree at 1,024 segments is not resolved. The paths of all pairs are
            resampled to the largest T.
        tol: Largest relative excess energy of a pair that counts as converged, without unit; by default 1e-6 in
            float64 and 1e-4 in float32.
        max_steps: Most steps for any pair and number of segments.
        memory: Bytes that the work may take besides its answer, about. By default half of what is free: of the
            machine's available memory and of what control groups leave, or on CUDA of what the driver says. Pairs are
            worked on in as large groups as fit; on a CPU these take no more than a gigabyte by default, since larger
            ones are no faster. A pair that does not fit is worked on in pieces of its path, and where not even
            the Jacobians of four nodes fit, `NewtonKrylov` takes the place of `Newton`; the answer's `solver` says so.
        callback: Called with a `Progress` before the first step and after each one.

    Returns:
        The paths with what was measured on them. A pair that did not converge says why in its `status`. Equal endpoints
        give the constant path, of length 0 and converged. Without history.

    Raises:
        InputError: Endpoints or settings cannot be used, or three nodes with their backward pass do not
            fit into `memory`.
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
    )
    return find(manifold, start, end, search, callback)


@guarded
def find(
    manifold: Manifold,
    start: Any,
    end: Any,
    search: Any,
    callback: Callable[[Progress], None] | None = None,
) -> GeodesicSolution:
    """`solve` with its settings in one record: what tools call."""
    require_manifold(manifold)
    require_search(search)
    start, end = broadcast_points(manifold.latent_shape, start, end)
    require_points(manifold.latent_shape, start=start, end=end)
    search.require_suited(manifold)
    with torch.inference_mode(False):  # tensors made there have no derivatives, and these are needed
        return Driver.run(manifold, start, end, search, callback)
