"""The latent space of a report: its plane with the magnification, or the spectrum of the metric along the paths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.arrays import with_arrays
from geodesic.errors import GeodesicError
from geodesic.geometry.manifold import Manifold
from geodesic.pictures.maps import plot_map
from geodesic.pictures.paths import named, plot_latent
from geodesic.pictures.worth import plot_spectrum
from geodesic.reporting.markup import as_drawing
from geodesic.reporting.material import Material
from geodesic.reporting.neighbors import evenly
from geodesic.reporting.page import Picture, Section
from geodesic.reporting.words import percent
from geodesic.riemannian.curvature.magnification import log_volume

__all__ = ["latent_section"]

_SHOWN = 20  # paths that can be told apart
_CLOUD = 3000  # points of the background
_GRID = 60  # points of a map along each coordinate
_PRODUCTS = 4000  # with Jacobians that the spectrum may take


def latent_section(material: Material) -> Section:
    """The plane of the latent space with paths on it; for d > 2 the spectrum of the metric too."""
    text, pictures = [], []
    if material.points is None:
        text.append("No data are drawn: " + material.missing.get("encodings", "no points were given."))
    drawn = _Drawn.of(material)
    if material.manifold is None:
        text.append("The metric is not shown: " + material.missing.get("manifold", "no manifold was given."))
    else:
        try:
            pictures += _of_metric(material.manifold, drawn)
        except GeodesicError as error:
            text.append(f"The metric is not shown: {error}.")
    if not pictures:
        pictures.append(_of_paths(drawn))
    if drawn.left_out:
        text.append(
            f"{len(drawn.curves):,} of {len(drawn.curves) + drawn.left_out:,} pairs are drawn, evenly chosen from the "
            "least to the most different."
        )
    return Section("latent", "Latent space", text, pictures)


@dataclass(frozen=True)
class _Drawn:
    """Paths that are drawn, (P, nodes, d), the name that they have, how many are not, data, and a tensor like "
    "theirs.
    """

    curves: NDArray
    name: str
    left_out: int
    points: NDArray | None
    labels: NDArray | None
    like: Tensor

    @classmethod
    def of(cls, material: Material) -> _Drawn:
        best = material.best
        shown = _spread(best.ratio, _SHOWN)
        points = None if material.points is None else evenly(material.points, _CLOUD)
        labels = None if material.labels is None else evenly(material.labels, _CLOUD)
        name = named("geodesic", best.converged[shown])
        like = torch.as_tensor(next(iter(material.solutions.values())).path)
        return cls(best.curve[shown], name, len(best.curve) - len(shown), points, labels, like)


def _of_paths(drawn: _Drawn) -> Picture:
    """Paths and data without the metric."""
    d = drawn.curves.shape[-1]
    where = {1: "the latent line against time", 2: "the latent plane"}.get(
        d, "the plane of the two leading principal directions of the paths"
    )
    figure = plot_latent({drawn.name: drawn.curves}, drawn.points, drawn.labels)
    caption = f"Geodesics (solid) and straight lines (dashed) in {where}."
    return Picture(as_drawing(figure, "latent", caption), caption)


def _of_metric(manifold: Manifold, drawn: _Drawn) -> list[Picture]:
    d = drawn.curves.shape[-1]
    if d == 1:
        return [_of_paths(drawn)]
    return [_map(manifold, drawn)] if d == 2 else _spectrum(manifold, drawn)


def _map(manifold: Manifold, drawn: _Drawn) -> Picture:
    """The magnification over the latent plane: where the data are, but for a few far away, and all paths."""
    nodes = drawn.curves.reshape(-1, 2)
    ends = [nodes] if drawn.points is None else [nodes, np.quantile(drawn.points, [0.005, 0.995], axis=0)]
    seen = np.concatenate(ends)
    low, high = np.nanmin(seen, axis=0), np.nanmax(seen, axis=0)
    room = 0.04 * np.maximum(high - low, 1e-6)
    grid = np.stack(np.meshgrid(*np.linspace(low - room, high + room, _GRID).T), axis=-1)
    volume = _numbers(log_volume(manifold, torch.as_tensor(grid.reshape(-1, 2)).to(drawn.like)))
    volume = np.where(np.isfinite(volume), volume, np.nan).reshape(_GRID, _GRID)
    figure = plot_map(grid, volume, "magnification", encodings=drawn.points, labels=drawn.labels, paths=drawn.curves)
    caption = (
        "The latent plane, and geodesics on it. The darker, the more a small latent area is magnified by the decoder: "
        "geodesics go around dark places, where a latent step changes much."
    )
    return Picture(as_drawing(figure, "map", caption), caption)


def _spectrum(manifold: Manifold, drawn: _Drawn) -> list[Picture]:
    """Eigenvalues of the metric along the paths, and the plane of the two directions that count most."""
    G = _metric_tensors(manifold, drawn)
    if not len(G):
        return [_of_paths(drawn)]
    d = G.shape[-1]
    eigenvalues = _numbers(torch.linalg.eigvalsh(G).flip(-1))
    top = float(np.median(eigenvalues[:, :2].sum(1) / eigenvalues.sum(1)))
    spread = float(np.median(eigenvalues[:, 0] / np.maximum(eigenvalues[:, -1], np.finfo(float).tiny)))
    caption = (
        f"Eigenvalues of the metric G at {len(eigenvalues):,} points of the paths. The two largest of {d} have "
        f"{percent(top)} of the trace at the median, and the largest is {spread:.3g} times the smallest. Paths "
        "may go far "
        "along directions of small eigenvalues, since these hardly change the output."
    )
    pictures = [Picture(as_drawing(plot_spectrum(eigenvalues), "spectrum", caption), caption)]
    values, vectors = (_numbers(x) for x in torch.linalg.eigh(G.mean(0)))
    plane = vectors[:, [-1, -2]]
    points = None if drawn.points is None else drawn.points @ plane
    figure = plot_latent({drawn.name: drawn.curves @ plane}, points, drawn.labels)
    for k, axis in enumerate((figure.axes[0].xaxis, figure.axes[0].yaxis)):
        axis.set_label_text(f"direction {k + 1} of $G$ ({100 * values[-1 - k] / values.sum():.0f} % of its trace)")
    caption = (
        "Geodesics (solid) and straight lines (dashed) in the plane of the two leading principal directions of G, "
        "averaged over the paths: those along which the output changes most."
    )
    return [*pictures, Picture(as_drawing(figure, "latent", caption), caption)]


def _metric_tensors(manifold: Manifold, drawn: _Drawn) -> Tensor:
    """G on paths, (n, d, d), where it is finite: at fewer points the more dimensions there are."""
    P, nodes, d = drawn.curves.shape
    count = max(2, min(11, _PRODUCTS // (d * P)))
    z = drawn.curves[:, np.linspace(0, nodes - 1, count).round().astype(int)].reshape(-1, d)
    z = z[np.isfinite(z).all(1)]
    with torch.no_grad():
        G = torch.cat([manifold.metric_tensor(part) for part in torch.as_tensor(z).to(drawn.like).split(16)])
    return G[G.isfinite().flatten(1).all(1)].double().cpu()


def _numbers(values: Tensor) -> NDArray:
    return np.asarray(with_arrays(values), dtype=float)


def _spread(ratio: NDArray, most: int) -> NDArray:
    """Pairs from the least to the most different, evenly, in their own order."""
    if len(ratio) <= most:
        return np.arange(len(ratio))
    order = np.argsort(np.nan_to_num(ratio, nan=1.0), kind="stable")
    return np.sort(order[np.linspace(0, len(order) - 1, most).round().astype(int)])
