"""When statistics that move points stop."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch

from geodesic.checks import require_fraction, require_integer
from geodesic.errors import InputError
from geodesic.keywords import by_name
from geodesic.numerics.tolerance import usual_tol

__all__ = ["IN_STOP", "Stop", "require_stop"]


@by_name("Stop(tol=1e-4)", max_steps="it is `max_iterations` here; `max_steps` limits the solver, in a `Search`")
@dataclass(frozen=True, kw_only=True)
class Stop:
    """When an iteration stops: what statistics that move points, step by step, take as `stop=`.

    Args:
        tol: Largest `error` of an answer that counts as converged, without unit; each tool says what its error is.
            None: 1e-6 in float64 and 1e-4 in float32.
        max_iterations: Most steps.

    Raises:
        InputError: A setting cannot be used.

    Example:
        >>> import torch, geodesic
        >>> points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> mean = geodesic.frechet_mean(geodesic.surfaces.Saddle(), points, stop=geodesic.Stop(tol=1e-2))
        >>> print(bool(mean.error <= 1e-2))
        True
    """

    tol: float | None = None
    max_iterations: int = 100

    def __post_init__(self) -> None:
        require_fraction("tol", self.tol, optional=True)
        require_integer("max_iterations", self.max_iterations, least=1)

    def tolerance(self, dtype: torch.dtype) -> float:
        """`tol`, or what is usual for a dtype."""
        return usual_tol(dtype) if self.tol is None else self.tol


IN_STOP = {field.name: f"stop=Stop({field.name}=...)" for field in fields(Stop)}
"""Keywords that tools take inside a `Stop`: for `renamed`."""


def require_stop(stop: Any) -> None:
    """Refuse what is no `Stop`.

    Raises:
        InputError: With what was received.
    """
    if not isinstance(stop, Stop):
        raise InputError(f"stop: expected a Stop, such as Stop(tol=1e-4), got {type(stop).__name__}")
