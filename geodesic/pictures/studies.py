"""Pictures of studies. Each function returns a matplotlib figure and touches no global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geodesic.pictures.plots import as_image, draw_encodings, new_figure, shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = ["plot_analogy", "plot_histograms", "plot_map", "plot_means", "plot_outputs"]

_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"
_TITLES = {
    "magnification": "$\\log_{10}$ magnification factor $\\sqrt{\\det G}$",
    "curvature": "Gaussian curvature $K$",
}
_ARROWS = 5  # carried vectors that are drawn


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
    axes.set_facecolor("#F0E442")  # singular points: a colour that no map has
    image = axes.pcolormesh(first, second, np.ma.masked_invalid(values), shading="nearest", **style)
    bar = figure.colorbar(image, ax=axes, extend=extend, fraction=0.05, pad=0.02)
    bar.set_label(_TITLES[quantity], fontsize=10)
    bar.ax.tick_params(labelsize=9)
    size = 14.0 * min(1.0, 500 / len(arrays["encodings"])) ** 0.5  # many would hide the map
    draw_encodings(axes, arrays["encodings"], arrays.get("labels"), size=size, alpha=1.0, rim=0.3)
    for i, path in enumerate(arrays["paths"]):
        _line(axes, path, "#000000", label="geodesic" if i == 0 else None)
        axes.plot(*path[[0, -1]].T, "o", color="white", markeredgecolor="#000000", ms=4.5, zorder=4)
    if np.isnan(values).any():
        axes.plot([], [], "s", color="#F0E442", label="singular")
    _frame(axes, first, second)
    _legend(figure, 1.3)
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
    """Part of a colour map, without the dark ends on which points cannot be seen."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(f"pale {name}", colormaps[name](np.linspace(low, high, 256)))


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
            ax.hist(known.clip(low, high), bins=30, color=_BLUE)
            ax.axvline(float(np.median(known)), color=_ORANGE, lw=1.5, label=f"median {np.median(known):.3g}")
            ax.legend(frameon=False, fontsize=8)
        ax.set_xlabel(name, fontsize=9)
        ax.set_ylabel(what, fontsize=9)
    return figure


