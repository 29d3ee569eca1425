"""Pictures of whether geodesics are worth it: how much longer straight lines are, and how directions differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geodesic.pictures.canvas import new_figure
from geodesic.pictures.style import BLUE, ORANGE, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_divergences", "plot_ratios", "plot_spectrum"]

_WIDTH, _HEIGHT = 5.6, 2.9  # inches
_FAR = 4.0  # the largest ratio that is drawn on a linear axis


@styled
def plot_ratios(ratio: NDArray, thresholds: tuple[float, ...]) -> Figure:
    """The share of pairs whose straight line is at most so many times as long as their geodesic.

    Args:
        ratio: Straight over geodesic length, (P,), finite.
        thresholds: Ratios that are marked.

    Returns:
        The figure.
    """
    figure, (ax,) = new_figure(1, _WIDTH, _HEIGHT)
    x = np.sort(ratio)
    share = np.arange(1, len(x) + 1) / len(x)
    ax.step(np.concatenate([x[:1], x]), np.concatenate([[0.0], share]), where="post", color=BLUE, lw=1.8)
    if len(x) <= 30:
        ax.plot(x, share, "o", color=BLUE, ms=4)
    if x[-1] > _FAR:
        ax.set_xscale("log")
    for threshold in thresholds:
        ax.axvline(threshold, color="#777777", lw=0.9, ls=":")
        ax.annotate(
            f"+{100 * (threshold - 1):.0f} %",
            (threshold, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2, 2),
            textcoords="offset points",
            fontsize=8,
            color="#555555",
        )
    for at, name, dashes in ((0.5, "median", "--"), (0.95, "95 %", "-.")):
        value = float(np.quantile(x, at))
        ax.axvline(value, color=ORANGE, lw=1.2, ls=dashes, label=f"{name}: {value:.3f}")
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("straight over geodesic length")
    ax.set_ylabel("share of pairs")
    ax.legend(loc="lower right", fontsize=9, frameon=False)
    return figure


@styled
def plot_spectrum(eigenvalues: NDArray) -> Figure:
    """Eigenvalues of the metric tensor along paths, the largest first: median, and from 5 to 95 %.

    Args:
        eigenvalues: Of n points, (n, d), the largest first; what is not positive is left out.

    Returns:
        The figure.
    """
    figure, (ax,) = new_figure(1, _WIDTH, _HEIGHT)
    known = np.where(eigenvalues > 0, eigenvalues, np.nan)
    kept = ~np.isnan(known).all(0)
    place = np.arange(1, known.shape[1] + 1)[kept]
    low, middle, high = np.nanquantile(known[:, kept], [0.05, 0.5, 0.95], axis=0)
    few = len(place) <= 64
    ax.fill_between(place, low, high, color=BLUE, alpha=0.25, lw=0, label="5 to 95 %")
    ax.plot(place, middle, "o-" if few else "-", color=BLUE, ms=3.5, lw=1.4, label="median")
    ax.set_yscale("log")
    ax.locator_params(axis="x", integer=True)
    ax.set_xlabel("eigenvalue of $G$, the largest first")
    ax.set_ylabel("squared output per latent unit", fontsize=9)
    ax.legend(loc="upper right", fontsize=9, frameon=False)
    return figure


@styled
def plot_divergences(divergences: NDArray, threshold: float) -> Figure:
    """The KL divergence of each latent dimension, the largest first, and below which one counts as collapsed.

    Args:
        divergences: Nats, (d,).
        threshold: Nats.

    Returns:
        The figure.
    """
    figure, (ax,) = new_figure(1, _WIDTH, _HEIGHT)
    order = np.argsort(-divergences, kind="stable")
    place = np.arange(len(order))
    values = divergences[order].clip(threshold / 10)
    collapsed = divergences[order] < threshold
    for rows, color, name in ((~collapsed, BLUE, "used"), (collapsed, ORANGE, "collapsed")):
        if rows.any():
            ax.bar(place[rows], values[rows], color=color, label=name, bottom=0)
    ax.axhline(threshold, color="#555555", lw=1, ls=":", label=f"{threshold:g} nats")
    ax.set_yscale("log")
    ax.set_ylim(bottom=threshold / 20)
    if len(order) <= 24:
        ax.set_xticks(place, [str(k) for k in order])
        ax.set_xlabel("latent dimension")
    else:
        ax.set_xlabel("latent dimensions, the most used first")
    ax.set_ylabel("KL, nats per row")
    figure.legend(loc="outside upper center", ncols=3, fontsize=9, frameon=False)  # bars fill the axes
    return figure
