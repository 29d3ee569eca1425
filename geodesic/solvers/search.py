"""What is asked of a search for geodesics, beside the manifold and the ends."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import require_finite, require_fraction, require_integer, require_positive
from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold
from geodesic.keywords import by_name
from geodesic.numerics.tolerance import usual_tol
from geodesic.solvers.solver import Solver

__all__ = ["IN_SEARCH", "MOST_SEGMENTS", "Search", "given_path", "require_search"]

MOST_SEGMENTS = 1024
"""To so many segments `length_rtol` goes."""

_STARTS = ("straight", "graph", "best")
_CLOUD = "a tensor of latent points, (N, d) or (N, *latent_shape)"
_LEAST_MEMORY = 1000  # bytes: less than the smallest path takes, or meant in another unit


@by_name(
    "Search(segments=64)",
    points="it is `graph_points`",
    max_iterations="the limit of a solver is `max_steps`; that of a statistic's own loop is in `stop=Stop(...)`",
    rtol="it is `tol` here; `length_rtol` doubles the segments until lengths agree",
    method="how paths are improved is `solver`; how geodesics are followed is said by `follow=Follow(method=...)`",
)
@dataclass(frozen=True, eq=False, kw_only=True)
class Search:
    """How geodesics are looked for: what every tool that looks for them takes as `search=`.

    `solve` takes the same as plain keywords.

    Args:
        solver: How to improve the paths. "auto" takes `Newton()`, or `NewtonKrylov()` where Jacobians would be too
            large, see `choose_solver`.
        init: Where paths start: "straight", the straight line at constant speed; "graph", a shortest path in a
            neighbor graph, see `graph_path`; "best", both, and the shorter of the two answers for each pair; or
            paths of your own, (*batch, T + 1, d), with the given ends.
        graph_points: Latent points for the graph, (N, d), such as the encodings of the training data; drawn if None.
        segments: Number T of segments of each path, at least 2. Paths of your own have their T.
        length_rtol: Double T, from `segments` on, until two successive lengths of a pair agree to this relative
            difference; a pair that does not agree at 1,024 segments is not resolved. The paths of all pairs are
            resampled to the largest T.
        tol: Largest relative excess energy of a pair that counts as converged, without unit. None leaves it to the
            tool: for `solve`, 1e-6 in float64 and 1e-4 in float32.
        max_steps: Most steps of the solver for any pair and number of segments.
        memory: Bytes that the work may take besides its answer, about; by default half of what is free, as the system,
            a control group or the GPU says. See `solve`.

    Raises:
        InputError: A setting cannot be used, or two of them do not go together.

    Example:
        >>> import torch, geodesic
        >>> search = geodesic.Search(init="best", segments=64)
        >>> a, b = torch.tensor([torch.pi / 4, 0.0]), torch.tensor([torch.pi / 4, 2.0])
        >>> print(f"{float(geodesic.distance(geodesic.surfaces.Sphere(), a, b, search=search)):.4f}")
        1.2746
    """

    solver: Solver[Any] | str = "auto"
    init: Tensor | str = "straight"
    graph_points: Tensor | None = None
    segments: int = 32
    length_rtol: float | None = None
    tol: float | None = None
    max_steps: int = 1000
    memory: float | None = None

    def __post_init__(self) -> None:
        init: Any = self.init
        if self.solver != "auto" and not isinstance(self.solver, Solver):
            raise InputError(f"solver: expected 'auto' or a solver such as Newton(), got {self.solver!r}")
        if not (isinstance(init, Tensor) or (isinstance(init, str) and init in _STARTS)):
            got = repr(init) if isinstance(init, str) else type(init).__name__
            raise InputError(f"init: expected {', '.join(map(repr, _STARTS))} or paths, got {got}")
        if self.graph_points is not None and not isinstance(self.graph_points, Tensor):
            raise InputError(f"graph_points: expected {_CLOUD}, got {type(self.graph_points).__name__}")
        require_integer("segments", self.segments, least=2)
        require_integer("max_steps", self.max_steps, least=1)
        require_fraction("length_rtol", self.length_rtol, optional=True)
        require_fraction("tol", self.tol, optional=True)
        require_positive("memory", self.memory, optional=True)
        self._require_reachable()
        self._require_compatible()

    def _require_reachable(self) -> None:
        """Refuse limits that no dtype and no manifold can keep."""
        eps = torch.finfo(torch.float64).eps
        if self.tol is not None and self.tol < eps**2:
            raise InputError(
                f"tol: expected at least {eps**2:.0e}, as rounding leaves more excess energy in float64, got {self.tol}"
            )
        if self.length_rtol is not None and self.length_rtol < eps:
            raise InputError(
                f"length_rtol: expected at least {eps:.0e}, what float64 tells apart, got {self.length_rtol}"
            )
        if self.memory is not None and self.memory < _LEAST_MEMORY:
            raise InputError(
                f"memory: expected bytes, at least {_LEAST_MEMORY:,}, got {self.memory!r}; 2 GB are memory=2e9"
            )

    def _require_compatible(self) -> None:
        """Refuse settings of which one says that another is not looked at."""
        if self.graph_points is not None and (isinstance(self.init, Tensor) or self.init == "straight"):
            raise InputError(
                "graph_points: no graph is looked at unless init is 'graph' or 'best'; set init, or leave them out"
            )
        if self.length_rtol is not None and self.segments >= MOST_SEGMENTS:
            raise InputError(
                f"length_rtol: segments are doubled up to {MOST_SEGMENTS:,}, got segments={self.segments}; set fewer "
                "segments, or leave out length_rtol"
            )
        # Which axis of the paths counts nodes depends on the manifold: these differ on any axis.
        if isinstance(self.init, Tensor) and self.segments + 1 not in self.init.shape:
            self.refuse_segments()

    def refuse_segments(self) -> None:
        """Refuse segments beside paths of another number of them; the default asks for none in particular."""
        if isinstance(self.init, Tensor) and self.segments != Search.segments:
            raise InputError(
                f"segments: paths of your own have theirs, got segments={self.segments} with paths of shape "
                f"{tuple(self.init.shape)}; leave segments out, or resample: refine_path(init, {self.segments})"
            )

    def require_suited(self, manifold: Manifold) -> None:
        """Refuse a manifold that these settings cannot be used with.

        Raises:
            InputError: Lengths are to be refined that have no limit, or points of the graph have another shape.
        """
        event = manifold.latent_shape
        axes = 2 if event is None else 1 + len(event)
        if self.graph_points is not None and self.graph_points.dim() != axes:
            raise InputError(f"graph_points: expected {_CLOUD}, got {tuple(self.graph_points.shape)}")
        if self.length_rtol is not None and not manifold.has_length:
            raise InputError(
                f"length_rtol: chords of {manifold} do not vanish with the step, so its lengths have no limit to "
                "refine to; choose `segments` as a part of the model"
            )

    def tolerance(self, dtype: torch.dtype) -> float:
        """`tol`, or what is usual for a dtype."""
        return usual_tol(dtype) if self.tol is None else self.tol


IN_SEARCH = {field.name: f"search=Search({field.name}=...)" for field in fields(Search)}
IN_SEARCH |= {"points": IN_SEARCH["graph_points"], "paths": IN_SEARCH["init"]}
"""Keywords of `solve` that tools take inside a `Search`, and what two of them were once called: for `renamed`."""


def require_search(search: Any) -> None:
    """Refuse what is no `Search`.

    Raises:
        InputError: With what was received.
    """
    if not isinstance(search, Search):
        got = f"the class {search.__name__} itself" if isinstance(search, type) else type(search).__name__
        raise InputError(f"search: expected a Search, such as Search(segments=16), got {got}")


def given_path(search: Search, start: Tensor, end: Tensor, event: int) -> Float[Tensor, "P nodes d"] | None:
    """The user's own paths, or None where `init` is a word.

    Args:
        search: Its `init` and `segments` are looked at.
        start: First endpoints, as the user gave them.
        end: Last endpoints.
        event: The number of axes of a point.

    Raises:
        InputError: The paths do not lead from the starts to the ends, or have another number of segments.
    """
    init = search.init
    if isinstance(init, str):
        return None
    time = start.dim() - event
    if init.dim() != start.dim() + 1 or init.shape[:time] + init.shape[time + 1 :] != start.shape:
        expected = ", ".join(map(str, (*start.shape[:time], "T + 1", *start.shape[time:])))
        raise InputError(f"init: expected paths of shape ({expected}), got {tuple(init.shape)}")
    if init.dtype != start.dtype or init.device != start.device:
        raise InputError(
            f"init: expected paths of {start.dtype} on {start.device}, as the endpoints, got {init.dtype} on "
            f"{init.device}"
        )
    if init.shape[time] < 3:
        raise InputError(f"init: expected paths of at least 2 segments, got {init.shape[time] - 1}")
    if init.shape[time] != search.segments + 1:
        search.refuse_segments()
    require_finite("init", init)
    for name, point, at in (("start", start, 0), ("end", end, -1)):
        if not torch.equal(init.select(time, at), point):
            raise InputError(f"init: its paths do not {name} at the points of `{name}`; set their ends to them")
    return init.detach().reshape(-1, init.shape[time], start.shape[time:].numel())
