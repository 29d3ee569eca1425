"""Pictures of paths and of models. Each function returns a matplotlib figure and touches no global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geodesic.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "as_image",
    "draw_encodings",
    "new_figure",
    "plot_energy",
    "plot_latent",
    "plot_reconstructions",
    "plot_samples",
    "plot_strip",
    "plot_variation",
    "save_figure",
    "save_figures",
    "shades",
]

# Okabe and Ito's colours can be told apart by colour-blind readers; markers and dashes carry the rest.
_GEODESIC, _STRAIGHT = "#000000", "#D55E00"
_DASHES = ["-", "--", ":", "-."]
_LINE_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
_MARKERS = ["o", "s", "^", "v", "D", "P", "X", "<", ">", "*"]


def plot_latent(
    encodings: NDArray | None,
    labels: NDArray | None,
    straight: NDArray,
    geodesic: NDArray,
    axis_names: Sequence[str] = ("$z_1$", "$z_2$"),
    converged: NDArray | None = None,
) -> Figure:
    """Latent points coloured by label, with straight (dashed) and geodesic (solid) paths.

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
        axes.plot(*a.T, color=_STRAIGHT, ls=(0, (3, 1.5)), lw=1.3, label="straight" if i == 0 else None)
        axes.plot(*b.T, color=_GEODESIC, lw=1.8, label=name if i == 0 else None)
        axes.plot(*b[[0, -1]].T, "o", color="white", markeredgecolor=_GEODESIC, ms=5, zorder=4)
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


def draw_encodings(
    axes: Axes, encodings: NDArray, labels: NDArray | None, *, size: float = 13.0, alpha: float = 0.6, rim: float = 0.0
) -> dict[int, Any]:
    """Latent points, (N, 2), coloured and marked by label, (N,), if there are any: the colour of each.

    A white rim of so many points is for those on a coloured ground.
    """
    from matplotlib import color_sequences

    style: dict[str, Any] = {"linewidths": rim, "edgecolors": "white" if rim else "none"}
    z1, z2 = encodings.T
    if labels is None:
        axes.scatter(z1, z2, s=0.7 * size, alpha=alpha / 1.5, color="#999999", label="data", **style)
        return {}
    colours = {int(x): color_sequences["tab10"][k % 10] for k, x in enumerate(np.unique(labels))}
    for k, (label, colour) in enumerate(colours.items()):
        style |= {"s": size, "alpha": alpha, "marker": _MARKERS[k % len(_MARKERS)]}
        axes.scatter(z1[labels == label], z2[labels == label], color=colour, label=str(label), **style)
    return colours


