"""What every picture is drawn on: figures without pyplot, colors, encodings, legends, and PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geodesic.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "DASHES",
    "GEODESIC",
    "GREEN",
    "LINE_COLORS",
    "MARKERS",
    "ORANGE",
    "STRAIGHT",
    "draw_encodings",
    "draw_path",
    "frame",
    "legend_beside",
    "new_figure",
    "save_figure",
    "save_figures",
]

# Okabe and Ito's colors can be told apart by color-blind readers; markers and dashes carry the rest.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
GEODESIC, STRAIGHT = "#000000", ORANGE
DASHES = ["-", "--", ":", "-."]
LINE_COLORS = [BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9"]
MARKERS = ["o", "s", "^", "v", "D", "P", "X", "<", ">", "*"]


def new_figure(count: int, width: float, height: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with so many axes in rows, in inches: the figure and its axes, row by row."""
    # Without pyplot: no global list of figures, no display needed.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="compressed", dpi=200)
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, count // rows, squeeze=False)
    axes = list(grid.ravel())
    for ax in axes:
        ax.tick_params(labelsize=9)
    return figure, axes


def draw_encodings(
    axes: Axes, encodings: NDArray, labels: NDArray | None, *, size: float = 13.0, alpha: float = 0.6, rim: float = 0.0
) -> dict[int, Any]:
    """Latent points, (N, 2), colored and marked by label, (N,), if there are any: the color of each.

    A white rim of so many points is for those on a colored ground.
    """
    from matplotlib import color_sequences

    style: dict[str, Any] = {"linewidths": rim, "edgecolors": "white" if rim else "none"}
    z1, z2 = encodings.T
    if labels is None:
        axes.scatter(z1, z2, s=0.7 * size, alpha=alpha / 1.5, color="#999999", label="data", **style)
        return {}
    colors = {int(x): color_sequences["tab10"][k % 10] for k, x in enumerate(np.unique(labels))}
    for k, (label, color) in enumerate(colors.items()):
        style |= {"s": size, "alpha": alpha, "marker": MARKERS[k % len(MARKERS)]}
        axes.scatter(z1[labels == label], z2[labels == label], color=color, label=str(label), **style)
    return colors


def draw_path(axes: Axes, path: NDArray, color: str, label: str | None) -> None:
    """A line with a white rim, which is seen on every ground."""
    from matplotlib.patheffects import Normal, Stroke

    rim = [Stroke(linewidth=3, foreground="white"), Normal()]
    axes.plot(*path.T, color=color, lw=1.5, label=label, path_effects=rim, zorder=3)


def frame(axes: Axes, first: NDArray, second: NDArray) -> None:
    """Limits of a latent plane, from the first to the last of two coordinates, and names of its axes."""
    axes.set_xlim(first[0], first[-1])
    axes.set_ylim(second[0], second[-1])
    axes.set_aspect("equal", adjustable="box")
    axes.set_xlabel("$z_1$")
    axes.set_ylabel("$z_2$")


def legend_beside(figure: Figure, scale: float) -> None:
    """Beside the axes, with points as dark as can be, however pale they are among others."""
    from matplotlib.collections import PathCollection

    legend = figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_alpha(1)
            handle.set_sizes(scale * handle.get_sizes())


def save_figure(figure: Figure, file: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with replacing(file) as temporary:
        figure.savefig(temporary, format="png", bbox_inches="tight", pad_inches=0.05)


def save_figures(folder: Path, figures: Mapping[str, Figure]) -> list[Path]:
    """Write figures into a folder, by their file names, in place of all pictures that are there: the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.png"):
        stale.unlink()
    for name, figure in figures.items():
        save_figure(figure, folder / name)
    return [folder / name for name in figures]
