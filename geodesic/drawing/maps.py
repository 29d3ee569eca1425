"""Maps of a latent plane: what the geometry does to areas, and how it bends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.arrays import with_arrays
from geodesic.checks import require_choice, require_integer
from geodesic.drawing.paths import curves_of
from geodesic.errors import InputError
from geodesic.geometry.checks import guarded
from geodesic.geometry.manifold import Manifold
from geodesic.pictures.maps import plot_map as plot_plane
from geodesic.riemannian.curvature.magnification import log_volume
from geodesic.riemannian.curvature.sectional import gaussian_curvature
from geodesic.solvers.solution import GeodesicSolution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_map"]


@guarded(differentiable=True)  # its answer has no numbers
def plot_map(
    manifold: Manifold,
    bounds: Any,
    solution: Any = None,
    *,
    quantity: str = "magnification",
    resolution: int = 80,
    ax: Axes | None = None,
) -> Figure:
    """Draw a map of a latent plane: how much the decoder magnifies areas, or the curvature, with paths on top.

    Paths keep out of dark places of the first, where a latent step changes much. `plot(solution, points, labels,
    ax=figure.axes[0])` adds data and straight lines to a map.

    Args:
        manifold: The geometry, of two latent coordinates.
        bounds: The least and the largest of each coordinate, ((-3, 3), (-2, 2)). As a tensor or an array, (2, 2), it
            also tells the dtype and the device of the points; numbers take those of the solution, or torch's default.
        solution: What `plot` takes, one of it; no paths if None.
        quantity: "magnification", the logarithm of sqrt(det G) to base 10; or "curvature", Gauss's.
        resolution: Points along each coordinate, at least 2. All are measured: 6,400 by default.
        ax: Axes of matplotlib to draw on; a new figure if None.

    Returns:
        The figure, which a notebook shows by itself.

    Raises:
        InputError: Bounds or settings cannot be used, or paths have other than two coordinates.
        DecoderError: The decoder does not take points of two coordinates, or cannot be used.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> import geodesic
        >>> figure = geodesic.plot_map(geodesic.surfaces.Torus(), ((0, 6), (0, 6)), quantity="curvature", resolution=9)
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['$z_2$', 'Gaussian curvature $K$']
    """
    require_choice("quantity", quantity, ("magnification", "curvature"))
    require_integer("resolution", resolution, least=2)
    paths = None if solution is None else curves_of(solution)[0]
    if paths is not None and paths.shape[-1] != 2:
        raise InputError(f"solution: a map has two coordinates, and these paths have {paths.shape[-1]}")
    low, high = _bounds(bounds, solution).T
    first, second = (
        torch.linspace(float(a), float(b), resolution, dtype=low.dtype, device=low.device)
        for a, b in zip(low, high, strict=True)
    )
    grid = torch.stack(torch.meshgrid(first, second, indexing="xy"), dim=-1)
    z = grid.reshape(-1, 2)
    if quantity == "curvature":
        values = gaussian_curvature(manifold, z)
    else:
        values = log_volume(manifold, z)
        values = torch.where(values.isfinite(), values, torch.nan)
    return plot_plane(
        with_arrays(grid.double()), with_arrays(values.double()).reshape(grid.shape[:2]), quantity, paths=paths, axes=ax
    )


def _bounds(bounds: Any, solution: Any) -> Float[Tensor, "2 2"]:
    """A tensor of the bounds, a row for each coordinate, of the dtype and device that the points shall have."""
    like = torch.as_tensor(solution.path) if isinstance(solution, GeodesicSolution) else torch.empty(0)
    try:
        limits = bounds if isinstance(bounds, Tensor) else torch.as_tensor(bounds).to(like)
        limits = limits if limits.is_floating_point() else limits.to(like)
        usable = limits.shape == (2, 2) and bool(limits.isfinite().all() & (limits[:, 0] < limits[:, 1]).all())
    except (TypeError, ValueError, RuntimeError):  # what torch raises of what is no array of numbers
        usable = False
    if not usable:
        raise InputError(
            "bounds: expected the least and the largest of two coordinates, such as ((-3, 3), (-3, 3)), got "
            f"{bounds.tolist() if isinstance(bounds, Tensor) else bounds!r}"
        )
    return limits
