"""Geodesic distance, differentiable in its ends and in the decoder."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import broadcast_points
from geodesic.errors import DecoderError
from geodesic.geometry.checks import guarded, require_manifold
from geodesic.geometry.history import no_gradient
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import rows_at_once
from geodesic.geometry.path import path_length
from geodesic.geometry.pieces import pieced
from geodesic.geometry.points import Rows, require_limit
from geodesic.keywords import renamed
from geodesic.numerics.spline import like, on_interval
from geodesic.solvers.doubts import doubts_of, warn_of_doubts
from geodesic.solvers.mesh import Mesh
from geodesic.solvers.search import IN_SEARCH, Search
from geodesic.solvers.solve import find

__all__ = ["distance", "length_ratio"]


@guarded(differentiable=True)
@renamed(**(IN_SEARCH | {"a": "start", "b": "end"}))
def distance(manifold: Manifold, start: Tensor, end: Tensor, *, search: Search = Search()) -> Float[Tensor, "*batch"]:
    """Geodesic distance d(start, end), with a gradient: for losses that speak of distances.

    dL = (d_a + d_b + d_theta) [ length(c) - lambda^T dE/dc ],   lambda = H^{-1} d length / dc,   c, lambda held fixed

    c are the interior nodes of the solver's path. They make the discrete energy E stationary, but not the length of
    the spline through them, which is returned because it is far more accurate; the adjoint lambda, one solution with
    the Hessian H of the energy, makes the gradient that of the number returned. In the limit it is the first
    variation: G(b) v / |v| at the end, -G(a) v / |v| at the start, and for the decoder's parameters the derivative of
    the length of the path as it stands.

    Warning:
        Not differentiable at equal ends or outputs, where the gradient is taken to be zero, nor where two geodesics are
        equally short, where it is that of the one found. Second derivatives are not those of the distance.

    Reference:
        S. Lang, Fundamentals of Differential Geometry, 1999, chapter IX, for the first variation; adjoints as in M.
        Hinze et al., Optimization with PDE Constraints, 2009.

    Args:
        manifold: Where to measure. Parameters of its decoder that require a gradient get one.
        start: Points, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`.
        end: Points of as many numbers; leading axes are broadcast. Where coordinates are periodic, the distance is that
            to the copy that `solve` goes to.
        search: How geodesics are looked for.

    Returns:
        The distances, (*batch,): lengths of the geodesics found. Where the solver has not converged, or
        the path is not resolved, which is warned of, they are lengths of paths, and longer.

    Raises:
        InputError: Shapes or settings cannot be used, or the manifold has no lengths.
        DecoderError: As from `solve`; or a gradient is asked for that reverse mode cannot give.

    Example:
        >>> import torch, geodesic
        >>> a = torch.tensor([torch.pi / 2, 0.0], requires_grad=True)
        >>> d = geodesic.distance(geodesic.surfaces.Sphere(), a, torch.tensor([torch.pi / 2, 1.0]))
        >>> d.backward()
        >>> print(f"{float(d.detach()):.4f}", [round(x, 4) + 0.0 for x in a.grad.tolist()])
        1.0000 [0.0, -1.0]
    """
    require_manifold(manifold)
    start, end = broadcast_points(manifold.latent_shape, start, end)
    given = Rows(manifold, start=start, end=end)
    require_limit(manifold, "distance")
    solution = find(manifold, start.detach(), end.detach(), search)
    effect = "their distances are lengths of paths that are not the shortest, or inexact"
    warn_of_doubts("distance", doubts_of(solution), effect, refined=search.refines)
    d = math.prod(given.event)
    start, end = start.reshape(-1, d), end.reshape(-1, d)
    mesh = Mesh(solution.mesh.reshape(len(start), -1, d), solution.times.reshape(len(start), -1))
    if manifold.period is not None:  # to the copy of the end that was reached, which moves with it
        end = end + (mesh.path[:, -1] - end).detach()
    # Between equal outputs, as of a constant decoder, the length is the root of zero.
    segments, moving = solution.segments.reshape(-1), (start != end).any(-1) & (solution.length.reshape(-1) != 0)
    lengths = 0 * (start.sum(-1) + end.sum(-1))  # with a gradient, of zero, also where all points are equal
    polygon = solution.polygon.reshape(-1)
    for T, taut in torch.stack([segments, polygon], dim=1).unique(dim=0).tolist():
        (rows,) = (moving & (segments == T) & (polygon == taut)).nonzero(as_tuple=True)
        size, measure = max(1, rows_at_once(manifold, start) // (T + 1)), _polygon_length if taut else _length
        for some in rows.split(size) if len(rows) else ():
            nodes = Mesh(mesh.path[some, : T + 1], mesh.times[some, : T + 1])
            lengths = lengths.index_put((some,), measure(manifold, start[some], nodes, end[some]))
    return given.each(lengths)


@guarded
@renamed(**(IN_SEARCH | {"a": "start", "b": "end"}))
def length_ratio(
    manifold: Manifold, start: Tensor, end: Tensor, *, search: Search = Search()
) -> Float[Tensor, "*batch"]:
    """Geodesic distance over the length of the straight latent line: how much curvature matters.

    At most 1 up to the error of the path, and 1 where straight lines are geodesics. Without history: see `distance`
    for gradients.

    Reference:
        H. Shao, A. Kumar, P. T. Fletcher, The Riemannian Geometry of Deep Generative Models, 2017, whose question it
        is whether the ratio is worth the search.

    Args:
        manifold: Where to measure.
        start: Points, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`.
        end: Points of as many numbers; leading axes are broadcast.
        search: How geodesics are looked for.

    Returns:
        The ratios, (*batch,), 1 between equal points; NaN where the solver has not converged.

    Raises:
        InputError: Shapes or settings cannot be used, or the manifold has no lengths.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> a, b = torch.tensor([torch.pi / 4, 0.0]), torch.tensor([torch.pi / 4, 2.0])
        >>> print(f"{float(geodesic.riemannian.length_ratio(geodesic.surfaces.Sphere(), a, b)):.4f}")
        0.9013
    """
    require_manifold(manifold)
    start, end = broadcast_points(manifold.latent_shape, start, end)
    Rows(manifold, start=start, end=end)
    require_limit(manifold, "length of a geodesic to compare with")
    solution = find(manifold, start, end, search)
    effect = "their ratios are not known, or too large"
    warn_of_doubts("length_ratio", doubts_of(solution), effect, refined=search.refines)
    return torch.where(solution.converged, solution.length_ratio, torch.nan)


def _length(
    manifold: Manifold, start: Float[Tensor, "P d"], mesh: Mesh, end: Float[Tensor, "P d"]
) -> Float[Tensor, " P"]:
    """Lengths of paths that make the energy stationary, with their total derivative in ends and decoder."""
    inner = mesh.path[:, 1:-1].detach().clone()
    path = torch.cat([start[:, None], inner, end[:, None]], dim=1)
    asked = path.requires_grad or manifold.squared_chords(path[:1, :2]).requires_grad
    if not asked:
        return path_length(manifold, path)  # nobody asks for a gradient
    _require_history(manifold, path)
    inner.requires_grad_()
    path = torch.cat([start[:, None], inner, end[:, None]], dim=1)
    length = path_length(manifold, path)
    (slope,) = torch.autograd.grad(length.sum(), inner, retain_graph=True)
    factors = pieced(manifold, path).expansion(path.detach(), mesh.weights).hessian.cholesky()
    # At a path that is no strict minimum the nodes have no derivative; what is left is the path as it stands.
    adjoint = torch.where(factors.positive[:, None, None], factors.solve(slope), 0)
    (force,) = torch.autograd.grad((mesh.weights * manifold.squared_chords(path)).sum() / 2, inner, create_graph=True)
    response = (adjoint * force).sum((1, 2))
    return length - (response - response.detach())


def _polygon_length(
    manifold: Manifold, start: Float[Tensor, "P d"], mesh: Mesh, end: Float[Tensor, "P d"]
) -> Float[Tensor, " P"]:
    """Lengths of taut polygons, with their derivative in ends and decoder: as far as that, the nodes may stay."""
    path = torch.cat([start[:, None], mesh.path[:, 1:-1].detach(), end[:, None]], dim=1)
    if path.requires_grad or manifold.squared_chords(path[:1, :2]).requires_grad:
        _require_history(manifold, path)
    shares, weights = like(path, *on_interval())
    way = path.diff(dim=1)[:, :, None].expand(-1, -1, len(shares), -1)
    speed = manifold.squared_norm(path[:, :-1, None] + shares[:, None] * way, way).sqrt()
    return (speed @ weights).sum(1)


def _require_history(manifold: Manifold, path: Tensor) -> None:
    """Refuse a gradient that would leave out what reverse mode does not see, or that no reverse pass can give."""
    reason = no_gradient(manifold.way(path), twice=True)
    if not reason:
        return
    raise DecoderError(
        f"decoder: {reason}; call distance under torch.no_grad() where the number alone is wanted, and log_map for "
        "the derivative in an end: it is -log_a(b) / d(a, b), lowered by the metric"
    )
