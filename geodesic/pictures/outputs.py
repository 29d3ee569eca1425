"""Pictures of outputs: strips along paths, tables, and mosaics of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geodesic.pictures.canvas import axes_or_new, new_figure
from geodesic.pictures.style import styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_outputs", "plot_reconstructions", "plot_samples", "plot_strip", "shown_images"]

_STRIP = 5.7  # inches for the outputs of a strip
_BAR = 1.2  # inches for the height of a row of vectors
_TOGETHER, _APART = 0.08, 0.35  # between the rows of a pair, and between pairs, in heights of a row


@styled
def plot_strip(
    straight: NDArray,
    geodesic: NDArray,
    straight_length: NDArray,
    geodesic_length: NDArray,
    converged: NDArray | None = None,
    *,
    pairs: Sequence[int] | None = None,
    axes: Axes | None = None,
) -> Figure:
    """Decoded outputs along straight paths, each above those along its geodesic, at equal times.

    Args:
        straight: Decoded means along P straight paths at K times: images (P, K, C, H, W) or (P, K, H, W), or vectors
            (P, K, D).
        geodesic: The same along the geodesics.
        straight_length: Riemannian lengths of the straight paths, (P,).
        geodesic_length: Riemannian lengths of the geodesics, (P,).
        converged: Whether the second paths have converged to geodesics, (P,); labels say so if not.
        pairs: Their numbers, P; 0, 1, ... by default.
        axes: Where to draw; on a new figure by default.

    Returns:
        The figure.
    """
    P, K = straight.shape[:2]
    images = straight.ndim in (4, 5)
    if images:
        straight, geodesic = _shades(straight, geodesic)
        width, height = straight.shape[-1], straight.shape[-2]
        style: dict[str, Any] = {"cmap": "gray_r", "vmin": 0, "vmax": 1}
    else:
        width, height = 1, 1
        known = np.concatenate([x[np.isfinite(x)] for x in (straight, geodesic)])
        style = {"cmap": "viridis", "vmin": known.min() if len(known) else 0, "vmax": known.max() if len(known) else 1}
    cell = _STRIP / K * height / width if images else _BAR
    figure, ax = axes_or_new(axes, width=_STRIP + 1.3, height=(P * (2 + _TOGETHER) + (P - 1) * _APART) * cell + 0.5)
    top, middles, names = 0.0, [], []
    for i in range(P):
        best = "geodesic" if converged is None or converged[i] else "not converged"
        pair = f"{i if pairs is None else pairs[i]}: " if P > 1 else ""
        rows = (("straight", straight_length, straight), (best, geodesic_length, geodesic))
        for name, length, outputs in rows:
            row = np.concatenate([_as_image(x) for x in outputs[i]], axis=1) if images else outputs[i].T
            ax.imshow(row, extent=(0, K * width, top + height, top), interpolation="nearest", **style)
            middles.append(top + height / 2)
            names.append(f"{pair}{name}\nlength {length[i]:.3f}")
            top += (1 + _TOGETHER) * height
        top += (_APART - _TOGETHER) * height
    if images:
        for k in range(1, K):
            ax.axvline(k * width, color="white", lw=1.5)
    ax.set_aspect("equal" if images else "auto")
    ax.set_xlim(0, K * width)
    ax.set_ylim(top - _APART * height, 0)
    ax.set_xticks((np.arange(K) + 0.5) * width, [f"{t:.2g}" for t in np.linspace(0, 1, K)])
    ax.set_yticks(middles, names)
    ax.tick_params(length=0, labelsize=9)
    for side in ax.spines.values():
        side.set_visible(False)
    ax.set_xlabel("time $t$ along the path")
    return figure


@styled
def plot_outputs(rows: Sequence[Sequence[NDArray]], row_names: Sequence[str], headings: Sequence[str]) -> Figure:
    """Outputs in rows with names and columns with headings; the last heading is that of all columns from there on.

    Args:
        rows: Images (C, H, W) or (H, W), or vectors (D,), which are drawn as columns of colors. Rows may be shorter
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
    cells = (
        [_as_image(x) for x in _shades(*flat)] if images else [np.repeat(x.reshape(-1, 1), 20, axis=1) for x in flat]
    )
    height, width, *colors = cells[0].shape
    gap, space = max(1, height // 8), max(1, width // 8)
    columns = max(map(len, rows))
    # One picture with room between the cells: an axis for each would take seconds to draw.
    canvas = np.full((len(rows) * (height + gap) - gap, columns * (width + space) - space, *colors), np.nan)
    places = [(k * (height + gap), j * (width + space)) for k, row in enumerate(rows) for j in range(len(row))]
    for (top, left), cell in zip(places, cells, strict=True):
        canvas[top : top + height, left : left + width] = cell
    high = 0.75 * len(rows) * (canvas.shape[0] / canvas.shape[1] * columns / len(rows) if images else 1)
    figure, (axes,) = new_figure(1, width=0.75 * columns + 1.0, height=high + 0.5)
    if colors:
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


@styled
def plot_reconstructions(originals: NDArray, reconstructions: NDArray, columns: int = 8) -> Figure:
    """Images in rows of `columns`, each row above one of their reconstructions.

    Args:
        originals: (N, C, H, W), values from 0 to 1; others, such as counts, are shown in shades of their range.
        reconstructions: Means of the decoded images, in the same shape.
        columns: Images a row.

    Returns:
        The figure.
    """
    originals, reconstructions = _shades(originals, reconstructions)
    starts = range(0, len(originals), columns)
    rows = [part[start : start + columns] for start in starts for part in (originals, reconstructions)]
    return _mosaic(rows, ["original", "decoded"] * len(starts))


@styled
def plot_samples(images: NDArray, columns: int = 8) -> Figure:
    """Decoded means at points drawn from the prior, in rows of `columns`.

    Args:
        images: (N, C, H, W), values from 0 to 1, or others as in `plot_reconstructions`.
        columns: Images a row.

    Returns:
        The figure.
    """
    (images,) = _shades(images)
    return _mosaic([images[start : start + columns] for start in range(0, len(images), columns)])


def _mosaic(rows: Sequence[NDArray], names: Sequence[str] = ()) -> Figure:
    """Rows of images, one above the other, with the names of the rows; the last row may be shorter."""
    images = [[_as_image(image) for image in row] for row in rows]
    height, width, *colors = images[0][0].shape
    # One picture with a line of light gray between the images: an axis for each would take seconds to draw.
    grid = (len(rows) * (height + 1) - 1, len(rows[0]) * (width + 1) - 1)
    canvas = np.full((*grid, *colors), 0.85 if colors else 0.15)
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


def _shades(*images: NDArray) -> list[NDArray]:
    """Values from 0 to 1 as they are; where some leave that range, as counts do, all in parts of theirs."""
    known = np.concatenate([x[np.isfinite(x)] for x in images])
    low, high = min(0.0, known.min(initial=0)), max(1.0, known.max(initial=1))
    return [(x - low) / (high - low) for x in images]


def shown_images(*images: NDArray) -> list[NDArray]:
    """Images (P, K, C, H, W) or (P, K, H, W) as they are drawn, (P, K, H, W) or (P, K, H, W, 3): in shades or "
    "colors.
    """
    return [np.stack([np.stack([_as_image(image) for image in row]) for row in each]) for each in _shades(*images)]


def _as_image(output: NDArray) -> NDArray:
    """(C, H, W) or (H, W) to what imshow takes."""
    if output.ndim == 3:
        output = np.moveaxis(output, 0, -1)
        output = output[..., :3] if output.shape[-1] > 2 else output[..., 0]  # two channels are no colors
    return np.clip(output, 0, 1)
