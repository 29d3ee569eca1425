"""What the page asks of a scene, answered: one request, one reply."""

from __future__ import annotations

import io
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.errors import GeodesicError, InputError
from geodesic.explorer.figures import figures_of, rough_figures
from geodesic.explorer.follow import STAGES, Follower, Rough
from geodesic.explorer.messages import Asked, Reply
from geodesic.explorer.planes import bounds_of, latent, off_plane, plane_of
from geodesic.explorer.scene import Scene, pictured_rows
from geodesic.explorer.shading import SHADINGS, shading
from geodesic.explorer.worker import Overtaken
from geodesic.geometry.manifold import Manifold
from geodesic.pictures.view import View
from geodesic.solvers.search import Search
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.solve import find
from geodesic.solvers.status import with_names

__all__ = ["STARTS", "Session"]

STARTS = ("straight", "graph", "best")
_TABS = 16  # whose last paths are kept
_CURVE = 64  # segments of a drawn path
_CELLS = 11  # outputs of a strip
_TIMES = 26  # of a movie
_AT_ONCE = 4  # pairs that are answered together
_SHADING = 0.08  # seconds of shading at a time: a drag that comes in between waits no longer
_CURVED = 16  # latent coordinates, up to which curvature is shown: with 256 a point takes a second
_FINEST = 256  # places along each side of a map

Watch = Callable[..., None]
"""Called with a `Progress` or without; raises where a request gives way."""


