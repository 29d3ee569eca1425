"""What a badge says of an answer."""

from __future__ import annotations

import math
from typing import Any

from geodesic.explorer.follow import Rough
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.status import Status

__all__ = ["figures_of", "rough_figures"]


def figures_of(solution: GeodesicSolution) -> dict[str, Any]:
    """Length, ratio, converged, resolved and why of the answer for one pair.

    Args:
        solution: Of one pair, without batch axes.

    Example:
        >>> import torch, geodesic
        >>> from geodesic.explorer.figures import figures_of
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> found = figures_of(geodesic.solve(plane, torch.zeros(2), torch.tensor([3.0, 4.0])))
        >>> found["length"], found["converged"], found["remedy"]
        (5.0, True, '')
    """
    status = Status(int(solution.status))
    return {
        "length": float(solution.length),
        "straight_length": float(solution.straight_length),
        "ratio": float(solution.length_ratio),
        "length_error": float(solution.error),
        "converged": bool(solution.converged),
        "resolved": bool(solution.resolved),
        "minimum": bool(solution.minimum),
        "segments": int(solution.segments),
        "steps": int(solution.iterations),
        "remedy": "" if bool(solution.converged) else f"{status.name.lower()}: {status.remedy}",
    }


def rough_figures(rough: Rough) -> dict[str, Any]:
    """What is known of a path that follows.

    Args:
        rough: The path.

    Example:
        >>> import torch
        >>> from geodesic.explorer.figures import rough_figures
        >>> from geodesic.explorer.follow import Rough
        >>> rough_figures(Rough(torch.zeros(17, 2), 3.0, 4.0, 2))["ratio"]
        0.75
    """
    ratio = rough.length / rough.straight_length if rough.straight_length else math.nan
    return {
        "length": rough.length,
        "straight_length": rough.straight_length,
        "ratio": ratio,
        "segments": len(rough.path) - 1,
        "steps": rough.steps,
    }
