"""Paths: T segments, T + 1 nodes, fixed ends; the spline through the nodes and its length."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold

__all__ = ["path_length", "straight_path"]

_GAUSS_POINTS = 4  # per segment: quadrature of order 8, well under the spline's own error


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
    if isinstance(segments, bool) or not isinstance(segments, int) or segments < 1:
        raise InputError(f"segments: expected an integer of at least 1, got {segments!r}")
    if start.shape != end.shape:
        raise InputError(f"end: expected the shape of start, {tuple(start.shape)}, got {tuple(end.shape)}")
    if start.dtype != end.dtype or not start.is_floating_point():
        raise InputError(f"end: expected start and end of one floating dtype, got {start.dtype} and {end.dtype}")
    if start.dim() == 0:
        raise InputError("start: expected points of shape (*batch, d), got a single number")
    t = torch.linspace(0, 1, segments + 1, dtype=start.dtype, device=start.device)[:, None]
    # lerp gives both ends bit for bit, and a constant path between equal ends.
    return torch.lerp(start[..., None, :], end[..., None, :], t)


def path_length(manifold: Manifold, path: Tensor) -> Float[Tensor, "*batch"]:
    """Riemannian length of the cubic spline c through the nodes, by Gauss-Legendre quadrature.

    length = integral over [0, 1] of sqrt(c'^T G(c) c') dt

    The sum of the chords between decoded nodes is not a length: it is too short, of order 1/T^2, and a coarse
    path lowers it by jumping through ambient space. The spline has not-a-knot ends; natural ends lose an
    order. For an exact geodesic's nodes the error is of order 1/T^4.

    Args:
        manifold: Whose metric to measure with.
        path: Nodes, (*batch, T + 1, d), with T at least 2.

    Returns:
        The lengths, (*batch,).

    Raises:
        InputError: The path has fewer than 3 nodes.

    Example:
        >>> import torch, geodesic
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> geodesic.path_length(plane, geodesic.straight_path(torch.zeros(2), torch.tensor([3.0, 4.0])))
        tensor(5.)
    """
    if path.dim() < 2 or path.shape[-2] < 3:
        raise InputError(f"path: expected nodes of shape (*batch, T + 1, d) with T >= 2, got {tuple(path.shape)}")
    T = path.shape[-2] - 1
    position, velocity, weights = (
        torch.as_tensor(a, dtype=path.dtype, device=path.device) for a in _spline_quadrature(T)
    )
    c, c_dot = position @ path, velocity @ path
    return manifold.squared_norm(c, c_dot).sqrt() @ weights


@lru_cache(maxsize=64)
def _spline_quadrature(T: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The spline is linear in its nodes: matrices (Q, T + 1) from nodes to c and c' at Q points; weights (Q,)."""
    points, weights = np.polynomial.legendre.leggauss(_GAUSS_POINTS)
    t = ((np.arange(T)[:, None] + (points + 1) / 2) / T).ravel()
    spline = CubicSpline(np.linspace(0, 1, T + 1), np.eye(T + 1), bc_type="not-a-knot")
    return spline(t), spline(t, 1), np.tile(weights / 2 / T, T)