class Session:
    """Answers requests about a scene. A request says of which tab it is: each has its own path.

    Args:
        scene: What is explored.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._points: NDArray = scene.points.detach().cpu().double().numpy()[scene.shown]
        self._manifolds: dict[str, Manifold] = {}
        self._followers: OrderedDict[str, Follower] = OrderedDict()
        self._kinds: dict[str, Callable[[Asked, Watch], Reply]] = {
            "scene": self._scene,
            "shade": self._shade,
            "follow": self._follow,
            "look": self._look,
            "pairs": self._pairs,
            "export": self._export,
        }

    def answer(self, fields: Any, overtaken: Callable[[], bool] = lambda: False) -> Reply:
        """The reply to a request. What cannot be done is a reply with an `error`, in words for the reader.

        Args:
            fields: The request, from JSON.
            overtaken: Whether to give way: asked at each step of a solver.

        Raises:
            Overtaken: It gave way.
        """
        if not isinstance(fields, dict):
            return Reply({"error": f"expected a request, got {type(fields).__name__}"})
        about = {name: fields.get(name) for name in ("kind", "number")}
        begun = time.perf_counter()

        def watch(progress: Any = None) -> None:
            if overtaken():
                raise Overtaken

        try:
            asked = Asked(fields)
            reply = self._kinds[asked.word("kind", list(self._kinds))](asked, watch)
        except Overtaken:
            raise
        except GeodesicError as error:
            reply = Reply({"error": str(error)})
        except Exception as error:  # a decoder of the user's may raise anything, and the page goes on
            reply = Reply({"error": f"{type(error).__name__}: {error}"})
        took = 1000 * (time.perf_counter() - begun)
        return Reply({**about, **reply.fields, "ms": took}, reply.arrays)

    # --- what is asked ------------------------------------------------------------------------

    def _scene(self, asked: Asked, watch: Watch) -> Reply:
        scene, view = self.scene, self._view(asked)
        seen = view.points(self._points)
        labels = np.zeros(len(seen)) if scene.labels is None else scene.labels[scene.shown]
        words, numbers = np.unique(labels, return_inverse=True)
        return Reply(
            {
                "title": scene.title,
                "d": self._points.shape[1],
                "axes": [name.replace("$z_1$", "z₁").replace("$z_2$", "z₂") for name in view.names],
                "bounds": bounds_of(view, self._points),
                "geometries": list(scene.geometries),
                "solvers": list(scene.solvers),
                "starts": STARTS if scene.answer is None else (),
                "shadings": self._shadings,
                "fixed": scene.answer is not None,
                "classes": [] if scene.labels is None else [str(word) for word in words],
                "pairs": 0 if scene.pairs is None else len(scene.pairs[0]),
                "ends": self._first_ends(view),
                "pictured": scene.decode is not None,
            },
            {"points": seen.astype(np.float32), "labels": numbers.astype(np.int32)},
        )

    def _shade(self, asked: Asked, watch: Watch) -> Reply:
        """Rows of a map, as many as are done in a moment."""
        view, manifold = self._view(asked), self._manifold(asked)
        size, row = asked.number("size", 2, _FINEST), asked.number("row", 0, _FINEST - 1)
        quantity, bounds = asked.word("quantity", self._shadings), asked.numbers("bounds", 2, 2)
        # In the middle of each cell, as cells are drawn.
        first, second = ((low + (high - low) * (np.arange(size) + 0.5) / size) for low, high in bounds)
        directions = self._tensor(view.directions)
        values: list[NDArray] = []
        begun = time.perf_counter()
        while row < size and (not values or time.perf_counter() - begun < _SHADING):
            places = np.column_stack([first, np.full(size, second[row])])
            watch()
            values.append(shading(manifold, self._tensor(latent(view, places)), directions, quantity))
            row += 1
        return Reply({"size": size, "row": row - len(values)}, {"values": np.stack(values)})

    def _follow(self, asked: Asked, watch: Watch) -> Reply:
        """The geodesic between two places of the plane, and what the decoder makes of it."""
        view, ends = self._view(asked), asked.numbers("ends", 2, 2)
        if self.scene.answer is not None:
            return self._nearest_pair(view, ends, asked, self.scene.answer)
        manifold = self._manifold(asked)
        a, b = self._tensor(latent(view, ends))
        stage, solver = asked.word("stage", STAGES), asked.word("solver", list(self.scene.solvers))
        watch()
        solution = self._follower(asked).follow(manifold, (a, b), self._search(asked), solver, stage, watch)
        return self._shown(view, solution, {"stage": stage})

    def _nearest_pair(self, view: View, ends: NDArray, asked: Asked, answer: GeodesicSolution) -> Reply:
        """The pair of an answer whose ends are nearest to two places."""
        z = torch.stack([answer.path[:, 0], answer.path[:, -1]], dim=1)
        seen = _seen(view, z)
        k = int(((seen - ends) ** 2).sum((1, 2)).argmin())
        self._follower(asked).answer = answer[k]
        return self._shown(view, answer[k], {"stage": asked.word("stage", STAGES), "ends": seen[k].tolist()})

    def _shown(self, view: View, solution: GeodesicSolution | Rough, more: dict[str, Any]) -> Reply:
        """An answer as the page shows it."""
        curve = self._curve(solution, _CURVE)
        strips, trouble = self._strips(solution, _CELLS)
        known = rough_figures(solution) if isinstance(solution, Rough) else figures_of(solution)
        figures = known | {"off_plane": off_plane(view, _array(curve))}
        return Reply(figures | trouble | more, {"path": _seen(view, curve)} | strips)

    def _look(self, asked: Asked, watch: Watch) -> Reply:
        """The row of data at a point, or what the decoder makes of it."""
        row = asked.number("row", 0, len(self._points) - 1)
        number = int(self.scene.shown[row])
        if self.scene.rows is not None:
            return Reply({"row": row, "data": True}, {"picture": pictured_rows(self.scene.rows(number)[None])})
        if self.scene.decode is None:
            return Reply({"row": row, "data": False})
        decoded = self.scene.decode(self.scene.points[number : number + 1])
        return Reply({"row": row, "data": False}, {"picture": pictured_rows(decoded)})

    def _pairs(self, asked: Asked, watch: Watch) -> Reply:
        """Geodesics between some of the pairs that belong to the scene."""
        if self.scene.pairs is None:
            raise InputError("pairs: there are none here")
        starts, ends, names = self.scene.pairs
        first = asked.number("first", 0, len(starts) - 1)
        some = slice(first, first + _AT_ONCE)
        if self.scene.answer is not None:
            solution = self.scene.answer[some]
        else:
            manifold = self._manifold(asked)
            shape = (-1, *(manifold.latent_shape or starts.shape[1:]))
            a, b = (side[some].reshape(shape) for side in (starts, ends))
            solution = find(manifold, a, b, self._search(asked), watch)
        view = self._view(asked)
        return Reply(
            {
                "first": first,
                "names": list(names[some]),
                "figures": [figures_of(solution[k]) for k in range(len(solution.status))],
                "all": len(starts),
            },
            {"paths": _seen(view, self._curve(solution, _CURVE))},
        )

    def _export(self, asked: Asked, watch: Watch) -> Reply:
        """The certified answer as an .npz of all its fields, or a movie of it."""
        kind = asked.word("format", ("npz", "gif"))
        solution = self._follower(asked).answer
        if solution is None:
            raise InputError("there is no certified answer yet; leave the ends where they are for a moment")
        stream = io.BytesIO()
        if kind == "npz":
            np.savez_compressed(stream, **with_names(solution.arrays()))  # type: ignore[arg-type]
            content = stream.getvalue()
        else:
            content = self._movie(solution)
        return Reply({"format": kind}, {"file": np.frombuffer(content, dtype=np.uint8)})

    # --- what they have in common -------------------------------------------------------------

    def _view(self, asked: Asked) -> View:
        return plane_of(self._points, asked.rows("plane"))

    @property
    def _shadings(self) -> tuple[str, ...]:
        """What can be shown of the geometry: not the curvature where a point takes too long."""
        if self.scene.answer is not None:
            return ()
        return SHADINGS if self._points.shape[1] <= _CURVED else SHADINGS[:1]

    def _manifold(self, asked: Asked) -> Manifold:
        name = asked.word("geometry", list(self.scene.geometries))
        if name not in self._manifolds:
            self._manifolds[name] = self.scene.geometries[name]()
        return self._manifolds[name]

    def _search(self, asked: Asked) -> Search:
        start = asked.word("start", STARTS)
        points = None if start == "straight" else self.scene.graph_points
        solver = self.scene.solvers[asked.word("solver", list(self.scene.solvers))]
        return replace(self.scene.search, init=start, graph_points=points, solver=solver)

    def _follower(self, asked: Asked) -> Follower:
        """The path of a tab: of the oldest ones it is forgotten, and begins with the straight line again."""
        tab = asked.text("tab")
        follower = self._followers.pop(tab, None) or Follower()
        self._followers[tab] = follower
        while len(self._followers) > _TABS:
            self._followers.popitem(last=False)
        return follower

    def _tensor(self, array: NDArray) -> Tensor:
        return torch.as_tensor(array).to(self.scene.points)

    def _curve(self, solution: GeodesicSolution | Rough, segments: int) -> Tensor:
        """Places at equal times, (*batch, segments + 1, d)."""
        batch = () if isinstance(solution, Rough) else solution.status.shape
        t = torch.linspace(0, 1, segments + 1, dtype=solution.path.dtype, device=solution.path.device)
        return solution(t).reshape(*batch, segments + 1, -1)

    def _outputs(self, solution: GeodesicSolution | Rough, times: int) -> NDArray | None:
        """What is seen along the straight line and along the geodesic, (2 * times, *event)."""
        if self.scene.decode is None:
            return None
        curve = self._curve(solution, times - 1)
        t = torch.linspace(0, 1, times, dtype=curve.dtype, device=curve.device)[:, None]
        return self.scene.decode(torch.cat([torch.lerp(curve[:1], curve[-1:], t), curve]))

    def _strips(self, solution: GeodesicSolution | Rough, cells: int) -> tuple[dict[str, NDArray], dict[str, str]]:
        """Both strips, or why there are none: the path is shown all the same."""
        try:
            outputs = self._outputs(solution, cells)
        except GeodesicError as error:
            return {}, {"trouble": str(error)}
        if outputs is None:
            return {}, {}
        pictures = pictured_rows(outputs)
        return {"straight": pictures[:cells], "geodesic": pictures[cells:]}, {}

    def _movie(self, solution: GeodesicSolution) -> bytes:
        from geodesic.pictures.movies import as_gif, movie_frames

        outputs = self._outputs(solution, _TIMES)
        if outputs is None:
            raise InputError("gif: nothing is seen along this path, so there is nothing to move; export an .npz")
        straight, geodesic = outputs[None, :_TIMES], outputs[None, _TIMES:]
        return as_gif(movie_frames(straight, geodesic, [f"ratio {float(solution.length_ratio):.3f}"]))

    def _first_ends(self, view: View) -> list[list[float]]:
        """Where the ends are at first: those of the first pair, or of the data that are far from each other."""
        if self.scene.pairs is not None:
            ends = torch.stack([ends[0] for ends in self.scene.pairs[:2]])
            return view.points(_array(ends)).tolist()
        seen = view.points(self._points)
        low, high = np.array(bounds_of(view, self._points)).T
        wanted = [low + 0.25 * (high - low), low + 0.75 * (high - low)]
        return [seen[np.argmin(np.linalg.norm(seen - place, axis=1))].tolist() for place in wanted]


def _array(z: Tensor) -> NDArray[np.float64]:
    return z.detach().cpu().double().numpy()


def _seen(view: View, curve: Tensor) -> NDArray[np.float32]:
    """A curve, (*batch, n, d), as it is drawn, (*batch, n, 2)."""
    z = _array(curve)
    return view.points(z.reshape(-1, z.shape[-1])).reshape(*z.shape[:-1], 2).astype(np.float32)
