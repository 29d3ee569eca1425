"""What the geometry does to areas of a plane, or how it bends there: the shading of a map."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.riemannian.curvature.magnification import log_volume
from geodesic.riemannian.curvature.sectional import curvature_where_regular, gaussian_curvature

__all__ = ["SHADINGS", "shading"]

SHADINGS = ("magnification", "curvature")


def shading(manifold: Manifold, z: Tensor, directions: Tensor, quantity: str) -> NDArray[np.float32]:
    """Magnification of areas of a plane, log10, or its sectional curvature, (n,); NaN where the metric is singular.

    log10 sqrt(<u, u> <v, v> - <u, v>^2)  for the directions u and v of the plane

    Args:
        manifold: The geometry.
        z: Points of the plane, (n, d).
        directions: u and v, orthonormal, (2, d).
        quantity: One of `SHADINGS`.

    Example:
        >>> import torch, geodesic
        >>> from geodesic.explorer.shading import shading
        >>> plane = geodesic.PullbackManifold(lambda z: 10 * z)
        >>> shading(plane, torch.zeros(1, 3), torch.eye(2, 3), "magnification").tolist()
        [2.0]
    """
    with torch.no_grad():
        if z.shape[1] == 2 and quantity == "curvature":
            values = gaussian_curvature(manifold, z)
        elif z.shape[1] == 2:
            values = log_volume(manifold, z) / np.log(10)
        else:
            u, v = (direction.expand_as(z) for direction in directions)
            values = curvature_where_regular(manifold, z, u, v) if quantity == "curvature" else _area(manifold, z, u, v)
    values = torch.where(values.isfinite(), values, torch.nan)
    return values.detach().cpu().numpy().astype(np.float32)


def _area(manifold: Manifold, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
    Gu, Gv = manifold.lowered(z, u), manifold.lowered(z, v)
    squared = (u * Gu).sum(-1) * (v * Gv).sum(-1) - (u * Gv).sum(-1).square()
    return squared.log10() / 2
