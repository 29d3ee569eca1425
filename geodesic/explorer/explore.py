"""Drag two ends in a notebook and see the geodesic follow."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.arrays import as_tensor
from geodesic.drawing.paths import background
from geodesic.drawing.strips import pictured
from geodesic.errors import InputError
from geodesic.explorer.scene import Scene
from geodesic.explorer.widget import widget_of
from geodesic.geometry.checks import require_manifold
from geodesic.geometry.decoders import Decoder, checked_shape, require_decoder
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.pullback import PullbackManifold
from geodesic.solvers.solution import GeodesicSolution

__all__ = ["explore", "scene_of"]


def explore(
    manifold: Manifold,
    points: Any,
    labels: Any = None,
    *,
    decoder: Decoder | None = None,
    image_shape: tuple[int, ...] | None = None,
) -> Any:
    """Drag two ends in the latent space, in a notebook, and see the geodesic follow.

    While an end moves, the path follows roughly; when it rests, the path is certified, as `solve` does it.
    `geodesic explore RUN` shows a run in the browser in the same way.

    Args:
        manifold: Where to measure.
        points: Latent points of data, (N, d), at least 3; or the answer of `solve` on this manifold, whose pairs are
            offered then.
        labels: Their classes, (N,).
        decoder: What is seen along the paths, as for `plot_strip`; by default that of a `PullbackManifold`.
        image_shape: The shape of an image, for decoders that return them flat.

    Returns:
        A widget, which a notebook shows.

    Raises:
        InputError: Points or labels cannot be used.
        DecoderError: The decoder cannot be used.
        MissingExtraError: anywidget is not installed.

    Example:
        >>> import torch, geodesic
        >>> torus = geodesic.surfaces.Torus()
        >>> widget = geodesic.explore(torus, 3 * torch.rand(100, 2))
    """
    return widget_of(scene_of(manifold, points, labels, decoder=decoder, image_shape=image_shape))


def scene_of(
    manifold: Manifold,
    points: Any,
    labels: Any = None,
    *,
    decoder: Decoder | None = None,
    image_shape: tuple[int, ...] | None = None,
) -> Scene:
    """What `explore` shows.

    Args:
        manifold: Where to measure.
        points: As for `explore`.
        labels: As for `explore`.
        decoder: As for `explore`.
        image_shape: As for `explore`.

    Raises:
        InputError: As from `explore`.
        DecoderError: As from `explore`.

    Example:
        >>> import torch, geodesic
        >>> from geodesic.explorer.explore import scene_of
        >>> scene_of(geodesic.surfaces.Torus(), torch.rand(100, 2)).title
        'Torus'
    """
    require_manifold(manifold)
    pairs = None
    if isinstance(points, GeodesicSolution):
        pairs, points = _pairs(points)
    z = as_tensor("points", points)
    if not isinstance(z, Tensor) or z.ndim < 2:
        got = f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(points).__name__
        raise InputError(f"points: expected latent points, (N, d), or the answer of solve, got {got}")
    z = z.detach().flatten(1)
    z = z if z.is_floating_point() else z.to(torch.get_default_dtype())
    _, classes = background(z, labels, z.shape[1])
    if decoder is None and isinstance(manifold, PullbackManifold):
        decoder = manifold.decoder
    return Scene(
        title=type(manifold).__name__,
        points=z,
        geometries={type(manifold).__name__: lambda: manifold},
        labels=classes,
        decode=None if decoder is None else _drawing(decoder, image_shape, manifold),
        pairs=pairs,
    )


def _pairs(solution: GeodesicSolution) -> tuple[Any, Tensor]:
    """The pairs of an answer, and points of its paths to look at."""
    batch = solution.status.ndim
    path = torch.as_tensor(solution.path)
    event = path.shape[batch + 1 :].numel()
    paths = path.reshape(-1, path.shape[batch], event)
    names = [f"pair {k}" for k in range(len(paths))]
    return (paths[:, 0], paths[:, -1], names), paths.flatten(0, 1)


def _drawing(decoder: Decoder, image_shape: tuple[int, ...] | None, manifold: Manifold) -> Any:
    require_decoder(decoder)
    shape, event = checked_shape(image_shape, "image_shape"), manifold.latent_shape

    def draw(z: Tensor) -> NDArray:
        values = pictured(decoder, z[None], [0], event or z.shape[1:], shape)
        return values[0]

    return draw
