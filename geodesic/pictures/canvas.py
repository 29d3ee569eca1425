"""What every picture is drawn on: figures without pyplot, colors, encodings, legends, and PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from geodesic.errors import InputError
from geodesic.files import replacing
from geodesic.installation import require
from geodesic.pictures.style import LABEL_COLORS, ORANGE, in_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DASHES",
    "FORMATS",
    "GEODESIC",
    "MARKERS",
    "STRAIGHT",
    "axes_or_new",
    "draw_encodings",
    "draw_ends",
    "draw_legend",
    "draw_path",
    "frame",
    "new_figure",
    "plain",
    "save_figure",
    "save_figures",
]

GEODESIC, STRAIGHT = "#000000", ORANGE
DASHES = ["-", "--", ":", "-."]
MARKERS = ["o", "s", "^", "v", "D", "P", "X", "<", ">", "*"]
FORMATS = ("png", "pdf", "svg")  # of files; matplotlib has others, which are larger or lose colors


def new_figure(count: int, width: float, height: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with so many axes in rows, in inches: the figure and its axes, row by row.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("", "matplotlib")
    # Without pyplot: no global list of figures, no display needed.
    from geodesic.pictures.shown import ShownFigure

    with in_style():
        figure = ShownFigure(figsize=(width, height), layout="compressed", dpi=100)
        grid = figure.subplots(rows, count // rows, squeeze=False)
    return figure, list(grid.ravel())


def axes_or_new(axes: Any, width: float, height: float) -> tuple[Figure, Axes]:
    """The axes that a user gave, with their figure, or those of a new figure of a size in inches.

    Raises:
        InputError: They are no axes of matplotlib.
        MissingExtraError: matplotlib is not installed.
    """
    if axes is None:
        figure, (axes,) = new_figure(1, width, height)
        return figure, axes
    require("", "matplotlib")
    from matplotlib.axes import Axes

    if not isinstance(axes, Axes):
        raise InputError(f"ax: expected the axes of a matplotlib figure, got {type(axes).__name__}; give one of them")
    return cast("Figure", axes.figure), axes


def plain(text: object) -> str:
    r"""A name of the user's as matplotlib shows it letter by letter: a dollar would begin a formula.

    Example:
        >>> from geodesic.pictures.canvas import plain
        >>> print(plain("5 $"))
        5 \$
    """
    return str(text).replace("$", r"\$")


def draw_encodings(
    axes: Axes, encodings: NDArray, labels: NDArray | None, *, size: float = 13.0, alpha: float = 0.6, rim: float = 0.0
) -> dict[str, Any]:
    """Latent points, (N, 2), colored and marked by label, (N,), if there are any: the color of each.

    A white rim of so many points is for those on a colored ground.
    """
    style: dict[str, Any] = {"linewidths": rim, "edgecolors": "white" if rim else "none"}
    z1, z2 = encodings.T
    if labels is None:
        axes.scatter(z1, z2, s=0.7 * size, alpha=alpha / 1.5, color="#999999", label="data", **style)
        return {}
    colors = {}
    for k, label in enumerate(np.unique(labels)):
        color = colors[str(label)] = LABEL_COLORS[k % 10]
        style |= {"s": size, "alpha": alpha, "marker": MARKERS[(k + k // 10) % len(MARKERS)]}
        axes.scatter(z1[labels == label], z2[labels == label], color=color, label=plain(label), **style)
    return colors


def draw_path(axes: Axes, path: NDArray, color: str, label: str | None, width: float = 1.5) -> None:
    """A line with a white rim, which is seen on every ground."""
    from matplotlib.patheffects import Normal, Stroke

    rim = [Stroke(linewidth=width + 1.2, foreground="white"), Normal()]
    axes.plot(*path.T, color=color, lw=width, label=label, path_effects=rim, zorder=3)


def draw_ends(axes: Axes, path: NDArray, color: str = GEODESIC, size: float = 4.5) -> None:
    """The two ends of a path, as rings."""
    axes.plot(*path[[0, -1]].T, "o", color="white", markeredgecolor=color, ms=size, zorder=4)


def frame(axes: Axes, first: NDArray, second: NDArray) -> None:
    """Limits of a latent plane, from the first to the last of two coordinates, and names of its axes."""
    axes.set_xlim(first[0], first[-1])
    axes.set_ylim(second[0], second[-1])
    axes.set_aspect("equal", adjustable="box")
    axes.set_xlabel("$z_1$")
    axes.set_ylabel("$z_2$")


def draw_legend(axes: Axes, scale: float, beside: bool = True) -> None:
    """Beside or above the axes, with points as dark as can be, however pale they are among others.

    Args:
        axes: Whose lines and points have names; a legend without any is not drawn.
        scale: How much larger points are there.
        beside: For axes that have a figure of ours to themselves.
    """
    from matplotlib.collections import PathCollection

    handles, names = axes.get_legend_handles_labels()
    known = dict(zip(names, handles, strict=True))
    if not known:
        return
    style: dict[str, Any] = {"handles": known.values(), "labels": known.keys(), "frameon": False}
    if beside:
        legend = axes.figure.legend(**style, loc="outside right upper", fontsize=9)
    else:  # what is beside and below them belongs to others
        columns = len(known) if len(known) < 5 else (len(known) + 1) // 2
        above: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "borderpad": 0.2}
        legend = axes.legend(**style, **above, ncols=columns, fontsize=8, columnspacing=1.0, handletextpad=0.4)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_alpha(1)
            handle.set_sizes(scale * handle.get_sizes())


def save_figure(figure: Figure, file: Path) -> None:
    """Write a figure, whole or not at all, in the format that its suffix says: .png, .pdf or .svg."""
    from geodesic.pictures.shown import SAVED

    kind = file.suffix.removeprefix(".")
    # Without the time of day, by which the same picture would be another file.
    undated: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with replacing(file) as temporary, in_style():
        figure.savefig(temporary, format=kind, metadata=undated.get(kind), **SAVED)


def save_figures(folder: Path, figures: Mapping[str, Figure], kind: str = "png") -> list[Path]:
    """Write figures into a folder, by their names without suffix, in place of all pictures that are there: the files.

    Args:
        folder: Is made if it does not exist.
        figures: Name to figure.
        kind: One of `FORMATS`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in [file for suffix in (*FORMATS, "gif", "mp4") for file in folder.glob(f"*.{suffix}")]:
        stale.unlink()
    files = [folder / f"{name}.{kind}" for name in figures]
    for file, figure in zip(files, figures.values(), strict=True):
        save_figure(figure, file)
    return files
