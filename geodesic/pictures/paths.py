"""Pictures of geodesics: paths in latent space, and how their energy went down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geodesic.pictures.canvas import (
    DASHES,
    GEODESIC,
    STRAIGHT,
    axes_or_new,
    draw_encodings,
    draw_ends,
    draw_legend,
    draw_path,
    new_figure,
)
from geodesic.pictures.style import BLUE, GREEN, LINE_COLORS, styled
from geodesic.pictures.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["named", "plot_energy", "plot_latent"]

# The straight lines have orange.
_COLORS = [GEODESIC, BLUE, GREEN, *LINE_COLORS[3:]]
_NUMBERED = 30  # so many pairs can be told apart by numbers
_THIN = 0.8  # line width of more pairs


def named(name: str, converged: NDArray | None) -> str:
    """The name of paths in a legend, with how many have converged where not all have: those others are no geodesics."""
    if converged is None or converged.all():
        return name
    return f"{'path' if name == 'geodesic' else name}\n({int(converged.sum())} of {converged.size}\nconverged)"


@styled
def plot_latent(
    curves: Mapping[str, NDArray],
    encodings: NDArray | None = None,
    labels: NDArray | None = None,
    *,
    straight: bool = True,
    axes: Axes | None = None,
) -> Figure:
    """Paths in latent space (solid), the straight lines between their ends (dashed), and latent points by label.

    Of two coordinates the plane is drawn, of more the plane of the two leading principal directions of the paths; a
    single one is drawn against time.

    Args:
        curves: Name to paths at equal times, (P, nodes, d).
        encodings: Points of the background, (N, d), or None.
        labels: Their classes, (N,), or None.
        straight: Whether to draw the straight lines.
        axes: Where to draw; on a new figure by default.

    Returns:
        The figure.
    """
    figure, ax = axes_or_new(axes, width=5.2, height=4.4)
    view = View.of(list(curves.values()))
    if encodings is not None:
        draw_encodings(ax, view.points(encodings), labels)
    drawn: list[NDArray] = []
    for k, (name, paths) in enumerate(curves.items()):
        ends = paths[:, [0, -1]]
        if straight and not any(np.array_equal(ends, other) for other in drawn):
            _draw_straight(ax, view, ends, None if drawn else "straight")
            drawn.append(ends)
        _draw_paths(ax, view, paths, _COLORS[k % len(_COLORS)], name)
        if k == 0 and 1 < len(paths) <= _NUMBERED:
            _number(ax, [view.curve(path) for path in paths])
    if view.even:
        ax.set_aspect("equal", adjustable="box")
    ax.set_xlabel(view.names[0])
    ax.set_ylabel(view.names[1])
    draw_legend(ax, 1.5, beside=axes is None)
    return figure


def _draw_straight(ax: Axes, view: View, ends: NDArray, name: str | None) -> None:
    width = 1.3 if len(ends) <= _NUMBERED else _THIN
    style: dict[str, Any] = {
        "color": STRAIGHT,
        "ls": (0, (3, 1.5)),
        "lw": width,
        "zorder": 3.5,
    }  # seen where they agree
    for i, pair in enumerate(ends):
        ax.plot(*view.curve(pair).T, label=name if i == 0 else None, **style)


def _draw_paths(ax: Axes, view: View, paths: NDArray, color: str, name: str) -> None:
    few = len(paths) <= _NUMBERED
    for i, path in enumerate(paths):
        curve = view.curve(path)
        draw_path(ax, curve, color, name if i == 0 else None, width=1.8 if few else _THIN)
        draw_ends(ax, curve, size=5 if few else 2.5)


def _number(ax: Axes, curves: list[NDArray]) -> None:
    """The numbers of pairs at the starts of their paths, above or below."""
    for i, curve in enumerate(curves):
        offset = 5 if curve[0, 1] >= curve[-1, 1] else -11
        ax.annotate(
            str(i),
            (curve[0, 0], curve[0, 1]),
            xytext=(4, offset),
            textcoords="offset points",
            fontsize=9,
            fontweight="bold",
            zorder=5,
            bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75},
        )


@styled
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
