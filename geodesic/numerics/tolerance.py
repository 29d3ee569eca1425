"""Default tolerances: one rule for all tools, from what a dtype can tell.

`tol` is 1e-6 in float64 and 1e-4 in float32, of whatever a tool drives down: the excess energy of a path, the gradient
of a mean, the next step of a fit. It has no unit. Further down, float32 sees little but rounding.

Velocities are of first order in the error of a path, energies of second: paths whose velocities count are solved to the
square of `tol`, 1e-12 and 1e-8. An integration takes many steps: the `rtol` of each is a hundredth of `tol`, 1e-8, but
not below the 1e-5 that rounding leaves in float32.
"""

from __future__ import annotations

import torch

__all__ = ["excess_for_vectors", "step_for", "usual_tol"]

_USUAL = {torch.float64: 1e-6, torch.float32: 1e-4}
# What solvers still reach. Of 180 float32 means and medians, on seven surfaces and eight networks at T = 8, 178
# converge with paths solved to 1e-8, 168 to 1e-9, 146 to 1e-10.
_LEAST_EXCESS = {torch.float64: 1e-24, torch.float32: 1e-8}
_LEAST_STEP = {torch.float64: 1e-14, torch.float32: 1e-5}


def usual_tol(dtype: torch.dtype) -> float:
    """The `tol` of a tool that was given none."""
    return _USUAL[dtype]


def excess_for_vectors(tol: float, dtype: torch.dtype) -> float:
    """The relative excess energy to which to solve paths whose velocities have to be right to `tol`.

    Example:
        >>> import torch
        >>> from geodesic.numerics.tolerance import excess_for_vectors, usual_tol
        >>> print([f"{excess_for_vectors(usual_tol(dtype), dtype):.0e}" for dtype in (torch.float64, torch.float32)])
        ['1e-12', '1e-08']
    """
    return max(tol**2, _LEAST_EXCESS[dtype])


def step_for(tol: float, dtype: torch.dtype) -> float:
    """The error that a step of an integration may have, relative to the length, for an answer right to `tol`."""
    return max(tol / 100, _LEAST_STEP[dtype])
