"""Pictures of what a decoder makes of paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from geodesic.adapters.wrap import WrappedDecoder
from geodesic.arrays import with_arrays
from geodesic.checks import require_integer
from geodesic.errors import InputError
from geodesic.geometry.decoders import Decoder, checked_shape, decoded, require_decoder
from geodesic.pictures.outputs import plot_strip as plot_frames
from geodesic.solvers.solution import GeodesicSolution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["pictured", "plot_strip", "require_conditions"]

_PAIRS = 12  # what a picture can hold


def plot_strip(
    solution: GeodesicSolution,
    decoder: Decoder,
    *,
    image_shape: tuple[int, ...] | None = None,
    columns: int = 11,
    ax: Axes | None = None,
) -> Figure:
    """Draw what a decoder makes of each straight line and, below it, of the geodesic: images at equal times.

    Along the geodesic neighboring images are equally far apart in the geometry that it was found in. Outputs that are
    no images are drawn as columns of colors.

    Args:
        solution: The answer of `solve`, for up to 12 pairs: `plot_strip(solution[:3], decoder)` takes the first three.
        decoder: What `wrap` returned, of which the means are drawn; or from latent points, (N, d), to what is to be
            seen, (N, ...): `lambda z: decoder(z).sigmoid()` for a plain function that returns logits. Images have
            values from 0 to 1, others are shown in shades of their range.
        image_shape: The shape of an image, (C, H, W) or (H, W), for decoders that return them flat; by default that of
            an output.
        columns: Images a row, at least 2.
        ax: Axes of matplotlib to draw on; a new figure if None.

    Returns:
        The figure, which a notebook shows by itself.

    Raises:
        InputError: There are too many pairs, or outputs that are no images of the shape.
        DecoderError: The decoder cannot be used, or fails on the points.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> import torch, geodesic
        >>> decoder = lambda z: torch.sigmoid(z @ torch.ones(2, 12))
        >>> solution = geodesic.solve(geodesic.PullbackManifold(decoder), torch.zeros(2), torch.ones(2))
        >>> figure = geodesic.plot_strip(solution, decoder, image_shape=(3, 4))
        >>> [label.get_text().partition(chr(10))[0] for label in figure.axes[0].get_yticklabels()]
        ['straight', 'geodesic']
    """
    if not isinstance(solution, GeodesicSolution):
        raise InputError(f"solution: expected the answer of solve, got {type(solution).__name__}")
    require_decoder(decoder)
    require_integer("columns", columns, least=2)
    shape = checked_shape(image_shape, "image_shape")
    measured = [with_arrays(x).reshape(-1) for x in (solution.straight_length, solution.length, solution.converged)]
    count = len(measured[0])
    if not 1 <= count <= _PAIRS:
        raise InputError(f"solution: expected 1 to {_PAIRS} pairs in a picture, got {count}; give solution[:{_PAIRS}]")
    require_conditions(decoder, count)
    straight, geodesic = _images(solution, decoder, columns, shape)
    return plot_frames(straight, geodesic, *measured, axes=ax)


def _images(
    solution: GeodesicSolution, decoder: Decoder, columns: int, shape: tuple[int, ...] | None
) -> tuple[NDArray, NDArray]:
    """Outputs along the straight lines and along the geodesics, (P, columns, *shape)."""
    batch = solution.status.ndim
    event = tuple(solution.path.shape[batch + 1 :])
    curve = solution(torch.linspace(0, 1, columns, device="cpu")).reshape(-1, columns, math.prod(event))
    t = torch.linspace(0, 1, columns, dtype=curve.dtype, device=curve.device)[:, None]
    straight = torch.lerp(curve[:, :1], curve[:, -1:], t)
    images = pictured(decoder, torch.cat([straight, curve], dim=1), range(len(curve)), event, shape)
    return images[:, :columns], images[:, columns:]


def pictured(
    decoder: Decoder,
    rows: Float[Tensor, "P n d"],
    pairs: Sequence[int],
    event: tuple[int, ...],
    shape: tuple[int, ...] | None,
) -> NDArray:
    """What is to be drawn of latent points, (P, n, *shape): of what `wrap` returned its means, each pair under its own.

    Args:
        decoder: What is to be drawn of it.
        rows: Points.
        pairs: Whose points they are: places among the pairs of the decoder's conditions.
        event: The shape of a latent point.
        shape: The shape of an image; by default that of an output.

    Raises:
        InputError: Outputs are no images of the shape, or there are other pairs than conditions.
        DecoderError: The decoder fails on the points.
    """
    with torch.no_grad():
        outputs = torch.cat(
            [
                decoded(each, z.flatten(0, 1), event if len(event) > 1 else None)
                for each, z in _drawn(decoder, rows, pairs)
            ]
        )
    images = _shaped(outputs, shape)
    return images.reshape(*rows.shape[:2], *images.shape[1:])


def _drawn(
    decoder: Decoder, rows: Float[Tensor, "P n d"], pairs: Sequence[int]
) -> list[tuple[Decoder, Float[Tensor, "m n d"]]]:
    """What is to be drawn of which rows: of what `wrap` returned its means, under the condition of each pair."""
    wrapped = _wrapped(decoder)
    if wrapped is None:
        return [(decoder, rows)]
    if wrapped.pairs is None:
        return [(wrapped.mean, rows)]
    return [(wrapped.of_pair(k).mean, z) for k, z in zip(pairs, rows.split(1), strict=True)]


def _wrapped(decoder: Decoder) -> WrappedDecoder | None:
    """What `wrap` returned, if it is that or a method of that."""
    owner = getattr(decoder, "__self__", None)
    found = decoder if isinstance(decoder, WrappedDecoder) else owner
    return found if isinstance(found, WrappedDecoder) else None


def require_conditions(decoder: Decoder, count: int) -> None:
    """Refuse what `wrap` returned for other pairs than these, so many."""
    wrapped = _wrapped(decoder)
    if wrapped is not None and wrapped.pairs not in (None, count):
        raise InputError(
            f"decoder: it has a condition for each of {wrapped.pairs} pairs, and the solution has {count}; wrap "
            "the model with the conditions of these alone"
        )


def _shaped(outputs: Tensor, shape: tuple[int, ...] | None) -> NDArray:
    """Outputs as images, or as vectors, (N, ...)."""
    event: Any = outputs.shape[1:] or (1,)
    if shape is not None and math.prod(shape) != math.prod(event):
        raise InputError(
            f"image_shape: {shape} are {math.prod(shape):,} numbers, and an output of the decoder has "
            f"{math.prod(event):,}, of shape {tuple(event)}"
        )
    shape = tuple(event) if shape is None else shape
    if len(shape) > 3:
        raise InputError(
            f"image_shape: an output of the decoder has shape {shape}, and an image (C, H, W) or (H, W); give a "
            "decoder that returns one image for each point"
        )
    values: NDArray = outputs.double().cpu().numpy().reshape(len(outputs), *shape)
    return values