def plot_strip(
    straight: NDArray,
    geodesic: NDArray,
    straight_length: float,
    geodesic_length: float,
    columns: int = 11,
    converged: bool = True,
) -> Figure:
    """Decoded outputs along the straight path and along the geodesic, at equal times.

    Args:
        straight: Decoded means along the straight path: images (T + 1, C, H, W) or (T + 1, H, W), or vectors
            (T + 1, D).
        geodesic: The same along the geodesic.
        straight_length: Riemannian length of the straight path.
        geodesic_length: Riemannian length of the geodesic.
        columns: Number of outputs to show.
        converged: Whether the second path has converged to a geodesic; its label says so if not.

    Returns:
        The figure.
    """
    chosen = np.linspace(0, len(straight) - 1, min(columns, len(straight))).round().astype(int)
    best = "geodesic" if converged else "not converged"
    names = [f"straight\nlength {straight_length:.3f}", f"{best}\nlength {geodesic_length:.3f}"]
    images = straight.ndim in (3, 4)
    if images:
        straight, geodesic = shades(straight, geodesic)
    figure, axes = new_figure(2, width=7.0, height=1.9 if images else 3.2, rows=2)
    for row, (name, outputs) in enumerate(zip(names, (straight, geodesic), strict=True)):
        ax = axes[row]
        if images:
            strip = np.concatenate([as_image(outputs[i]) for i in chosen], axis=1)
            height, width = as_image(outputs[0]).shape[:2]
            ax.imshow(strip, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
            ax.set_xticks((np.arange(len(chosen)) + 0.5) * width - 0.5)
            for k in range(1, len(chosen)):
                ax.axvline(k * width - 0.5, color="white", lw=1.5)
            ax.set_yticks([height / 2 - 0.5], [name])
        else:
            both = np.concatenate([straight, geodesic])
            ax.imshow(outputs[chosen].T, aspect="auto", cmap="viridis", vmin=both.min(), vmax=both.max())
            ax.set_xticks(np.arange(len(chosen)))
            ax.set_yticks([])
            ax.set_ylabel(name)
        ax.set_xticklabels([f"{t:.1f}" for t in chosen / (len(straight) - 1)] if row == 1 else [])
        ax.tick_params(length=0)
        for side in ax.spines.values():
            side.set_visible(False)
    axes[-1].set_xlabel("time $t$ along the path")
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
        colour, dashes = _LINE_COLOURS[k % len(_LINE_COLOURS)], _DASHES[k % len(_DASHES)]
        for pair in range(energy.shape[1]):
            step, excess = _line(done, energy[:, pair] / best[pair] - 1)
            axes.plot(
                step + 1,  # so that the start is seen on a logarithmic axis
                excess + 1e-12,
                alpha=0.75,
                label=name if pair == 0 else None,
                color=colour,
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
            color=_LINE_COLOURS[k % len(_LINE_COLOURS)],
            marker=_MARKERS[k % len(_MARKERS)],
            ls=_DASHES[k % len(_DASHES)],
            capsize=3,
        )
    axes.set_xticks(list(decoders))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("decoders")
    axes.set_ylabel("coefficient of variation over seeds")
    axes.legend(frameon=False, fontsize=9)
    return figure


def plot_reconstructions(originals: NDArray, reconstructions: NDArray, columns: int = 8) -> Figure:
    """Images in rows of `columns`, each row above one of their reconstructions.

    Args:
        originals: (N, C, H, W), values from 0 to 1; others, such as counts, are shown in shades of their range.
        reconstructions: Means of the decoded images, in the same shape.
        columns: Images a row.

    Returns:
        The figure.
    """
    originals, reconstructions = shades(originals, reconstructions)
    starts = range(0, len(originals), columns)
    rows = [part[start : start + columns] for start in starts for part in (originals, reconstructions)]
    return _mosaic(rows, ["original", "decoded"] * len(starts))


def plot_samples(images: NDArray, columns: int = 8) -> Figure:
    """Decoded means at points drawn from the prior, in rows of `columns`.

    Args:
        images: (N, C, H, W), values from 0 to 1, or others as in `plot_reconstructions`.
        columns: Images a row.

    Returns:
        The figure.
    """
    (images,) = shades(images)
    return _mosaic([images[start : start + columns] for start in range(0, len(images), columns)])


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


def _mosaic(rows: Sequence[NDArray], names: Sequence[str] = ()) -> Figure:
    """Rows of images, one above the other, with the names of the rows; the last row may be shorter."""
    images = [[as_image(image) for image in row] for row in rows]
    height, width, *colours = images[0][0].shape
    # One picture with a line of light grey between the images: an axis for each would take seconds to draw.
    grid = (len(rows) * (height + 1) - 1, len(rows[0]) * (width + 1) - 1)
    canvas = np.full((*grid, *colours), 0.85 if colours else 0.15)
    for i, row in enumerate(images):
        for j, image in enumerate(row):
            canvas[i * (height + 1) :, j * (width + 1) :][:height, :width] = image
    figure, (axes,) = new_figure(1, width=0.6 * grid[1] / width + 0.6, height=0.6 * grid[0] / width)
    axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks(np.arange(len(names)) * (height + 1) + (height - 1) / 2, names)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def _line(steps: NDArray, values: NDArray) -> tuple[NDArray, NDArray]:
    """Steps and values of one pair until it stands still, with a gap wherever the steps begin anew."""
    moves = np.diff(values) != 0  # and wherever there is no value
    kept = np.isfinite(values) & (np.append(True, moves) | np.append(moves, False))
    steps, values = steps[kept].astype(float), values[kept]
    anew = np.flatnonzero(np.diff(steps) < 0) + 1
    return np.insert(steps, anew, np.nan), np.insert(values, anew, np.nan)


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


def shades(*images: NDArray) -> list[NDArray]:
    """Values from 0 to 1 as they are; where some leave that range, as counts do, all in parts of theirs."""
    known = np.concatenate([x[np.isfinite(x)] for x in images])
    low, high = min(0.0, known.min(initial=0)), max(1.0, known.max(initial=1))
    return [(x - low) / (high - low) for x in images]


def as_image(output: NDArray) -> NDArray:
    """(C, H, W) or (H, W) to what imshow takes."""
    if output.ndim == 3:
        output = np.moveaxis(output, 0, -1)
        output = output[..., :3] if output.shape[-1] > 2 else output[..., 0]  # two channels are no colours
    return np.clip(output, 0, 1)
