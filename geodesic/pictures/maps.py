"""Pictures of the metric: maps of a latent plane, and histograms over encodings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geodesic.pictures.canvas import BLUE, ORANGE, draw_encodings, draw_path, frame, legend_beside, new_figure

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = ["plot_histograms", "plot_map"]

_TITLES = {
    "magnification": "$\\log_{10}$ magnification factor $\\sqrt{\\det G}$",
    "curvature": "Gaussian curvature $K$",
}


def plot_map(arrays: Mapping[str, NDArray], quantity: str) -> Figure:
    """A map of the latent plane with encodings and geodesics on top.

    Args:
        arrays: Those of `map_curvature` for d = 2.
        quantity: "magnification" or "curvature".

    Returns:
        The figure.
    """
    figure, (axes,) = new_figure(1, width=6.4, height=4.6)
    first, second = arrays["grid"][0, :, 0], arrays["grid"][:, 0, 1]
    if quantity == "curvature":
        values, style, extend = _signed(arrays["grid_curvature"])
    else:
        values, style, extend = arrays["grid_log_volume"] / np.log(10), {"cmap": _pale("Greys", 0.0, 0.6)}, "neither"
    axes.set_facecolor("#F0E442")  # singular points: a color that no map has
    image = axes.pcolormesh(first, second, np.ma.masked_invalid(values), shading="nearest", **style)
    bar = figure.colorbar(image, ax=axes, extend=extend, fraction=0.05, pad=0.02)
    bar.set_label(_TITLES[quantity], fontsize=10)
    bar.ax.tick_params(labelsize=9)
    size = 14.0 * min(1.0, 500 / len(arrays["encodings"])) ** 0.5  # many would hide the map
    draw_encodings(axes, arrays["encodings"], arrays.get("labels"), size=size, alpha=1.0, rim=0.3)
    for i, path in enumerate(arrays["paths"]):
        draw_path(axes, path, "#000000", label="geodesic" if i == 0 else None)
        axes.plot(*path[[0, -1]].T, "o", color="white", markeredgecolor="#000000", ms=4.5, zorder=4)
    if np.isnan(values).any():
        axes.plot([], [], "s", color="#F0E442", label="singular")
    frame(axes, first, second)
    legend_beside(figure, 1.3)
    return figure


def plot_histograms(arrays: Mapping[str, NDArray]) -> Figure:
    """How sectional curvatures, volumes and condition numbers are spread over encodings.

    Args:
        arrays: Those of `map_curvature`.

    Returns:
        The figure.
    """
    figure, axes = new_figure(3, width=8.0, height=2.7)
    curvature = arrays["curvature"].ravel()
    columns = (
        (curvature, "sectional curvature $K$", "planes"),
        (arrays["log_volume"] / np.log(10), _TITLES["magnification"], "encodings"),
        (np.log10(arrays["condition_number"]), "$\\log_{10}$ condition number of $G$", "encodings"),
    )
    for ax, (values, name, what) in zip(axes, columns, strict=True):
        known = values[np.isfinite(values)]
        if len(known):
            low, high = np.quantile(known, [0.01, 0.99])
            # The outermost bins hold what is beyond, so that a few extremes do not flatten the rest.
            ax.hist(known.clip(low, high), bins=30, color=BLUE)
            ax.axvline(float(np.median(known)), color=ORANGE, lw=1.5, label=f"median {np.median(known):.3g}")
            ax.legend(frameon=False, fontsize=8)
        ax.set_xlabel(name, fontsize=9)
        ax.set_ylabel(what, fontsize=9)
    return figure


def _signed(values: NDArray) -> tuple[NDArray, dict[str, Any], Any]:
    """Linear up to the median size, then logarithmic up to the 99th percentile: curvature has few and huge extremes."""
    from matplotlib.colors import Normalize, SymLogNorm

    size = np.abs(values[np.isfinite(values)])
    if not size.any():
        return values, {"cmap": _pale("PuOr_r", 0.15, 0.85), "norm": Normalize(-1, 1)}, "neither"
    high = float(np.quantile(size, 0.99)) or float(size.max())
    low = max(float(np.median(size)), high / 1000)
    norm = SymLogNorm(low, vmin=-high, vmax=high)
    return values, {"cmap": _pale("PuOr_r", 0.15, 0.85), "norm": norm}, "both" if size.max() > high else "neither"


def _pale(name: str, low: float, high: float) -> Colormap:
    """Part of a color map, without the dark ends on which points cannot be seen."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(f"pale {name}", colormaps[name](np.linspace(low, high, 256)))
