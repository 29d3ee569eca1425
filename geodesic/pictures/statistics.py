"""Pictures of what is made from geodesics: means, analogies, and how much distances vary over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geodesic.pictures.canvas import DASHES, MARKERS, draw_encodings, draw_legend, draw_path, frame, new_figure
from geodesic.pictures.style import BLUE, GREEN, LINE_COLORS, ORANGE, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_analogy", "plot_means", "plot_variation"]

_ARROWS = 5  # carried vectors that are drawn


@styled
def plot_means(arrays: Mapping[str, NDArray]) -> Figure:
    """The latent plane with both means of every group, and the geodesics from the Fréchet mean to its points.

    Args:
        arrays: Those of `find_means` for d = 2.

    Returns:
        The figure.
    """
    figure, (axes,) = new_figure(1, width=6.0, height=4.6)
    labels = arrays.get("labels")
    colors = draw_encodings(axes, arrays["encodings"], labels, size=9.0, alpha=0.3)
    for k, name in enumerate(arrays["names"]):
        color = colors.get(str(name), "#555555")
        for path in arrays["paths"][arrays["group"] == k]:
            axes.plot(*path.T, color=color, lw=0.6, alpha=0.7)
        both = np.stack([arrays["euclidean"][k], arrays["point"][k]])
        axes.plot(*both.T, color="#000000", lw=0.8, ls=":")
        edge: dict[str, Any] = {"markeredgecolor": "#000000", "color": color, "ls": "", "zorder": 5}
        axes.plot(*both[0], marker="X", ms=6, **edge)
        axes.plot(*both[1], marker="*", ms=9, **edge)
    for marker, size, name in (("X", 6, "Euclidean mean"), ("*", 9, "Fréchet mean")):
        axes.plot([], [], marker, ms=size, color="white", markeredgecolor="#000000", label=name)
    cloud = np.concatenate([arrays["paths"].reshape(-1, 2), arrays["euclidean"]])
    low, high = cloud.min(0), cloud.max(0)
    room = 0.05 * (high - low)
    frame(axes, *np.stack([low - room, high + room]).T)
    draw_legend(axes, 1.5)
    return figure


@styled
def plot_analogy(arrays: Mapping[str, NDArray], row: int) -> Figure:
    """The latent plane with one analogy: its points, its geodesics, and the vector on its way.

    Args:
        arrays: Those of `transport_analogies` for d = 2.
        row: Which analogy.

    Returns:
        The figure.
    """
    figure, (axes,) = new_figure(1, width=6.0, height=4.6)
    draw_encodings(axes, arrays["encodings"], arrays.get("labels"), size=9.0, alpha=0.3)
    along, across, path = (arrays[key][row] for key in ("along", "across", "path"))
    draw_path(axes, along, BLUE, "geodesic a to b")
    draw_path(axes, across, "#777777", "geodesic a to c")
    draw_path(axes, path, ORANGE, "geodesic c to answer")
    nodes = np.linspace(0, len(across) - 1, _ARROWS).round().astype(int)
    style: dict[str, Any] = {
        "angles": "xy",
        "scale_units": "xy",
        "scale": 1,
        "width": 0.004,
        "zorder": 4,
        "color": GREEN,
    }
    tips = across[nodes] + arrays["carried"][row][nodes]
    axes.quiver(*across[nodes].T, *(tips - across[nodes]).T, label="vector, carried", **style)
    points = {"a": along[0], "b": along[-1], "c": across[-1], "answer": arrays["point"][row]}
    points["c + b - a"] = arrays["linear"][row]
    for name, point in points.items():
        marker = {"answer": "*", "c + b - a": "X"}.get(name, "o")
        axes.plot(*point, marker, ms=10 if marker == "*" else 6, color="white", markeredgecolor="#000000", zorder=6)
    _name_points(axes, points)
    cloud = np.concatenate([along, across, path, tips, np.stack(list(points.values()))])
    cloud = cloud[np.isfinite(cloud).all(-1)]
    low, high = cloud.min(0), cloud.max(0)
    middle, half = (low + high) / 2, 0.65 * (high - low).max()  # a square, with room for names
    frame(axes, *np.stack([middle - half, middle + half]).T)
    draw_legend(axes, 1.5)
    return figure


def _name_points(axes: Axes, points: Mapping[str, NDArray]) -> None:
    """Names above points, or below those that have their nearest neighbor above."""
    for name, point in points.items():
        others = np.stack([other for key, other in points.items() if key != name])
        nearest = others[np.linalg.norm(others - point, axis=1).argmin()]
        up = nearest[1] <= point[1]
        axes.annotate(
            name,
            (point[0], point[1]),
            xytext=(0, 8 if up else -8),
            textcoords="offset points",
            ha="center",
            va="bottom" if up else "top",
            fontsize=9,
            fontweight="bold",
            zorder=7,
            bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75},
        )


@styled
def plot_variation(decoders: Sequence[int], coefficients: Mapping[str, NDArray]) -> Figure:
    """Coefficient of variation over seeds against the number of decoders: means over pairs with standard errors.

    Args:
        decoders: Numbers of decoders, (K,).
        coefficients: Kind of distance to coefficients of variation, (K, P); what is not a number is left out.

    Returns:
        The figure.
    """
    figure, (axes,) = new_figure(1, width=4.2, height=3.2)
    for k, (name, values) in enumerate(coefficients.items()):
        known = [row[~np.isnan(row)] for row in values]
        means = [row.mean() if len(row) else np.nan for row in known]
        errors = [row.std(ddof=1) / len(row) ** 0.5 if len(row) > 1 else 0.0 for row in known]
        axes.errorbar(
            decoders,
            means,
            yerr=errors,
            label=name,
            color=LINE_COLORS[k % len(LINE_COLORS)],
            marker=MARKERS[k % len(MARKERS)],
            ls=DASHES[k % len(DASHES)],
            capsize=3,
        )
    axes.set_xticks(list(decoders))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("decoders")
    axes.set_ylabel("coefficient of variation over seeds")
    axes.legend(frameon=False, fontsize=9)
    return figure
