"""A picture of a matrix of distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geodesic.pictures.canvas import draw_legend, new_figure, plain
from geodesic.pictures.style import LABEL_COLORS, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["cluster_order", "plot_distances"]

_SIDE = 5.0  # inches of the matrix
_OPTIMAL = 500  # points up to which leaves are turned so that neighbors are alike: it takes their third power
_NAMED = 10  # labels that have a color of their own


def cluster_order(distances: NDArray) -> NDArray:
    """Points in an order in which clusters stand together, (N,): the leaves of their hierarchy by average distances.

    Args:
        distances: (N, N), symmetric; what is not a number is as far as the farthest.

    Example:
        >>> import numpy as np
        >>> from geodesic.pictures.distances import cluster_order
        >>> x = np.array([0.0, 5.0, 0.1, 5.1])
        >>> order = cluster_order(abs(x[:, None] - x)).tolist()
        >>> sorted(order[:2]) in ([0, 2], [1, 3])
        True
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    known = np.isfinite(distances)
    D = np.where(known, distances, distances[known].max()).astype(np.float64)
    D = (D + D.T) / 2
    np.fill_diagonal(D, 0)
    if len(D) < 3:
        return np.arange(len(D))
    return np.asarray(leaves_list(linkage(squareform(D), "average", optimal_ordering=len(D) <= _OPTIMAL)))


@styled
def plot_distances(distances: NDArray, order: NDArray, labels: NDArray | None = None) -> Figure:
    """A heat map of distances, points in a given order, with the colors of their labels along two sides.

    Args:
        distances: (N, N); NaN, left white, where none is known.
        order: Of the points, (N,).
        labels: (N,), or None.

    Returns:
        The figure.
    """
    figure, (ax,) = new_figure(1, width=_SIDE + 2.2, height=_SIDE)
    shown = np.ma.masked_invalid(distances[np.ix_(order, order)])
    image = ax.imshow(shown, cmap="viridis", interpolation="nearest", rasterized=True)
    bar = figure.colorbar(image, ax=ax, fraction=0.05, pad=0.02)
    bar.set_label("geodesic length", fontsize=10)
    bar.ax.tick_params(labelsize=9)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel(f"{len(order)} points, ordered by clusters", labelpad=5 if labels is None else 22)
    if labels is None:
        return figure
    from matplotlib.colors import ListedColormap

    names, codes = np.unique(labels, return_inverse=True)
    style: dict[str, Any] = {"cmap": ListedColormap([LABEL_COLORS[k % len(LABEL_COLORS)] for k in range(len(names))])}
    style |= {"interpolation": "nearest", "aspect": "auto", "vmin": -0.5, "vmax": len(names) - 0.5}
    strip = codes.reshape(-1)[order]
    for place, values in (((-0.04, 0.0, 0.03, 1.0), strip[:, None]), ((0.0, -0.04, 1.0, 0.03), strip[None])):
        side = ax.inset_axes(place)
        side.imshow(values, **style)
        side.set_axis_off()
    if len(names) <= _NAMED:
        for k, name in enumerate(names):
            ax.scatter([], [], marker="s", color=LABEL_COLORS[k % len(LABEL_COLORS)], label=plain(name))
        draw_legend(ax, 1.0)
    return figure
