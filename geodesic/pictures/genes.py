"""A picture of how outputs with names change along a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geodesic.pictures.canvas import new_figure, plain
from geodesic.pictures.style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_expression"]

_WIDTH, _ROW = 5.6, 0.26  # inches


@styled
def plot_expression(values: NDArray, times: NDArray, names: tuple[str, ...], share: NDArray) -> Figure:
    """A heat map with a row for each name, in the order of when it is largest, and its share beside it.

    Args:
        values: Expected counts, (G, times), zero or more.
        times: When, from 0 to 1, equally spaced.
        names: Of the rows.
        share: Part of the squared length, (G,).

    Returns:
        The figure.
    """
    figure, (ax,) = new_figure(1, _WIDTH, 1.1 + _ROW * len(names))
    peaks = np.maximum(values.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    relative = values / peaks
    order = np.argsort((relative * times).sum(axis=1) / relative.sum(axis=1).clip(min=1e-300), kind="stable")
    half = (times[1] - times[0]) / 2
    image = ax.imshow(
        relative[order],
        aspect="auto",
        cmap="viridis",
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(times[0] - half, times[-1] + half, len(names) - 0.5, -0.5),
    )
    ax.set_yticks(range(len(names)), [plain(names[k]) for k in order])
    ax.set_xlabel("time along the geodesic")
    for row, k in enumerate(order):
        ax.annotate(
            f"{share[k]:.1%}",
            (1.0, row),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            annotation_clip=False,
        )
    ax.set_title("share of squared length", loc="right", fontsize=8)
    bar = figure.colorbar(image, ax=ax, fraction=0.05, pad=0.14)
    bar.set_label("expected count, over its largest", fontsize=9)
    return figure
