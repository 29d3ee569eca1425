"""What is asked of geodesics that are followed, beside where they begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from geodesic.checks import require_fraction, require_integer
from geodesic.errors import InputError
from geodesic.riemannian.maps.stride import Stride, require_method, stride_from

__all__ = ["IN_FOLLOW", "Follow", "stride_of"]


@dataclass(frozen=True, kw_only=True)
class Follow:
    """How geodesics are followed: what tools that follow many take as `follow=`.

    `exp_map` takes the same as plain keywords.

    Args:
        method: "discrete" follows them by the discrete energy, "ode" by the geodesic equation.
        segments: Number T of segments of each geodesic: for "discrete" the steps.
        rtol: Largest error of a step of the integration, relative to the length; for "ode" alone. By default 1e-8 in
            float64 and 1e-5 in float32.
        max_iterations: Most steps of the integration for each geodesic; for "ode" alone.

    Raises:
        InputError: A setting cannot be used.

    Example:
        >>> import torch, geodesic
        >>> follow = geodesic.Follow(method="ode", rtol=1e-4)
        >>> walk = geodesic.random_walk(geodesic.surfaces.Cylinder(), torch.zeros(2), time=1.0, steps=5, follow=follow)
        >>> print(bool(walk.converged))
        True
    """

    method: str = "discrete"
    segments: int = 32
    rtol: float | None = None
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        require_method(self.method)
        require_integer("segments", self.segments, least=1)
        require_fraction("rtol", self.rtol, optional=True)
        require_integer("max_iterations", self.max_iterations, least=1)


IN_FOLLOW = {name: f"follow=Follow({name}=...)" for name in ("method", "segments", "rtol", "max_iterations")}
"""Keywords of `exp_map` that tools take inside a `Follow`: for `renamed`."""


def stride_of(follow: Any, dtype: torch.dtype, *, least_segments: int = 1) -> Stride:
    """How geodesics through points of a dtype are followed.

    Raises:
        InputError: It is no `Follow`, or has settings that cannot be used here.
    """
    if not isinstance(follow, Follow):
        raise InputError(f"follow: expected a Follow, such as Follow(segments=16), got {type(follow).__name__}")
    return stride_from(
        follow.method,
        follow.segments,
        follow.rtol,
        follow.max_iterations,
        dtype=dtype,
        least_segments=least_segments,
    )
