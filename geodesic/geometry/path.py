"""Paths: T segments, T + 1 nodes, fixed ends; the spline through the nodes and its length."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.arrays import takes_arrays
from geodesic.checks import require_alike, require_integer, require_tensor
from geodesic.errors import InputError
from geodesic.geometry.checks import admit_path, guarded
from geodesic.geometry.history import with_right_history
from geodesic.geometry.manifold import Manifold
from geodesic.numerics.spline import at_midpoints, like, on_interval, on_segments, spline_matrices

__all__ = [
    "chord_length",
    "constant_speed",
    "path_length",
    "refine_path",
    "spline_speed",
    "spline_through",
    "straight_path",
    "with_equal_chords",
]


@takes_arrays
def straight_path(start: Tensor, end: Tensor, segments: int = 32) -> Float[Tensor, "*batch nodes d"]:
    """The straight line z_i = (1 - i/T) start + (i/T) end in latent space.

    Args:
        start: First endpoints, (*batch, d).
        end: Last endpoints, (*batch, d).
        segments: Number T of segments, at least 1.

    Returns:
        The paths, (*batch, T + 1, d); their ends are the given points bit for bit.

    Raises:
        InputError: The shapes differ, or T is below 1.

    Example:
        >>> import torch, geodesic
        >>> geodesic.straight_path(torch.zeros(1), torch.ones(1), segments=2)
        tensor([[0.0000],
                [0.5000],
                [1.0000]])
    """
    require_integer("segments", segments, least=1)
    require_alike(start=start, end=end)
    t = torch.linspace(0, 1, segments + 1, dtype=start.dtype, device=start.device)[:, None]
    # lerp gives both ends bit for bit, and a constant path between equal ends.
    return torch.lerp(start[..., None, :], end[..., None, :], t)


@takes_arrays
def refine_path(path: Tensor, segments: int) -> Float[Tensor, "*batch nodes d"]:
    """The same curve with another number of segments: the not-a-knot cubic spline through the nodes, resampled.

    Args:
        path: Nodes, (*batch, T + 1, d), with T at least 2.
        segments: The new number of segments, at least 1.

    Returns:
        The new nodes, (*batch, segments + 1, d); the ends are kept bit for bit.

    Raises:
        InputError: The path is no tensor, has fewer than 3 nodes, or `segments` is below 1.

    Example:
        >>> import torch, geodesic
        >>> t = torch.linspace(0, 1, 5)[:, None]
        >>> geodesic.refine_path(t**3, 2)
        tensor([[0.0000],
                [0.1250],
                [1.0000]])
    """
    if isinstance(path, Manifold):
        raise InputError("path: got a manifold, which refine_path does not take; write refine_path(path, segments)")
    _require_spline(path)
    require_integer("segments", segments, least=1)
    matrix, _ = like(path, *spline_matrices(path.shape[-2] - 1, segments))
    refined = matrix @ path
    return torch.cat([path[..., :1, :], refined[..., 1:-1, :], path[..., -1:, :]], dim=-2)


@guarded(differentiable=True)
def constant_speed(manifold: Manifold, path: Tensor, segments: int | None = None) -> Float[Tensor, "*batch nodes d"]:
    """Nodes moved along the path's own polygon until its chords are about equally long.

    The curve stays, its energy falls: of all parametrizations of a curve that of constant speed has the least.
    Lengths between the nodes are interpolated linearly, so chords become equal only up to the change of the
    speed within a segment.

    Args:
        manifold: Whose chords to make equal.
        path: Nodes, (*batch, T + 1, d).
        segments: The number of segments of the result; T by default.

    Returns:
        The new nodes, (*batch, segments + 1, d); the ends are kept bit for bit. A path without length keeps its
        own parametrization.

    Raises:
        InputError: The path has no segment.

    Example:
        >>> import torch, geodesic
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> geodesic.geometry.constant_speed(plane, torch.tensor([[0.0], [1.0], [4.0]]))
        tensor([[0.],
                [2.],
                [4.]])
    """
    if path.dim() < 2 or path.shape[-2] < 2:
        raise InputError(f"path: expected nodes of shape (*batch, T + 1, d) with T >= 1, got {tuple(path.shape)}")
    admit_path(manifold, path)
    with torch.no_grad():
        chords = manifold.squared_chords(path).clamp_min(0).sqrt()
    return with_equal_chords(path, chords, segments)


def with_equal_chords(
    path: Float[Tensor, "*batch nodes d"], chords: Float[Tensor, "*batch T"], segments: int | None = None
) -> Tensor:
    """`constant_speed` by the lengths of the chords."""
    d, T = path.shape[-1], path.shape[-2] - 1
    chords = torch.where(chords.sum(-1, keepdim=True) > 0, chords, torch.ones_like(chords))
    arc = torch.nn.functional.pad(chords.cumsum(-1), (1, 0))
    share = (arc / arc[..., -1:]).contiguous()
    t = torch.linspace(0, 1, (segments or T) + 1, dtype=path.dtype, device=path.device)
    right = torch.searchsorted(share, t.expand(*share.shape[:-1], -1).contiguous(), right=True).clamp(1, T)
    before, after = share.gather(-1, right - 1), share.gather(-1, right)
    weight = ((t - before) / (after - before).clamp_min(torch.finfo(path.dtype).tiny)).clamp(0, 1)

    def nodes(i: Tensor) -> Tensor:
        return path.gather(-2, i[..., None].expand(*i.shape, d))

    moved = torch.lerp(nodes(right - 1), nodes(right), weight[..., None])
    return torch.cat([path[..., :1, :], moved[..., 1:-1, :], path[..., -1:, :]], dim=-2)


def chord_length(manifold: Manifold, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch"]:
    """Sum of the chords between decoded nodes: below the length of any curve through them.

    Args:
        manifold: Whose chords to sum.
        path: Nodes, (*batch, T + 1, d).
    """
    return manifold.squared_chords(path).clamp_min(0).sqrt().sum(-1)


@guarded(differentiable=True)
def path_length(manifold: Manifold, path: Tensor) -> Float[Tensor, "*batch"]:
    """Riemannian length of the cubic spline c through the nodes, by Gauss-Legendre quadrature.

    length = integral over [0, 1] of sqrt(c'^T G(c) c') dt

    The sum of the chords between decoded nodes is not a length: it is too short, of order 1/T^2, and a coarse
    path lowers it by jumping through ambient space. The spline has not-a-knot ends; natural ends lose an
    order. For an exact geodesic's nodes the error is of order 1/T^4.

    Warning:
        Derivatives do not see where a decoder jumps (`round`, `sign`, `argmax`, a hard threshold): the length leaves
        such steps out, and may be below the sum of the chords. `solve` names such pairs, `Status.JUMP`.

    Args:
        manifold: Whose metric to measure with.
        path: Nodes, (*batch, T + 1, d), with T at least 2.

    Returns:
        The lengths, (*batch,).

    Raises:
        InputError: The path has fewer than 3 nodes.
        DecoderError: A gradient is asked for that reverse mode cannot give: at once where the path requires it, from
            `backward` where parameters of the decoder do.

    Example:
        >>> import torch, geodesic
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> path = geodesic.straight_path(torch.zeros(2), torch.tensor([3.0, 4.0]))
        >>> print(f"{float(geodesic.path_length(plane, path)):.4f}")
        5.0000
    """
    _require_spline(path)
    admit_path(manifold, path)
    speed, weights = spline_speed(manifold, path)
    return with_right_history(manifold, path, speed @ weights, "path_length", twice=True)


def spline_speed(manifold: Manifold, path: Tensor) -> tuple[Float[Tensor, "*batch Q"], Float[Tensor, " Q"]]:
    """The speed |c'| of the spline through the nodes at Gauss-Legendre points, and the weights, which sum to 1.

    Where a curve has no length beside its segments, the chords over the time of a segment.
    """
    _require_spline(path)
    T = path.shape[-2] - 1
    if not manifold.has_length:
        chords = manifold.squared_chords(path).sqrt()
        return T * chords, torch.full_like(path[(0,) * (path.dim() - 2)][1:, 0], 1 / T)
    z, v = (x.flatten(-3, -2) for x in on_segments(path))
    (weights,) = like(path, on_interval()[1])
    return T * manifold.squared_norm(z, v).sqrt(), weights.repeat(T) / T


def spline_through(path: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The spline through the nodes, its velocity and its second derivative halfway between them, (*batch, T, d)."""
    _require_spline(path)
    return at_midpoints(path)


def _require_spline(path: Tensor) -> None:
    require_tensor("path", path)
    if path.dim() < 2 or path.shape[-2] < 3:
        raise InputError(f"path: expected nodes of shape (*batch, T + 1, d) with T >= 2, got {tuple(path.shape)}")
