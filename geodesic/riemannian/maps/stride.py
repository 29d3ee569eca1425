"""How geodesics are followed: by which method, in how many segments, and how exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import require_fraction
from geodesic.errors import InputError
from geodesic.geometry.points import Rows
from geodesic.numerics.tolerance import step_for, usual_tol

__all__ = ["Stride", "integration_rtol", "require_method", "times_from"]

_SPEED = 1000  # times rtol: the largest relative change of the speed along what counts as a geodesic


@dataclass(frozen=True)
class Stride:
    """How geodesics are followed over unit time.

    Attributes:
        method: "ode", "discrete" or "refraction".
        segments: Number of equal intervals of time at whose ends nodes are returned; for "discrete" the steps.
        rtol: Largest error of a step of the integration. For "ode" alone.
        max_iterations: Most steps of the integration that a row may attempt. For "ode" alone.
    """

    method: str
    segments: int
    rtol: float
    max_iterations: int

    @property
    def speed_rtol(self) -> float:
        """The largest relative change of the speed along what counts as a solution of the geodesic equation."""
        return _SPEED * self.rtol


def require_method(method: Any) -> None:
    """Raise `InputError` where a method of following geodesics is none that there is."""
    if method not in ("ode", "discrete", "refraction"):
        raise InputError(
            f"method: expected 'ode', 'discrete' or 'refraction', got {method!r}; for Shao et al.'s shooting see shoot"
        )


def integration_rtol(rtol: Any, dtype: torch.dtype) -> float:
    """The tolerance of an integration: 1e-8 in float64 and 1e-5 in float32, unless another is given."""
    if rtol is None:
        return step_for(usual_tol(dtype), dtype)
    require_fraction("rtol", rtol)
    least = 10 * torch.finfo(dtype).eps
    if rtol < least:
        raise InputError(f"rtol: expected at least {least:.1e}, which is what {dtype} can tell apart, got {rtol!r}")
    return float(rtol)


def times_from(t: Any, given: Rows, rows: Tensor) -> Float[Tensor, " N"]:
    """The times that a user gave, a number or one for each row of (*batch,), one for each row of (N, d).

    Raises:
        InputError: They are not finite, or of another shape.
    """
    if isinstance(t, Tensor) and t.dim() > 0:
        if t.shape != given.batch or not bool(t.isfinite().all()):
            raise InputError(f"t: expected finite times, a number or of shape {tuple(given.batch)}, got {t!r}")
        return t.detach().to(rows).reshape(-1)
    if isinstance(t, bool) or not isinstance(t, int | float | Tensor) or not math.isfinite(number := float(t)):
        raise InputError(f"t: expected a finite time, a number or of shape {tuple(given.batch)}, got {t!r}")
    return rows.new_full((len(rows),), number)
