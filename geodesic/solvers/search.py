"""What is asked of a search for geodesics, beside the manifold and the ends."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.arrays import as_tensor
from geodesic.checks import require_finite, require_fraction, require_integer, require_positive
from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.period import Period, same_points
from geodesic.keywords import by_name
from geodesic.numerics.tolerance import usual_tol
from geodesic.solvers.plan import Plan
from geodesic.solvers.solver import Solver

__all__ = ["IN_SEARCH", "MOST_SEGMENTS", "SEGMENTS", "Search", "given_path", "require_search"]

SEGMENTS = 32
"""So many segments paths begin with."""

MOST_SEGMENTS = 1024
"""Up to so many, where lengths need them."""

_LENGTH_RTOL = 1e-3

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
        solver: How to improve the paths. "auto" takes `Newton()`, or `NewtonKrylov()` where exact Hessians would be
            dearer than products with them, see `Plan`.
        init: Where paths start: "straight", the straight line at constant speed; "graph", a shortest path in a
            neighbor graph, see `graph_path`; "best", both, and on decoders with kinks also bumps beside what was
            found, for each pair the shortest of the answers; or paths of your own, (*batch, T + 1, d), with the given
            ends, or copies of the last ones.
        graph_points: Latent points for the graph, (N, d), such as the encodings of the training data; drawn if None.
        segments: A fixed number T of segments, at least 2, passed in equal times. By default each pair gets as many as
            its length needs, from 32 on, more of them where the outputs bend. Paths of your own have their T.
        length_rtol: Largest estimated relative error of a length that is resolved, by default 1e-3. Set together with
            `segments`, or with paths of your own, it begins with these. Segments of a pair are doubled until it is
            resolved, up to 1,024.
        tol: Largest relative excess energy of a pair that counts as converged, without unit. None leaves it to the
            tool: for `solve`, 1e-6 in float64 and 1e-4 in float32.
        max_steps: Most steps of the solver for any pair and number of segments.
        memory: Bytes that the work may take besides its answer, about; by default half of what is free, as the system,
            a control group or the GPU says. See `solve`.
        plan: What an earlier answer was found by, its `plan`, in place of `solver` and `memory`: nothing is measured or
            decided anew, see `Plan`.

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
    segments: int | None = None
    length_rtol: float | None = None
    tol: float | None = None
    max_steps: int = 1000
    memory: float | None = None
    plan: Plan | None = None

    def __post_init__(self) -> None:
        for name in ("init", "graph_points"):
            object.__setattr__(self, name, as_tensor(name, getattr(self, name)))
        init: Any = self.init
        if self.solver != "auto" and not isinstance(self.solver, Solver):
            raise InputError(f"solver: expected 'auto' or a solver such as Newton(), got {self.solver!r}")
        if not (isinstance(init, Tensor) or (isinstance(init, str) and init in _STARTS)):
            got = repr(init) if isinstance(init, str) else type(init).__name__
            raise InputError(f"init: expected {', '.join(map(repr, _STARTS))} or paths, got {got}")
        if self.graph_points is not None and not isinstance(self.graph_points, Tensor):
            raise InputError(f"graph_points: expected {_CLOUD}, got {type(self.graph_points).__name__}")
        if self.segments is not None:
            require_integer("segments", self.segments, least=2)
        require_integer("max_steps", self.max_steps, least=1)
        require_fraction("length_rtol", self.length_rtol, optional=True)
        require_fraction("tol", self.tol, optional=True)
        require_positive("memory", self.memory, optional=True)
        if self.plan is not None and not isinstance(self.plan, Plan):
            raise InputError(f"plan: expected a Plan, such as solution.plan, got {type(self.plan).__name__}")
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
        for name, value, usual in (("solver", self.solver, "auto"), ("memory", self.memory, None)):
            if self.plan is not None and value != usual:
                raise InputError(
                    f"plan: it decides the {name} already, got {name}={value!r} beside it; leave one of them out"
                )
        if self.graph_points is not None and (isinstance(self.init, Tensor) or self.init == "straight"):
            raise InputError(
                "graph_points: no graph is looked at unless init is 'graph' or 'best'; set init, or leave them out"
            )
        if self.length_rtol is not None and self.segments is not None and self.segments >= MOST_SEGMENTS:
            raise InputError(
                f"length_rtol: segments are doubled up to {MOST_SEGMENTS:,}, got segments={self.segments}; set fewer "
                "segments, or leave out length_rtol"
            )
        # Which axis of the paths counts nodes depends on the manifold: these differ on any axis.
        if isinstance(self.init, Tensor) and self.segments is not None and self.segments + 1 not in self.init.shape:
            self.refuse_segments()

    def refuse_segments(self) -> None:
        """Refuse segments beside paths of another number of them."""
        if isinstance(self.init, Tensor) and self.segments is not None:
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

    @property
    def refines(self) -> bool:
        """Whether pairs get as many segments as they need, or a fixed number."""
        fixed = self.segments is not None or isinstance(self.init, Tensor)
        return not fixed or self.length_rtol is not None

    @property
    def rtol(self) -> float:
        """Largest estimated relative error of a resolved length."""
        return _LENGTH_RTOL if self.length_rtol is None else self.length_rtol

    @property
    def first_segments(self) -> int:
        """T of the first paths, which are not the user's."""
        return SEGMENTS if self.segments is None else self.segments

    def even(self, tool: str) -> Search:
        """The same search for discrete geodesics: with a fixed number of segments, passed in equal times.

        Args:
            tool: Which works with the nodes themselves.

        Raises:
            InputError: Lengths are to be refined.
        """
        if self.length_rtol is not None:
            raise InputError(
                f"search: {tool} works with nodes at equal times, of a fixed number, got length_rtol="
                f"{self.length_rtol:g}; leave it out, and raise segments instead"
            )
        return self if isinstance(self.init, Tensor) else replace(self, segments=self.first_segments)

    def exactness(self, dtype: torch.dtype) -> float:
        """The relative excess energy that is sought: lengths that are asked for to `length_rtol` need a tenth of it."""
        return self.tolerance(dtype) if self.length_rtol is None else min(self.tolerance(dtype), self.length_rtol / 10)

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


def given_path(
    search: Search, start: Tensor, end: Tensor, event: int, period: Period | None = None
) -> Float[Tensor, "P nodes d"] | None:
    """The user's own paths, or None where `init` is a word.

    Args:
        search: Its `init` and `segments` are looked at.
        start: First endpoints, as the user gave them.
        end: Last endpoints.
        event: The number of axes of a point.
        period: Of the manifold: paths may end at any copy of the ends.

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
    if search.segments is not None and init.shape[time] != search.segments + 1:
        search.refuse_segments()
    require_finite("init", init)
    path = init.detach().reshape(-1, init.shape[time], start.shape[time:].numel())
    first, last = (z.detach().reshape(len(path), -1) for z in (start, end))
    reached = path[:, -1]
    for name, point, known in (("start", path[:, 0], first), ("end", reached, same_points(period, last, reached))):
        if not torch.equal(point, known):
            raise InputError(f"init: its paths do not {name} at the points of `{name}`; set their ends to them")
    return path
