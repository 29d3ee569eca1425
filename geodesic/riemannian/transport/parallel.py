"""Parallel transport: a tangent vector carried along a path without turning or stretching it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import require_choice, require_positive, require_same_type
from geodesic.errors import InputError
from geodesic.geometry.checks import guarded
from geodesic.geometry.encoder import Encoder
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import rows_at_once
from geodesic.geometry.points import Rows, inverse_at, norms_at, require_limit
from geodesic.keywords import mistaken, renamed
from geodesic.riemannian.endings import unless_unseen
from geodesic.riemannian.maps.refraction import has_affine_pieces, require_affine_pieces
from geodesic.riemannian.transport.connection import along_connection
from geodesic.riemannian.transport.ladders import along_ladder
from geodesic.riemannian.transport.projection import along_projection
from geodesic.riemannian.transport.refraction import along_faces
from geodesic.solvers.answer import Answer
from geodesic.solvers.doubts import doubts_of, warn_of_doubts
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.status import Status

__all__ = ["TRANSPORTS", "ParallelTransport", "parallel_transport"]

TRANSPORTS = ("connection", "pole_ladder", "schild_ladder", "projection", "refraction")
"""How vectors can be carried."""


@dataclass(frozen=True)
class ParallelTransport(Answer):
    """Vectors carried along paths. Leading axes are those of the vectors given.

    Attributes:
        vector: The vectors at the ends of the paths, (*batch, d).
        vectors: At all nodes, (*batch, T + 1, d); NaN from where a row was lost on.
        norm_change: Largest relative change of the Riemannian norm along the path, (*batch,). Transport keeps it.
            "connection" and "refraction" do so by construction, as "projection" does without an encoder: there it is
            rounding.
        error: Estimate of the error of `vector` over its norm, (*batch,). For "connection" the change of the metric
            it misses between the nodes, about the error where second derivatives jump, some times as much where they do
            not; for "projection" the difference to every second node, about the error; for the others `norm_change`.
        converged: Whether nothing failed and `error` is at most `tol`, (*batch,), boolean.
        status: Why the row ended, a `Status` as integer, (*batch,).
        iterations: Segments along which the vector was carried, (*batch,).
        rank_deficiency: Latent directions that the decoder ignores along the path, (*batch,), integer; vectors have no
            part along these.
    """

    vector: Float[Tensor, "*point"]
    vectors: Float[Tensor, "*path"]
    norm_change: Float[Tensor, "*batch"]


@guarded
@mistaken(stop="`tol` is a plain keyword here: parallel_transport(..., tol=0.05)")
@renamed(method="transport")
def parallel_transport(
    manifold: Manifold,
    path: Tensor | GeodesicSolution,
    v: Tensor,
    *,
    transport: str | None = None,
    encoder: Callable[[Tensor], Tensor] | None = None,
    tol: float = 0.05,
) -> ParallelTransport:
    """Parallel transport of tangent vectors along paths.

    v' = -Gamma(c', v)   along the curve c through the nodes

    Lengths and angles between vectors are kept, and so is a geodesic's own velocity. Where the decoder ignores
    directions, the part of v along them is dropped, and vectors are the shortest that change the outputs so; ladders
    do not converge where these directions turn along the path. Errors fall with the number T of segments of the path,
    at a pace that depends on how vectors are carried:

    - "connection", of order 4: the equation itself along the not-a-knot spline through the nodes, in orthonormal
      frames, by products of rotations. Norms and angles are kept to rounding however few the segments.
      Where second derivatives jump (ELU) the order falls to 1.
    - "pole_ladder" and "schild_ladder", of order 2: geodesic parallelograms from node to node, see `along_ladder`.
      They ask for the exponential map alone.
    - "projection", of order 1: Shao et al.'s algorithm 2, decoder outputs projected onto the next tangent space. It
      asks for first derivatives alone, also of decoders with kinks (ReLU), at each of which it errs by the
      square of the angle of the kink.
    - "refraction", exact along the polygon of the nodes: for decoders that are affine on pieces, such as networks of
      ReLUs with a linear end, in float64. On a piece vectors stay as they are, and through a face they go as the
      pieces on both sides unfold, see `exp_map`. Once around a vertex they turn by its curvature, a full turn less the
      angles that meet there.

    Unless told otherwise it is "refraction" where outputs are affine on pieces in float64, and "connection" elsewhere.

    Warning:
        The path's own errors remain, and the curve between the nodes is the spline: nodes with corners, and few of
        them, carry vectors along another curve. The connection of a decoder with kinks misses what happens at them;
        such rows are reported as `Status.NOT_RESOLVED`. "refraction" carries no vector through a vertex or a piece of
        lower rank: such rows are reported as `Status.CUT_SHORT`.

    Reference:
        H. Shao, A. Kumar, P. T. Fletcher, The Riemannian Geometry of Deep Generative Models, 2017, algorithm 2;
        N. Guigui, X. Pennec, Numerical Accuracy of Ladder Schemes for Parallel Transport on Manifolds, 2022;
        A. Iserles, S. P. Norsett, On the Solution of Linear Differential Equations in Lie Groups, 1999.

    Args:
        manifold: Where the vectors live.
        path: Nodes at equal times, (*batch, T + 1, d) with T at least 2, or the answer of `solve`;
            (*batch, T + 1, *latent_shape) for a manifold with a `latent_shape`.
        v: Vectors at the first nodes in latent coordinates, (*batch, d).
        transport: One of the five above.
        encoder: With "projection" only: the row-wise mean of q(z|x), (N, ...) to (N, d), whose Jacobian takes the
            last output vector back to the latent space, as in the paper. Without it the decoder's pseudoinverse
            does, which is exact.
        tol: Largest `error` of vectors that count as converged.

    Returns:
        The vectors at the ends and at all nodes, and what happened to each row. Without history.

    Raises:
        InputError: Shapes, dtypes or settings cannot be used, the manifold has no lengths, or no embedding where
            this transport needs one.
        SingularMetricError: The metric at a node is singular, and its rank not the same all around and along the path;
            or it is zero.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> path = geodesic.straight_path(torch.tensor([1.0, 0.0]), torch.tensor([1.0, torch.pi]))
        >>> answer = geodesic.parallel_transport(geodesic.surfaces.Sphere(), path, torch.tensor([1.0, 0.0]))
        >>> angle = torch.atan2(answer.vector[1] * path[-1, 0].sin(), answer.vector[0])
        >>> print(f"{float(angle):.3f}")  # half round the circle of colatitude 1: -pi cos(1)
        -1.697
    """
    given, nodes, rows = _checked(manifold, path, v)
    if transport is None:
        refracts = encoder is None and nodes.dtype == torch.float64 and has_affine_pieces(manifold, nodes.flatten(0, 1))
        transport = "refraction" if refracts else "connection"
    require_choice("transport", transport, TRANSPORTS)
    if transport == "refraction":
        require_affine_pieces(manifold, nodes.flatten(0, 1))
    if isinstance(path, GeodesicSolution):
        warn_of_doubts("parallel transport", doubts_of(path), "vectors are carried along other curves")
    if encoder is not None and transport != "projection":
        raise InputError(f"encoder: used by transport='projection' alone, got transport={transport!r}; leave it out")
    require_positive("tol", tol)
    with torch.inference_mode(False), torch.no_grad():
        nodes, rows = nodes.clone(), rows.clone()  # what was made in inference mode has no derivatives
        size = rows_at_once(manifold, nodes.flatten(0, 1))
        stalled, error = torch.zeros_like(rows[:, 0], dtype=torch.bool), torch.zeros_like(rows[:, 0])
        inverse = inverse_at(manifold, nodes, on_range=True)
        require_regular(nodes, inverse, "path")
        rows = inverse.seen(rows[:, None].expand_as(nodes))[:, 0]
        norm = None
        if transport == "projection":
            if not manifold.has_embedding:
                raise InputError(
                    f"manifold: projection needs points of an embedding, got {type(manifold).__name__}; use "
                    "transport='connection'"
                )
            through = None if encoder is None else Encoder(encoder)
            vectors, error = along_projection(manifold, nodes, rows, through, size)
        elif transport == "refraction":
            vectors, norm = along_faces(manifold, nodes, rows, max(1, size // 4))
        else:
            if transport == "connection":
                vectors, error = along_connection(manifold, nodes, rows, size)
            else:
                vectors, stalled = along_ladder(manifold, nodes, rows, size, schild=transport == "schild_ladder")
        vectors = inverse.seen(vectors)
        even = (inverse.deficiency == inverse.deficiency[:, :1]).to(torch.uint8).cumprod(1).bool()
        vectors = torch.where(even[..., None], vectors, torch.nan)
        norm = norms_at(manifold, nodes, vectors) if norm is None else norm
    moving = (rows != 0).any(-1)
    change = torch.where(moving, (norm - norm[:, :1]).abs().amax(-1) / norm[:, 0], 0).nan_to_num(nan=torch.inf)
    error = torch.where(moving, torch.maximum(change, error), 0).nan_to_num(nan=torch.inf, posinf=torch.inf)
    status = torch.full_like(moving, Status.CONVERGED, dtype=torch.long)
    status = torch.where(error > tol, Status.NOT_RESOLVED, status)
    status = torch.where(stalled, Status.NO_NEARER, status)
    status = torch.where(~vectors.isfinite().flatten(1).all(-1), Status.CUT_SHORT, status)
    status = unless_unseen(manifold, nodes, status)
    return ParallelTransport(
        vector=given.back(vectors[:, -1]),
        vectors=given.back(vectors),
        norm_change=given.each(change),
        error=given.each(error),
        converged=given.each(status == Status.CONVERGED),
        status=given.each(status),
        iterations=given.each(vectors[:, 1:].isfinite().all(-1).sum(-1)),
        rank_deficiency=given.each(inverse.deficiency.amax(-1)),
    )


def _checked(manifold: Any, path: Any, v: Any) -> tuple[Rows, Tensor, Tensor]:
    """The vectors as given; the nodes as (N, T + 1, d) and the vectors as (N, d)."""
    if isinstance(path, GeodesicSolution):
        path = path.path
    if isinstance(v, GeodesicSolution):
        raise InputError("v: got the answer of `solve`; the path comes first: parallel_transport(manifold, path, v)")
    nodes = Rows(manifold, path=path)
    given = Rows(manifold, v=v)
    require_limit(manifold, "parallel transport")
    if not nodes.batch or nodes.batch[-1] < 3:
        raise InputError(
            f"path: expected nodes of shape (*batch, T + 1, {', '.join(map(str, given.event))}) with T >= 2, got "
            f"{tuple(path.shape)}"
        )
    if nodes.batch[:-1] != given.batch or nodes.event != given.event:
        raise InputError(
            f"v: expected a vector for the first node of each path, {(*nodes.batch[:-1], *nodes.event)}, got "
            f"{tuple(v.shape)}; expand the path to carry many vectors along it"
        )
    require_same_type("v", v, "path", path)
    (points,), (rows,) = nodes.rows, given.rows
    return given, points.reshape(len(rows), -1, points.shape[-1]), rows
