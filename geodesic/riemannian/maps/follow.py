"""What is asked of geodesics that are followed, beside where they begin."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import require_fraction, require_integer
from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold
from geodesic.keywords import by_name
from geodesic.riemannian.maps.stride import Stride, integration_rtol, require_method

__all__ = ["IN_FOLLOW", "SEGMENTS", "Follow", "method_at", "stride_by_equation", "stride_of"]

SEGMENTS = 32
"""Segments of a geodesic that is followed, where nobody asks for others."""


@by_name(
    "Follow(segments=16)",
    max_steps="steps of an integration have the limit `max_iterations`",
    tol="the accuracy of an integration is `rtol`",
    transport="it is an argument of `parallel_transport` and `analogy`",
)
@dataclass(frozen=True, kw_only=True)
class Follow:
    """How geodesics are followed: what every tool that follows them takes as `follow=`.

    What is None is left to the tool, whose documentation says what it takes.

    Args:
        method: "ode" follows them by the geodesic equation, "discrete" by the discrete energy, "refraction", for
            `exp_map` alone, from face to face of a decoder that is affine on pieces. Where it is None, and
            neither `rtol` nor `max_iterations` asks for "ode", maps take "ode" on decoders with continuous second
            derivatives and "discrete" on all others, and statistics take "discrete". The answer says which it was.
        segments: Number T of segments of each geodesic: for "discrete" the steps; for "ode" they do not influence
            the accuracy.
        rtol: Largest error of a step of the integration, relative to the length of the geodesic, measured by the
            metric; for "ode" alone. Where it is None, 1e-8 in float64 and 1e-5 in float32.
        max_iterations: Most steps of the integration that a geodesic may attempt, or for a logarithm all its shots
            together; for "ode" alone.

    Raises:
        InputError: A setting cannot be used, or two of them do not go together.

    Example:
        >>> import torch, geodesic
        >>> follow = geodesic.Follow(method="ode", rtol=1e-4)
        >>> walk = geodesic.random_walk(geodesic.surfaces.Cylinder(), torch.zeros(2), time=1.0, steps=5, follow=follow)
        >>> print(bool(walk.converged))
        True
    """

    method: str | None = None
    segments: int | None = None
    rtol: float | None = None
    max_iterations: int | None = None

    def __post_init__(self) -> None:
        if self.method is not None:
            require_method(self.method)
            _require_suited(self, self.method)
        for name in ("segments", "max_iterations"):
            if getattr(self, name) is not None:
                require_integer(name, getattr(self, name), least=1)
        require_fraction("rtol", self.rtol, optional=True)


IN_FOLLOW = {field.name: f"follow=Follow({field.name}=...)" for field in fields(Follow)}
"""Keywords that tools take inside a `Follow`: for `renamed`."""


def stride_of(
    follow: Any,
    dtype: torch.dtype,
    method: str,
    *,
    segments: int = SEGMENTS,
    max_iterations: int = 1000,
    least_segments: int = 1,
    refracts: bool = False,
) -> Stride:
    """How geodesics through points of a dtype are followed.

    Args:
        follow: What the user gave.
        dtype: Of the points.
        method: What the tool takes where `follow` leaves it open, see `method_at`, and so for the next two.
        segments: See `method`.
        max_iterations: See `method`.
        least_segments: How many the tool needs.
        refracts: Whether it knows "refraction".

    Raises:
        InputError: It is no `Follow`, or has settings that cannot be used here.
    """
    if not isinstance(follow, Follow):
        raise InputError(f"follow: expected a Follow, such as Follow(segments=16), got {type(follow).__name__}")
    method = follow.method or _asked_for(follow) or method
    if method == "refraction" and not refracts:
        raise InputError(
            "follow: 'refraction' is for exp_map alone; expected 'ode' or 'discrete' here, or leave it out"
        )
    segments = follow.segments or segments
    require_integer("segments", segments, least=least_segments)
    return Stride(method, segments, integration_rtol(follow.rtol, dtype), follow.max_iterations or max_iterations)


def method_at(follow: Any, manifold: Manifold, z: Float[Tensor, "N d"]) -> str:
    """How maps follow geodesics through points like z, where nothing else is asked for.

    "ode" where second derivatives are continuous, as the door found them, or the metric is one of our own; "discrete"
    elsewhere. Nothing is looked at where `follow` decides.
    """
    if not isinstance(follow, Follow) or follow.method or manifold.door is None or not len(z):
        return getattr(follow, "method", None) or "ode"
    return _asked_for(follow) or ("ode" if manifold.door.findings(z).smooth else "discrete")


def stride_by_equation(follow: Any, dtype: torch.dtype, *, segments: int) -> Stride:
    """`stride_of` for tools that know the geodesic equation alone.

    Raises:
        InputError: As there, or the method is "discrete".
    """
    stride = stride_of(follow, dtype, "ode", segments=segments, max_iterations=10_000)
    if stride.method != "ode":
        raise InputError(f"follow: expected method 'ode', the only one that has Jacobi fields, got {stride.method!r}")
    return stride


def _asked_for(follow: Follow) -> str | None:
    """The method that settings of an integration ask for."""
    return "ode" if follow.rtol is not None or follow.max_iterations is not None else None


def _require_suited(follow: Follow, method: str) -> None:
    for name in ("rtol", "max_iterations"):
        if method != "ode" and (value := getattr(follow, name)) is not None:
            raise InputError(
                f'{name}: got {value!r}, which "{method}" does not look at; add method="ode", or leave it out'
            )
