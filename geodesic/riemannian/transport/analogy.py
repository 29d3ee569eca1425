"""Analogies: a is to b as c is to what?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.geometry.checks import guarded
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows, require_limit
from geodesic.keywords import mistaken, renamed
from geodesic.riemannian.maps.exp_map import exp_map
from geodesic.riemannian.maps.follow import IN_FOLLOW, SEGMENTS, Follow, method_at, stride_of
from geodesic.riemannian.maps.followed import Followed
from geodesic.riemannian.maps.log_map import exact_enough, log_map
from geodesic.riemannian.transport.parallel import TRANSPORTS, parallel_transport
from geodesic.solvers.doubts import doubts_of, warn_of_doubts
from geodesic.solvers.search import IN_SEARCH, Search
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solve import find
from geodesic.solvers.status import Status

__all__ = ["Analogy", "analogy"]


@dataclass(frozen=True)
class Analogy(Followed):
    """The fourth points of analogies. Leading axes are those of the points given.

    Attributes:
        point: d, which is to c as b is to a, (*batch, d).
        vector: The logarithm of b at a, (*batch, d): the velocity that leads from a to b in unit time.
        transported: The same at c, (*batch, d).
        path: Nodes of the geodesic from c to the point, (*batch, T + 1, d).
        carried: The vector at every node of `across`, (*batch, T + 1, d).
        along: The geodesics from a to b.
        across: Those from a to c, along which the vector was carried.
        transport_status: Why the transport ended, a `Status` as integer, (*batch,).
        converged: Whether both geodesics, the transport and the exponential map did, (*batch,), boolean.
        status: Of the first of these that did not, in the order logarithm, geodesic to c, transport, exponential map.
        iterations: Of the exponential map, (*batch,).
        error: Sum of the errors of logarithm, transport and exponential map, each over the length, (*batch,).
        rank_deficiency: Latent directions that the decoder ignores at a, b or along the way to c, (*batch,), integer;
            along these d is as c.
    """

    point: Float[Tensor, "*point"]
    vector: Float[Tensor, "*point"]
    transported: Float[Tensor, "*point"]
    path: Float[Tensor, "*path"]
    carried: Float[Tensor, "*path"]
    along: GeodesicSolution
    across: GeodesicSolution
    transport_status: Int[Tensor, "*batch"]


@guarded
@mistaken(method=lambda method: f"it is `{'transport' if method in TRANSPORTS else IN_FOLLOW['method']}` now")
@renamed(**(IN_FOLLOW | IN_SEARCH))
def analogy(
    manifold: Manifold,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    *,
    follow: Follow = Follow(),
    transport: str | None = None,
    search: Search = Search(),
) -> Analogy:
    """The point d with a : b :: c : d.

    d = exp_c(v'),   v' = log_a(b) carried along the geodesic from a to c

    In a flat latent space this is c + b - a. The curvature makes a difference that grows with the area between the
    two geodesics; it is not symmetric, a : c :: b : d has another answer.

    Warning:
        Geodesics are those that `solve` finds: where there are several, the answer depends on which. For decoders
        with kinks (ReLU) whose pieces are not affine take transport="projection".

    Reference:
        H. Shao, A. Kumar, P. T. Fletcher, The Riemannian Geometry of Deep Generative Models, 2017.

    Args:
        manifold: Where to measure.
        a: Points, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`.
        b: What they become, of the same shape.
        c: Points to do the same with, of the same shape.
        follow: How geodesics are followed by the logarithm and exponential maps, see there; with as many segments as
            the geodesics that are looked for, unless told otherwise.
        transport: How to carry the vectors, see `parallel_transport`.
        search: How geodesics are looked for.

    Returns:
        The points, and how they were found. Without history.

    Raises:
        InputError: Points or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric is singular at a point or along the way.
        DecoderError: The decoder is in training mode, or does not take the points.

    Example:
        >>> import torch, geodesic
        >>> torus = geodesic.surfaces.FlatTorus()
        >>> a, b, c = torch.tensor([[0.0, 0.0], [0.5, 0.2], [0.1, 0.7]])
        >>> answer = geodesic.analogy(torus, a, b, c)
        >>> print([round(x, 3) for x in answer.point.tolist()], bool(answer.converged))
        [0.6, 0.9] True
    """
    given = Rows(manifold, a=a, b=b, c=c)
    require_limit(manifold, "exponential map")
    method = stride_of(follow, a.dtype, method_at(follow, manifold, torch.cat(given.rows))).method
    follow, search = replace(follow, method=method), exact_enough(search, "an analogy", method, a.dtype)
    along, across = find(manifold, a, b, search), find(manifold, a, c, search)
    logarithm = log_map(manifold, a, b, follow=follow, solution=along)
    known = torch.where(logarithm.vector.isfinite(), logarithm.vector, 0)
    carried = parallel_transport(manifold, across.path, known, transport=transport)
    # A row that could not be carried has no direction to go on in: it stays where it is, and has not converged.
    lost = carried.status == Status.CUT_SHORT
    lost = lost.reshape(lost.shape + (1,) * (a.dim() - lost.dim()))
    segments = across.path.shape[logarithm.converged.dim()] - 1
    if follow.segments is None and segments != SEGMENTS:
        follow = replace(follow, segments=segments)
    there = exp_map(manifold, c, carried.vector.masked_fill(lost, 0), follow=follow)
    status = there.status
    for part in (carried, across, logarithm):
        status = torch.where(part.converged, status, part.status)
    doubts = torch.stack([doubts_of(across), doubts_of(along)])
    warn_of_doubts("analogy", doubts, "answers that build on them are inexact")
    return Analogy(
        point=there.point,
        vector=logarithm.vector,
        transported=carried.vector,
        path=there.path,
        carried=carried.vectors,
        along=along,
        across=across,
        transport_status=carried.status,
        converged=status == Status.CONVERGED,
        status=status,
        iterations=there.iterations,
        error=logarithm.error + carried.error + there.error,
        method=logarithm.method,
        rank_deficiency=torch.maximum(logarithm.rank_deficiency, carried.rank_deficiency),
    )