def plot_means(arrays: Mapping[str, NDArray]) -> Figure:
    """The latent plane with both means of every group, and the geodesics from the Fréchet mean to its points.

    Args:
        arrays: Those of `find_means` for d = 2.

    Returns:
        The figure.
    """
    figure, (axes,) = new_figure(1, width=6.0, height=4.6)
    labels = arrays.get("labels")
    colours = draw_encodings(axes, arrays["encodings"], labels, size=9.0, alpha=0.3)
    for k, name in enumerate(arrays["names"]):
        colour = colours.get(int(name), "#555555") if str(name) != "all" else "#555555"
        for path in arrays["paths"][arrays["group"] == k]:
            axes.plot(*path.T, color=colour, lw=0.6, alpha=0.7)
        both = np.stack([arrays["euclidean"][k], arrays["point"][k]])
        axes.plot(*both.T, color="#000000", lw=0.8, ls=":")
        edge: dict[str, Any] = {"markeredgecolor": "#000000", "color": colour, "ls": "", "zorder": 5}
        axes.plot(*both[0], marker="X", ms=6, **edge)
        axes.plot(*both[1], marker="*", ms=9, **edge)
    for marker, size, name in (("X", 6, "Euclidean mean"), ("*", 9, "Fréchet mean")):
        axes.plot([], [], marker, ms=size, color="white", markeredgecolor="#000000", label=name)
    cloud = np.concatenate([arrays["paths"].reshape(-1, 2), arrays["euclidean"]])
    low, high = cloud.min(0), cloud.max(0)
    room = 0.05 * (high - low)
    _frame(axes, *np.stack([low - room, high + room]).T)
    _legend(figure, 1.5)
    return figure


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
    _line(axes, along, _BLUE, "geodesic a to b")
    _line(axes, across, "#777777", "geodesic a to c")
    _line(axes, path, _ORANGE, "geodesic c to answer")
    nodes = np.linspace(0, len(across) - 1, _ARROWS).round().astype(int)
    style: dict[str, Any] = {
        "angles": "xy",
        "scale_units": "xy",
        "scale": 1,
        "width": 0.004,
        "zorder": 4,
        "color": _GREEN,
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
    _frame(axes, *np.stack([middle - half, middle + half]).T)
    _legend(figure, 1.5)
    return figure


def _name_points(axes: Axes, points: Mapping[str, NDArray]) -> None:
    """Names above points, or below those that have their nearest neighbour above."""
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


def plot_outputs(rows: Sequence[Sequence[NDArray]], row_names: Sequence[str], headings: Sequence[str]) -> Figure:
    """Outputs in rows with names and columns with headings; the last heading is that of all columns from there on.

    Args:
        rows: Images (C, H, W) or (H, W), or vectors (D,), which are drawn as columns of colours. Rows may be shorter
            than the first.
        row_names: A name for each row.
        headings: Of the columns.

    Returns:
        The figure.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    images = rows[0][0].ndim in (2, 3)
    flat = [np.asarray(output, dtype=float) for row in rows for output in row]
    cells = [as_image(x) for x in shades(*flat)] if images else [np.repeat(x.reshape(-1, 1), 20, axis=1) for x in flat]
    height, width, *colours = cells[0].shape
    gap, space = max(1, height // 8), max(1, width // 8)
    columns = max(map(len, rows))
    # One picture with room between the cells: an axis for each would take seconds to draw.
    canvas = np.full((len(rows) * (height + gap) - gap, columns * (width + space) - space, *colours), np.nan)
    places = [(k * (height + gap), j * (width + space)) for k, row in enumerate(rows) for j in range(len(row))]
    for (top, left), cell in zip(places, cells, strict=True):
        canvas[top : top + height, left : left + width] = cell
    high = 0.75 * len(rows) * (canvas.shape[0] / canvas.shape[1] * columns / len(rows) if images else 1)
    figure, (axes,) = new_figure(1, width=0.75 * columns + 1.0, height=high + 0.5)
    if colours:
        axes.imshow(np.nan_to_num(canvas, nan=1.0), interpolation="nearest")
    elif images:
        axes.imshow(np.ma.masked_invalid(canvas), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(np.ma.masked_invalid(canvas), cmap="viridis", aspect="auto", interpolation="nearest")
    frames = [Rectangle((left - 0.5, top - 0.5), width, height) for top, left in places]
    axes.add_collection(PatchCollection(frames, facecolor="none", edgecolor="#CCCCCC", linewidth=0.8, clip_on=False))
    for k, name in enumerate(row_names):
        axes.text(-space, k * (height + gap) + height / 2, name, fontsize=9, ha="right", va="center")
    for k, name in enumerate(headings):
        spans = k == len(headings) - 1 < columns - 1
        left = k * (width + space) + (-0.5 if spans else width / 2)
        axes.text(left, -gap, name, fontsize=9, ha="left" if spans else "center", va="bottom")
    axes.set_axis_off()
    return figure


def _line(axes: Axes, path: NDArray, colour: str, label: str | None) -> None:
    """A line with a white rim, which is seen on every ground."""
    from matplotlib.patheffects import Normal, Stroke

    rim = [Stroke(linewidth=3, foreground="white"), Normal()]
    axes.plot(*path.T, color=colour, lw=1.5, label=label, path_effects=rim, zorder=3)


def _legend(figure: Figure, scale: float) -> None:
    """Beside the axes, with points as dark as can be, however pale they are among others."""
    from matplotlib.collections import PathCollection

    legend = figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_alpha(1)
            handle.set_sizes(scale * handle.get_sizes())


def _frame(axes: Axes, first: NDArray, second: NDArray) -> None:
    axes.set_xlim(first[0], first[-1])
    axes.set_ylim(second[0], second[-1])
    axes.set_aspect("equal", adjustable="box")
    axes.set_xlabel("$z_1$")
    axes.set_ylabel("$z_2$")
