"""Drag two ends in a notebook and see the geodesic follow."""

from __future__ import annotations

from dataclasses import replace
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
    subject: Manifold | GeodesicSolution,
    points: Any = None,
    labels: Any = None,
    *,
    decoder: Decoder | None = None,
    image_shape: tuple[int, ...] | None = None,
) -> Any:
    """Drag two ends in the latent space, in a notebook, and see the geodesic follow.

    While an end moves, the path follows roughly; when it rests, the path is certified, as `solve` does it. Of an answer
    alone, which does not know its manifold, the pair is shown whose ends are nearest. `geodesic explore RUN` shows a
    run in the browser in the same way.

    Args:
        subject: Where to measure, a manifold; or the answer of `solve`.
        points: Latent points of data, (N, d), at least 3. For a manifold they are needed; in their place the answer of
            `solve` on it can be given, whose pairs are offered then.
        labels: Their classes, (N,).
        decoder: What is seen along the paths, as for `plot_strip`; by default that of a `PullbackManifold`.
        image_shape: The shape of an image, for decoders that return them flat.

    Returns:
        A widget, which a notebook shows.

    Raises:
        InputError: The subject is neither, or points or labels cannot be used.
        DecoderError: The decoder cannot be used.
        MissingExtraError: anywidget is not installed.

    Example:
        >>> import torch, geodesic
        >>> torus = geodesic.surfaces.Torus()
        >>> widget = geodesic.explore(torus, 3 * torch.rand(100, 2))
    """
    return widget_of(scene_of(subject, points, labels, decoder=decoder, image_shape=image_shape))


def scene_of(
    subject: Manifold | GeodesicSolution,
    points: Any = None,
    labels: Any = None,
    *,
    decoder: Decoder | None = None,
    image_shape: tuple[int, ...] | None = None,
) -> Scene:
    """What `explore` shows.

    Args:
        subject: As for `explore`.
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
    answer, manifold = (_of_tensors(subject), None) if isinstance(subject, GeodesicSolution) else (None, subject)
    if manifold is not None:
        require_manifold(manifold)
        if decoder is None and isinstance(manifold, PullbackManifold):
            decoder = manifold.decoder
    given = _of_tensors(points) if isinstance(points, GeodesicSolution) else answer
    if given is not None and (points is None or isinstance(points, GeodesicSolution)):
        points = given.path.flatten(0, 1)
    z = as_tensor("points", points)
    if not isinstance(z, Tensor) or z.ndim < 2:
        got = f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(points).__name__
        raise InputError(f"points: expected latent points, (N, d), or the answer of solve, got {got}")
    z = z.detach().flatten(1)
    z = z if z.is_floating_point() else z.to(torch.get_default_dtype())
    _, classes = background(z, labels, z.shape[1] if given is None else given.path.shape[-1])
    name = type(subject).__name__ if answer is None else answer.plan.made_for.geometry
    event = None if manifold is None else manifold.latent_shape
    return Scene(
        title=name,
        points=z,
        geometries={} if manifold is None else {name: lambda: manifold},
        labels=classes,
        decode=None if decoder is None else _drawing(decoder, image_shape, event),
        pairs=None if given is None else _pairs(given),
        answer=answer,
    )


def _pairs(answer: GeodesicSolution) -> tuple[Tensor, Tensor, list[str]]:
    return answer.path[:, 0], answer.path[:, -1], [f"pair {k}" for k in range(len(answer.path))]


def _of_tensors(solution: GeodesicSolution) -> GeodesicSolution:
    """An answer with one batch axis, points as rows, of tensors: it may be one of arrays."""
    arrays = solution.arrays()
    found = GeodesicSolution.from_arrays(arrays)
    batch = found.status.shape
    rows = found[torch.ones(batch, dtype=torch.bool)] if batch else found[None]
    return replace(rows, path=rows.path.reshape(len(rows.status), rows.path.shape[1], -1))


def _drawing(decoder: Decoder, image_shape: tuple[int, ...] | None, event: tuple[int, ...] | None) -> Any:
    require_decoder(decoder)
    shape = checked_shape(image_shape, "image_shape")

    def draw(z: Tensor) -> NDArray:
        return pictured(decoder, z[None], [0], event or z.shape[1:], shape)[0]

    return draw
