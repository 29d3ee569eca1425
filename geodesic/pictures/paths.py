"""Pictures of geodesics: paths in the latent plane, and how their energy went down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geodesic.pictures.canvas import DASHES, GEODESIC, LINE_COLORS, STRAIGHT, draw_encodings, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_energy", "plot_latent"]


def plot_latent(
    encodings: NDArray | None,
    labels: NDArray | None,
    straight: NDArray,
    geodesic: NDArray,
    axis_names: Sequence[str] = ("$z_1$", "$z_2$"),
    converged: NDArray | None = None,
) -> Figure:
    """Latent points colored by label, with straight (dashed) and geodesic (solid) paths.

    Args:
        encodings: Points of the background, (N, 2), or None.
        labels: Their classes, (N,), or None.
        straight: Nodes of straight paths, (P, T + 1, 2).
        geodesic: Nodes of geodesics, (P, T + 1, 2).
        axis_names: What the two coordinates are.
        converged: Which paths have converged to geodesics, (P,); all of them by default.

    Returns:
        The figure.
    """
    figure, (axes,) = new_figure(1, width=5.2, height=4.4)
    if encodings is not None:
        draw_encodings(axes, encodings, labels)
    name = "geodesic"
    if converged is not None and not converged.all():
        name = f"best path\n({int(converged.sum())} of {len(converged)}\nconverged)"
    for i, (a, b) in enumerate(zip(straight, geodesic, strict=True)):
        axes.plot(*a.T, color=STRAIGHT, ls=(0, (3, 1.5)), lw=1.3, label="straight" if i == 0 else None)
        axes.plot(*b.T, color=GEODESIC, lw=1.8, label=name if i == 0 else None)
        axes.plot(*b[[0, -1]].T, "o", color="white", markeredgecolor=GEODESIC, ms=5, zorder=4)
        offset = 5 if b[0, 1] >= b[-1, 1] else -11
        axes.annotate(
            str(i),
            b[0],
            xytext=(4, offset),
            textcoords="offset points",
            fontsize=9,
            fontweight="bold",
            bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75},
        )
    axes.set_aspect("equal", adjustable="box")
    axes.set_xlabel(axis_names[0])
    axes.set_ylabel(axis_names[1])
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9, markerscale=1.5)
    return figure


def plot_energy(histories: Mapping[str, NDArray], steps: Mapping[str, NDArray] | None = None) -> Figure:
    """Energy above the lowest known of each pair, relative to it, against the step: a line for each pair.

    A line ends where its pair did, and begins anew where its steps do: with a second start, or more segments.

    Args:
        histories: Method name to energies, (R, P), from before the first step to after the last.
        steps: Method name to the number of steps done at each of these, (R,); 0, 1, 2, ... by default.

    Returns:
        The figure.
    """
    figure, (axes,) = new_figure(1, width=5.0, height=3.4)
    known = {name: np.where(energy > 0, energy, np.nan) for name, energy in histories.items()}
    best = np.min([np.nan_to_num(energy, nan=np.inf).min(axis=0) for energy in known.values()], axis=0)
    for k, (name, energy) in enumerate(known.items()):
        done = np.arange(len(energy)) if steps is None else steps[name]
        color, dashes = LINE_COLORS[k % len(LINE_COLORS)], DASHES[k % len(DASHES)]
        for pair in range(energy.shape[1]):
            step, excess = _line(done, energy[:, pair] / best[pair] - 1)
            axes.plot(
                step + 1,  # so that the start is seen on a logarithmic axis
                excess + 1e-12,
                alpha=0.75,
                label=name if pair == 0 else None,
                color=color,
                ls=dashes,
                lw=1.1,
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(bottom=1e-8)
    axes.set_xlabel("step + 1")
    axes.set_ylabel("energy above the pair's lowest (relative)")
    figure.legend(frameon=False, fontsize=9, loc="outside upper center", ncols=4)
    return figure


def _line(steps: NDArray, values: NDArray) -> tuple[NDArray, NDArray]:
    """Steps and values of one pair until it stands still, with a gap wherever the steps begin anew."""
    moves = np.diff(values) != 0  # and wherever there is no value
    kept = np.isfinite(values) & (np.append(True, moves) | np.append(moves, False))
    steps, values = steps[kept].astype(float), values[kept]
    anew = np.flatnonzero(np.diff(steps) < 0) + 1
    return np.insert(steps, anew, np.nan), np.insert(values, anew, np.nan)
