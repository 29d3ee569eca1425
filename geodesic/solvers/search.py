"""What is asked of a search for geodesics, beside the manifold and the ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import require_finite, require_fraction, require_integer, require_positive
from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold
from geodesic.solvers.solver import Solver

__all__ = ["Search", "given_path"]

_STARTS = ("straight", "graph", "best")


@dataclass(frozen=True, eq=False)
class Search:
    """How geodesics are looked for: the keywords of `solve`, checked.

    Attributes:
        solver: How to improve the paths; None to choose one that suits the manifold.
        init: Where to start: a word, or paths.
        points: Latent points for the graph, (N, d), or None.
        segments: Number T of segments of each path.
        length_rtol: Relative difference of two successive lengths at which T is large enough; None to keep T.
        tol: Largest relative excess energy of a pair that counts as converged.
        max_steps: Most steps for any pair and number of segments.
        memory: Bytes that the work may take.
    """

    solver: Solver[Any] | None
    init: Tensor | str
    points: Float[Tensor, "N d"] | None
    segments: int
    length_rtol: float | None
    tol: float
    max_steps: int
    memory: float

    @classmethod
    def checked(cls, manifold: Manifold, **given: Any) -> Search:
        """From the keywords of `solve`, as a user gives them.

        Raises:
            InputError: One of them cannot be used with this manifold.
        """
        solver, init, points, length_rtol = (given[name] for name in ("solver", "init", "points", "length_rtol"))
        if solver != "auto" and not isinstance(solver, Solver):
            raise InputError(f"solver: expected 'auto' or a solver such as Newton(), got {solver!r}")
        if not (isinstance(init, Tensor) or (isinstance(init, str) and init in _STARTS)):
            got: object = repr(init) if isinstance(init, str) else type(init).__name__
            raise InputError(f"init: expected {', '.join(map(repr, _STARTS))} or paths, got {got}")
        axes = 2 if manifold.latent_shape is None else 1 + len(manifold.latent_shape)
        if points is not None and not (isinstance(points, Tensor) and points.dim() == axes):
            got = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
            raise InputError(f"points: expected a tensor of latent points, (N, d) or (N, *latent_shape), got {got}")
        require_integer("segments", given["segments"], least=2)
        require_integer("max_steps", given["max_steps"], least=1)
        require_fraction("tol", given["tol"])
        require_positive("memory", given["memory"])
        require_positive("length_rtol", length_rtol, optional=True)
        if length_rtol is not None and not manifold.has_length:
            raise InputError(
                f"length_rtol: chords of {manifold} do not vanish with the step, so its lengths have no limit to "
                "refine to; choose `segments` as a part of the model"
            )
        given["solver"] = None if solver == "auto" else solver
        given["points"] = None if points is None else points.flatten(1)
        return cls(**given)


def given_path(init: Tensor | str, start: Tensor, end: Tensor, event: int) -> Float[Tensor, "P nodes d"] | None:
    """The user's own paths, or None where `init` is a word.

    Args:
        init: As in `solve`.
        start: First endpoints, as the user gave them.
        end: Last endpoints.
        event: The number of axes of a point.

    Raises:
        InputError: The paths do not lead from the starts to the ends.
    """
    if isinstance(init, str):
        return None
    time = start.dim() - event
    expected = (*start.shape[:time], "T + 1", *start.shape[time:])
    if init.dim() != start.dim() + 1 or init.shape[:time] + init.shape[time + 1 :] != start.shape:
        raise InputError(f"init: expected paths of shape {expected}, got {tuple(init.shape)}")
    if init.dtype != start.dtype or init.device != start.device:
        raise InputError(
            f"init: expected paths of {start.dtype} on {start.device}, as the endpoints, got {init.dtype} on "
            f"{init.device}"
        )
    if init.shape[time] < 3:
        raise InputError(f"init: expected paths of at least 2 segments, got {init.shape[time] - 1}")
    require_finite("init", init)
    for name, point, at in (("start", start, 0), ("end", end, -1)):
        if not torch.equal(init.select(time, at), point):
            raise InputError(f"init: its paths do not {name} at the points of `{name}`; set their ends to them")
    return init.detach().reshape(-1, init.shape[time], start.shape[time:].numel())
