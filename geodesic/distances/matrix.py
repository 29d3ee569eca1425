"""All distances between points."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, overload

from torch import Tensor

from geodesic.checks import require_alike
from geodesic.distances.exact import solve_all
from geodesic.distances.graph import along_graph
from geodesic.distances.landmarks import by_landmarks
from geodesic.distances.methods import METHODS, Exact, Graph, Landmarks, Method, Straight, method_of
from geodesic.distances.record import DistanceMatrix
from geodesic.distances.solved import Solver
from geodesic.distances.store.fill import fill
from geodesic.distances.store.matrix_job import MatrixJob, in_tiles
from geodesic.distances.store.settings import Store, store_of
from geodesic.distances.store.stored import StoredDistances, open_distances
from geodesic.distances.straight import straight_all
from geodesic.distances.told import DistanceProgress, Teller
from geodesic.distances.tolerance import eased
from geodesic.distances.work import Work
from geodesic.errors import InputError
from geodesic.geometry.checks import guarded, require_manifold
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows, require_limit
from geodesic.keywords import renamed
from geodesic.solvers.search import IN_SEARCH, Search, require_search

__all__ = ["distance_matrix", "require_suited"]


@overload
def distance_matrix(
    manifold: Manifold,
    points: Tensor,
    others: Tensor | None = None,
    *,
    method: str | Method = ...,
    search: Search = ...,
    callback: Callable[[DistanceProgress], None] | None = ...,
    resume: Path | str | None = ...,
    store: None = ...,
) -> DistanceMatrix: ...
@overload
def distance_matrix(
    manifold: Manifold,
    points: Tensor,
    others: Tensor | None = None,
    *,
    method: str | Method = ...,
    search: Search = ...,
    callback: Callable[[DistanceProgress], None] | None = ...,
    resume: None = ...,
    store: Path | str | Store,
) -> StoredDistances: ...
@guarded
@renamed(**IN_SEARCH)
def distance_matrix(
    manifold: Manifold,
    points: Tensor,
    others: Tensor | None = None,
    *,
    method: str | Method = "exact",
    search: Search = Search(),
    callback: Callable[[DistanceProgress], None] | None = None,
    resume: Path | str | None = None,
    store: Path | str | Store | None = None,
) -> DistanceMatrix | StoredDistances:
    """Geodesic distances between all points, each with a lower and an upper bound.

    |x(a) - x(b)| <= d(a, b) <= length of any curve from a to b

    "exact" solves for every geodesic, once for both directions: those of a few points that are far apart first, then
    those of points beside them, which begin near curves that are known. A pair that is farther apart than by way of a
    third point is solved for again from there. "straight" measures straight latent lines, "graph" shortest paths over
    geodesics of neighbors, and "landmarks" geodesics to some points alone.

    Warning:
        N (N - 1) / 2 geodesics, by "exact". Bounds are estimates as far as floating point and quadrature go.

    Args:
        manifold: Where to measure.
        points: (N, d), or (N, *latent_shape) for a manifold with a `latent_shape`, float32 or float64: in their dtype,
            that of the decoder's weights, all is computed. float32 is enough for a `length_rtol` of 1e-4 or more where
            the decoder has no kinks; across these some pairs stall in it. Equal points are at distance zero.
        others: Points to measure to, (M, d), instead of all points among themselves.
        method: "exact", "straight", "graph", "landmarks", or one of the records `Exact`, `Straight`, `Graph`,
            `Landmarks` of `geodesic.distances`, with settings.
        search: How geodesics are looked for, but for paths of your own. Without a `tol` it is `length_rtol`, by default
            1e-3, since half of the excess energy is the excess length; eight tenths of it where the decoder has kinks.
        callback: Called with a `DistanceProgress` after each group of pairs; `callback=print` prints it.
        resume: A file, .npz, that keeps what was found, every half minute and after Ctrl-C: a call with the same
            arguments goes on from there.
        store: A folder, or a `geodesic.distances.Store` with settings: pairs are found tile by tile, by this process or
            by workers of Dask, and written there; a call with the same arguments computes only what is missing. For
            "exact", whose pairs are not mended then (`Exact(mend=False)`), and "straight".

    Returns:
        The distances, with bounds. Without history. Of a store, a `StoredDistances`, which reads what is looked at.

    Raises:
        InputError: There are no two points to measure between, they or a setting cannot be used, or the manifold has no
            lengths.
        DataError: The file of `resume`, or the store, is of other points, another decoder or other settings, or cannot
            be written.
        RunFolderError: Another process fills the store.
        DecoderError: As from `solve`.

    Example:
        >>> import torch, geodesic
        >>> points = torch.tensor([[1.0, 0.0], [1.2, 0.1], [6.0, 0.0]])
        >>> matrix = geodesic.distance_matrix(geodesic.surfaces.SwissRoll(), points)
        >>> print(matrix.length.round(decimals=2))
        tensor([[ 0.0000,  0.3100, 18.3500],
                [ 0.3100,  0.0000, 18.0500],
                [18.3500, 18.0500,  0.0000]])
        >>> bool(((matrix.lower <= matrix.length) & (matrix.length <= matrix.upper)).all())
        True
    """
    if store is not None:
        if resume is not None:
            raise InputError("resume: a store goes on from what is there by itself; leave out resume, or store")
        require_suited(manifold, search)
        return _stored(manifold, _points(manifold, points, others), method, (search, store), callback)
    how = method_of(method)
    require_suited(manifold, search)
    if not isinstance(resume, str | Path | None):
        raise InputError(f"resume: expected the path of a file, such as 'distances.npz', got {resume!r}")
    x, y = _points(manifold, points, others)
    search = eased(manifold, search, x)
    work = Work(Solver(manifold, search), x, y, Teller(callback))
    kind = METHODS.kind_of(how)
    if resume is not None:
        work.keep(Path(resume), _deciding(how, search))
    try:
        more = _by(how, work)
    finally:
        work.save()  # also where it was interrupted
    return work.matrix(kind, **more)


def _stored(
    manifold: Manifold,
    points: tuple[Tensor, Tensor | None],
    method: str | Method,
    settings: tuple[Search, Path | str | Store],
    callback: Callable[[DistanceProgress], None] | None,
) -> StoredDistances:
    """The distances in a store, which is filled."""
    search, store = eased(manifold, settings[0], points[0]), store_of(settings[1])
    job = MatrixJob(manifold, *points, in_tiles(method), search, store.tile)
    return open_distances(fill(job, store, callback))


def require_suited(manifold: Any, search: Any) -> None:
    """Refuse a search that is none for many geodesics.

    Raises:
        InputError: It is no search, has paths of its own, or the manifold has no lengths.
    """
    require_manifold(manifold)
    require_search(search)
    require_limit(manifold, "distance")
    if not isinstance(search.init, str):
        raise InputError("search: expected init to be 'straight', 'graph' or 'best' for many pairs, got paths")


def _points(manifold: Manifold, points: Any, others: Any) -> tuple[Tensor, Tensor | None]:
    event = manifold.latent_shape or (None,)
    for name, x in (("points", points), ("others", others)):
        if isinstance(x, Tensor) and (x.dim() != 1 + len(event) or not len(x)):
            raise InputError(f"{name}: expected points, (N, d), at least one, got {tuple(x.shape)}")
    (x,) = Rows(manifold, points=points).rows
    if others is None:
        if len(x) < 2:
            raise InputError("points: expected at least two to measure between, got one; give others, or more points")
        return x, None
    (y,) = Rows(manifold, others=others).rows
    require_alike(points=x[:1], others=y[:1])
    return x, y


def _deciding(method: Method, search: Search) -> str:
    """Settings that decide what is found, in words: what costs it, as memory, does not."""
    words = [f"{name} {getattr(search, name)}" for name in ("solver", "init", "segments", "tol", "max_steps")]
    for points in (getattr(method, "graph_points", None), search.graph_points):
        if points is not None:
            digest = hashlib.sha256(points.detach().cpu().contiguous().numpy().tobytes())
            words.append(f"graph_points {tuple(points.shape)} {digest.hexdigest()[:16]}")
    return ", ".join([str(method), *words, f"length_rtol {search.rtol}"])


def _by(method: Method, work: Work) -> dict[str, Any]:
    """Find all that a method finds; what it says beside."""
    if isinstance(method, Graph):
        return along_graph(work, method)
    if isinstance(method, Landmarks):
        return by_landmarks(work, method)
    if isinstance(method, Straight):
        straight_all(work, method.segments)
    if isinstance(method, Exact):
        solve_all(work, method)
    return {}
