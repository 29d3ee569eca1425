"""Pictures of the metric: maps of a latent plane, and histograms over encodings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geodesic.pictures.canvas import (
    GEODESIC,
    axes_or_new,
    draw_encodings,
    draw_ends,
    draw_legend,
    draw_path,
    frame,
    new_figure,
)
from geodesic.pictures.style import BLUE, ORANGE, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = ["plot_histograms", "plot_map"]

_SIDE = 4.2  # inches of the longer side of a map

_TITLES = {
    "magnification": "$\\log_{10}$ magnification factor $\\sqrt{\\det G}$",
    "curvature": "Gaussian curvature $K$",
}


@styled
def plot_map(
    grid: NDArray,
    values: NDArray,
    quantity: str,
    *,
    encodings: NDArray | None = None,
    labels: NDArray | None = None,
    paths: NDArray | None = None,
    axes: Axes | None = None,
) -> Figure:
    """A map of the latent plane with encodings and geodesics on top.

    Args:
        grid: Latent points, (n, m, 2): rows of one second coordinate.
        values: The natural logarithm of the magnification factor, or the curvature there, (n, m); NaN where the metric
            is singular.
        quantity: "magnification" or "curvature".
        encodings: Points on top, (N, 2), or None.
        labels: Their classes, (N,), or None.
        paths: Geodesics on top, (P, nodes, 2), or None.
        axes: Where to draw; on a new figure by default.

    Returns:
        The figure.
    """
    first, second = grid[0, :, 0], grid[:, 0, 1]
    ratio = (second[-1] - second[0]) / (first[-1] - first[0])
    room = 1.3 if encodings is None else 2.2  # for the color bar and a legend
    figure, ax = axes_or_new(axes, width=_SIDE * min(1, 1 / ratio) + room, height=_SIDE * min(1, ratio) + 0.4)
    if quantity == "curvature":
        values, style, extend = _signed(values)
    else:
        values, style, extend = values / np.log(10), {"cmap": _pale("Greys", 0.0, 0.6)}, "neither"
    ax.set_facecolor("#F0E442")  # singular points: a color that no map has
    image = ax.pcolormesh(first, second, np.ma.masked_invalid(values), shading="nearest", **style)
    bar = figure.colorbar(image, ax=ax, extend=extend, fraction=0.05, pad=0.02)
    bar.set_label(_TITLES[quantity], fontsize=10)
    bar.ax.tick_params(labelsize=9)
    if quantity == "curvature":
        bar.set_ticks(_decades(style["norm"]))
    if encodings is not None:
        size = 14.0 * min(1.0, 500 / len(encodings)) ** 0.5  # many would hide the map
        draw_encodings(ax, encodings, labels, size=size, alpha=1.0, rim=0.3)
    for i, path in enumerate(() if paths is None else paths):
        draw_path(ax, path, GEODESIC, label="geodesic" if i == 0 and encodings is not None else None)
        draw_ends(ax, path)
    if np.isnan(values).any():
        ax.plot([], [], "s", color="#F0E442", label="singular")
    frame(ax, first, second)
    draw_legend(ax, 1.3, beside=axes is None)
    return figure


@styled
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


def _decades(norm: Any) -> list[float]:
    """Zero, and powers of ten that lie apart on the scale of `_signed`; its ends where there are none."""
    low, high = getattr(norm, "linthresh", norm.vmax), norm.vmax
    powers = 10.0 ** np.arange(np.ceil(np.log10(2 * low)), np.log10(high) + 1e-9)
    sizes = powers.tolist() or [high]
    return [*(-x for x in reversed(sizes)), 0.0, *sizes]


def _pale(name: str, low: float, high: float) -> Colormap:
    """Part of a color map, without the dark ends on which points cannot be seen."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(f"pale {name}", colormaps[name](np.linspace(low, high, 256)))
