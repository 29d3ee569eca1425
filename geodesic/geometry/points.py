"""Points and vectors as users give them, and as rows to compute with."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold

__all__ = ["Rows", "require_limit", "rows_at_once"]

_BYTES = 1e9  # that second derivatives of a decoder may take at once, about


class Rows:
    """Tensors of points or vectors of a manifold, all of one shape, as rows of d numbers.

    Args:
        manifold: Whose points they are; its `latent_shape` tells which axes belong to a point.
        tensors: By the names of the user's arguments, each (*batch, d) or (*batch, *latent_shape).

    Attributes:
        batch: The leading axes.
        event: The axes of a point.
        rows: The tensors as (N, d), without history, in the order given.

    Raises:
        InputError: A tensor has another shape, dtype or device than the first, or is not finite.
        DecoderError: The decoder is in training mode.
    """

    def __init__(self, manifold: Any, **tensors: Any) -> None:
        if not isinstance(manifold, Manifold):
            raise InputError(
                f"manifold: expected a Manifold such as PullbackManifold(decoder), got {type(manifold).__name__}"
            )
        manifold.require_usable()
        (name, first), *others = tensors.items()
        for other, z in tensors.items():
            _require_points(manifold, other, z)
        for other, z in others:
            if z.shape != first.shape:
                raise InputError(
                    f"{other}: expected the shape of {name}, {tuple(first.shape)}, got {tuple(z.shape)}; a vector for "
                    f"each point, or {name}.expand_as({other}) for many at one point"
                )
            if z.dtype != first.dtype or z.device != first.device:
                raise InputError(
                    f"{other}: expected {first.dtype} on {first.device}, as {name}, got {z.dtype} on {z.device}"
                )
        axes = 1 if manifold.latent_shape is None else len(manifold.latent_shape)
        self.batch, self.event = first.shape[:-axes], first.shape[-axes:]
        self.rows = [z.detach().reshape(-1, math.prod(self.event)) for z in tensors.values()]

    def back(self, x: Tensor, *axes: int) -> Tensor:
        """From (N, *axes, d) to (*batch, *axes, *event)."""
        return x.reshape(*self.batch, *x.shape[1:-1], *self.event)

    def each(self, x: Tensor) -> Tensor:
        """From (N, ...) to (*batch, ...): what is no point."""
        return x.reshape(self.batch + x.shape[1:])


def _require_points(manifold: Manifold, name: str, z: Any) -> None:
    event = manifold.latent_shape
    if not isinstance(z, Tensor):
        raise InputError(f"{name}: expected a tensor, got {type(z).__name__}; use torch.as_tensor({name})")
    if z.dtype not in (torch.float32, torch.float64):
        raise InputError(f"{name}: expected floating point, float32 or float64, got {z.dtype}; use {name}.double()")
    if z.dim() == 0 or z.numel() == 0:
        raise InputError(f"{name}: expected shape (*batch, d), with at least one point, got {tuple(z.shape)}")
    if event is not None and z.shape[-len(event) :] != event:
        raise InputError(
            f"{name}: expected the manifold's latent_shape, (*batch, {', '.join(map(str, event))}), got "
            f"{tuple(z.shape)}"
        )
    if not z.isfinite().all():
        where = (~z.isfinite()).nonzero()[0].tolist()
        raise InputError(f"{name}: expected finite coordinates, got {z[tuple(where)].item()} at {where}")


def require_limit(manifold: Manifold, what: str) -> None:
    """Refuse a manifold without lengths: see `Manifold.has_length`."""
    if not manifold.has_length:
        raise InputError(
            f"manifold: chords of {manifold} do not vanish with the step, so it has no {what}; use EnsembleManifold, "
            "whose members stay the same along a curve"
        )


def rows_at_once(manifold: Manifold, z: Tensor) -> int:
    """For how many rows like these, (N, d), derivatives of all coordinates fit into a gigabyte, about."""
    d = z.shape[-1]
    with torch.no_grad():
        D = manifold.observe(z[:1]).numel()
    return max(1, int(_BYTES / (z.element_size() * 10 * d * (D + d * d))))
