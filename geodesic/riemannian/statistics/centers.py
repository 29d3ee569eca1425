"""The search for a point that has the least weighted sum of distances, or of their squares, to others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.inverse import MetricInverse
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import inverse_at
from geodesic.riemannian.maps.discrete import first_momentum
from geodesic.riemannian.maps.flow import require_method
from geodesic.riemannian.maps.log_map import log_map
from geodesic.riemannian.outcome import Outcome
from geodesic.solvers.solve import solve

__all__ = ["Cloud", "Found", "Pairs", "Visit", "check_search", "find_center", "geodesics"]

_DECREASE = 1e-4  # Armijo's share of the slope
_CURVATURE = 1e-3  # of the slope, that a step must show to be worth remembering
_ROUNDING = 100  # times eps: relative changes of the objective that are none
_PATIENCE = 3  # shorter steps before the model of the objective is given up for a fresh one
_TRIES = 20  # before a row has stalled
_MARGIN, _SMOOTH = 1.01, 0.02  # of the test whether a point of the cloud is the median, from near by
_NEGLIGIBLE = 1e-8  # of the largest squared distance
_SOLVER_STEPS = 50  # from the paths of the last step; two or three are usual
_HALVINGS = 30  # to bring a step back into the chart


class Pairs(NamedTuple):
    """Geodesics of pairs, (*batch): squared distances, lengths, vectors, paths, and whether they are found.

    `squared` is what is minimised: twice the discrete energy, or the squared length where that is exact. `covector` is
    minus half its derivative in the first end.
    """

    squared: Float[Tensor, "*batch"]
    length: Float[Tensor, "*batch"]
    covector: Float[Tensor, "*batch d"]
    path: Float[Tensor, "*batch nodes d"]
    found: Bool[Tensor, "*batch"]


class Visit(NamedTuple):
    """What a point sees of the others: for R rows of N points each."""

    value: Float[Tensor, " R"]
    gradient: Float[Tensor, "R d"]
    size: Float[Tensor, " R"]  # of the gradient, as a number without unit
    squared: Float[Tensor, "R N"]
    length: Float[Tensor, "R N"]
    pull: Float[Tensor, "R N d"]  # weighted covectors of which the gradient is minus the sum
    path: Float[Tensor, "R N nodes d"]
    found: Bool[Tensor, " R"]


class Found(NamedTuple):
    """Where a search ended, and what is seen from there."""

    point: Float[Tensor, "R d"]
    visit: Visit
    status: Int[Tensor, " R"]
    steps: Int[Tensor, " R"]


def check_search(search: dict[str, Any], method: Any) -> None:
    """Refuse keywords that `solve` has and that have no meaning here, with the reason."""
    require_method(method)
    others = {
        "init": "paths for where its paths begin",
        "points": "graph_points for the points of a graph",
        "length_rtol": "segments, which stay the same while the point moves",
        "callback": "none",
    }
    for name in search:
        if name not in ("solver", "segments", "memory"):
            remedy = f"; here it is {others[name]}" if name in others else ""
            raise InputError(f"{name}: expected of the keywords of `solve` solver, segments or memory{remedy}")


def geodesics(
    manifold: Manifold,
    start: Float[Tensor, "P d"],
    end: Float[Tensor, "P d"],
    *,
    init: Any,
    method: str,
    tol: float,
    rtol: float | None,
    search: dict[str, Any],
) -> Pairs:
    """Geodesics between rows of points, by `solve` and, for "ode", `log_map`."""
    shape = (len(start), *(manifold.latent_shape or start.shape[1:]))
    a, b = start.reshape(shape), end.reshape(shape)
    if isinstance(init, Tensor):
        init = init.reshape(len(start), -1, *shape[1:])
        search = {**search, "max_steps": _SOLVER_STEPS}
    solution = solve(manifold, a, b, init=init, tol=tol, **search)
    path = solution.path.reshape(len(start), -1, start.shape[1])
    if method == "discrete":
        p = first_momentum(manifold, path)
        return Pairs(2 * solution.energy, solution.length, p, path, solution.converged)
    there = log_map(manifold, a, b, method="ode", rtol=rtol, solution=solution)
    factor = inverse_at(manifold, start).factor
    p = (factor @ (factor.mT @ there.vector.reshape(*start.shape, 1)))[..., 0]
    return Pairs(there.length**2, there.length, p, there.path.reshape(path.shape), there.converged)


@dataclass(frozen=True)
class Cloud:
    """R rows of N weighted points each, and how to see them from a point.

    F(m) = 1/2 sum w_i d(m, x_i)^2   or, for power 1,   F(m) = sum w_i d(m, x_i)

    Args:
        manifold: Where they lie.
        points: x, (R, N, d).
        weights: w, (R, N), of sum 1. Points of weight zero are not looked at.
        power: 2 or 1.
        method: "discrete" or "ode".
        tol: Relative excess energy of the paths.
        rtol: Of the integration, for "ode".
        first: Where paths begin that nothing is known of, a keyword of `solve`, with the points for a graph.
        graph_points: Those points.
        search: Keywords of `solve`.
    """

    manifold: Manifold
    points: Float[Tensor, "R N d"]
    weights: Float[Tensor, "R N"]
    power: int
    method: str
    tol: float
    rtol: float | None
    first: str
    graph_points: Tensor | None
    search: dict[str, Any]

    def of(self, rows: Tensor) -> Cloud:
        """Some of the rows."""
        return replace(self, points=self.points[rows], weights=self.weights[rows])

    def visit(self, m: Float[Tensor, "R d"], path: Tensor | None = None) -> Visit:
        """Find the geodesics from points m, (R, d), beginning from paths that lead there, (R, N, T + 1, d), if any."""
        w = self.weights
        pairs = self._seen(m, w > 0, path)
        # Next to a point the chords are rounding, which no solver improves, and which says nothing at this scale.
        negligible = pairs.squared <= _NEGLIGIBLE * pairs.squared.amax(-1, keepdim=True)
        found = pairs.found | (w == 0) | negligible
        if self.power == 2:
            value = (w * pairs.squared).sum(-1) / 2
            pull = w[..., None] * pairs.covector
        else:
            d = pairs.squared.sqrt()
            value = (w * d).sum(-1)
            pull = (w / torch.where(d > 0, d, torch.inf))[..., None] * pairs.covector
        inverse = inverse_at(self.manifold, m)
        gradient = -pull.sum(1)
        size = _size(inverse, gradient)
        if self.power == 2:
            spread_of_all = (2 * value).sqrt()
            size = torch.where(spread_of_all > 0, size / spread_of_all, 0)
        else:
            # At a point of the cloud the unit ball of its weight is subtracted: what is left is the least subgradient.
            here = (w * (pairs.squared == 0)).sum(-1)
            share = (1 - here / size.clamp_min(torch.finfo(w.dtype).tiny)).clamp_min(0)
            gradient, size = share[:, None] * gradient, share * size
        return Visit(value, gradient, size, pairs.squared, pairs.length, pull, pairs.path, found.all(-1))

    def completed(self, m: Float[Tensor, "R d"], visit: Visit) -> Visit:
        """The same with distances and paths to the points of weight zero."""
        missing = self.weights == 0
        if not bool(missing.any()):
            return visit
        others = self._seen(m, missing, None)
        return visit._replace(
            squared=visit.squared + others.squared,
            length=visit.length + others.length,
            path=visit.path + others.path,
        )

    def _seen(self, m: Float[Tensor, "R d"], seen: Bool[Tensor, "R N"], path: Tensor | None) -> Pairs:
        """The geodesics to some of the points, with leading axes (R, N), zero for the others."""
        search = self.search
        if path is None and self.graph_points is not None:
            search = {**search, "points": self.graph_points}
        pairs = geodesics(
            self.manifold,
            m[:, None].expand(self.points.shape)[seen],
            self.points[seen],
            init=self.first if path is None else path[seen],
            method=self.method,
            tol=self.tol,
            rtol=self.rtol,
            search=search,
        )
        zeros = (x.new_zeros(*seen.shape, *x.shape[1:]) for x in pairs)
        return Pairs(*(zero.index_put((seen,), x) for zero, x in zip(zeros, pairs, strict=True)))

    def only_points(self, m: Float[Tensor, "R d"]) -> Float[Tensor, "R d"]:
        """The points m, or where there is but one point in a row, this: a search would only come near to it."""
        first = self.weights.argmax(-1)
        point = self.points[torch.arange(len(m), device=m.device), first]
        alone = ((self.points == point[:, None]).all(-1) | (self.weights == 0)).all(-1)
        return torch.where(alone[:, None], point, m)

    def touches(self, visit: Visit) -> Bool[Tensor, " R"]:
        """Whether it was made from one of the points itself."""
        return ((visit.squared == 0) & (self.weights > 0)).any(-1)

    def inverse_hessian(self, m: Float[Tensor, "R d"], visit: Visit) -> Float[Tensor, "R d d"]:
        """What it is on a flat manifold, or for power 1 its majorant: G^{-1} / sum w, G^{-1} / sum (w / d)."""
        inverse = inverse_at(self.manifold, m)
        eye = torch.eye(m.shape[-1], dtype=m.dtype, device=m.device)
        H = inverse(eye.expand(len(m), -1, -1))
        if self.power == 2:
            return H
        d = visit.squared.sqrt()
        near = (self.weights / torch.where(d > 0, d, torch.inf)).sum(-1)
        return H / torch.where(near > 0, near, 1)[:, None, None]


def find_center(
    cloud: Cloud, start: Float[Tensor, "R d"], tol: float, max_steps: int, path: Tensor | None = None
) -> Found:
    """Minimise F from points m, (R, d), for all rows at once: BFGS in the chart, with a step halved until F falls.

    m <- m - t H dF,   H = G(m)^{-1} at first

    The first step is the gradient step of the textbooks, m + sum w_i log_m(x_i), and Weiszfeld's for power 1; the
    updates of H learn what curvature adds. One call of `visit` for each step, of the rows that are still searching;
    paths come along linearly.
    """
    m, R = cloud.only_points(start), len(start)
    now = cloud.visit(m, None if path is None else _moved(path, cloud.points, m))
    H = cloud.inverse_hessian(m, now)
    learned = torch.zeros(R, dtype=torch.bool, device=m.device)  # whether H knows more than the metric
    tried = torch.zeros_like(cloud.weights, dtype=torch.bool)  # points that were jumped to, for power 1
    share = torch.ones_like(m[:, 0])
    steps, tries, running = torch.zeros(3, R, dtype=torch.long, device=m.device)
    status = torch.where(now.value.isfinite() & now.size.isfinite(), running, Outcome.NOT_FINITE)
    noise = _ROUNDING * torch.finfo(m.dtype).eps + cloud.tol
    for step_number in range(max_steps + 1):
        reached = torch.where(now.found, Outcome.CONVERGED, Outcome.NO_GEODESIC)
        status = torch.where((status == running) & (now.size <= tol), reached, status)
        (i,) = (status == running).nonzero(as_tuple=True)
        if step_number == max_steps:
            status[i] = Outcome.MAX_STEPS
        if not len(i) or step_number == max_steps:
            break
        part, here = cloud.of(i), Visit(*(x[i] for x in now))
        step = -(H[i] @ here.gradient[..., None])[..., 0]
        slope = torch.linalg.vecdot(step, here.gradient)
        t = _inside(cloud.manifold, m[i], step, share[i])
        trial = m[i] + t[:, None] * step
        jump = torch.zeros_like(learned[i])
        if cloud.power == 1:
            jump, nearest = _worth_a_jump(part, m[i], here, tried[i])
            trial = torch.where(jump[:, None], part.points[torch.arange(len(i), device=i.device), nearest], trial)
            tried[i[jump], nearest[jump]] = True
        there = part.visit(trial, _moved(here.path, part.points, trial))

        fall = there.value - here.value
        # Within rounding the values say nothing, and the gradient decides.
        flat = (fall <= noise * here.value) & (there.size < here.size)
        better = torch.where(jump, fall < 0, (fall <= _DECREASE * t * slope) | flat)
        better &= there.value.isfinite() & there.size.isfinite()
        s, y = trial - m[i], there.gradient - here.gradient
        bend = torch.linalg.vecdot(s, y)
        # A point of the cloud itself has no gradient for power 1.
        smooth = torch.ones_like(jump) if cloud.power == 2 else ~(part.touches(here) | part.touches(there))
        useful = better & ~jump & smooth & (bend > -_CURVATURE * t * slope)
        k = i[better]
        m[k] = trial[better]
        now = Visit(*(old.index_put((k,), new[better]) for old, new in zip(now, there, strict=True)))
        steps[i] += 1
        tries[i] = torch.where(better, 0, tries[i] + (~jump).long())
        reset = torch.where(better, jump | ~learned[i], learned[i] & (tries[i] == _PATIENCE))
        fresh = part.inverse_hessian(m[i], Visit(*(x[i] for x in now)))
        kept = torch.where(reset[:, None, None], fresh, H[i])
        H[i] = torch.where(useful[:, None, None], _updated(H[i], s, y, bend), kept)
        learned[i] = useful | (learned[i] & ~reset)
        # The minimum of the parabola through what is known; a jump says nothing about the step.
        shorter = (-slope * t / (2 * (fall - t * slope))).nan_to_num(nan=0.25).clamp(0.1, 0.5)
        shorter = torch.where(jump, share[i], t * shorter)
        share[i] = torch.where(better | reset, 1, shorter)
        stuck = (tries[i] > _TRIES) | (~jump & (s == 0).all(-1))
        status[i] = torch.where(stuck & ~better, Outcome.STALLED, status[i])
    return Found(m, now, status, steps)


def _size(inverse: MetricInverse, covector: Float[Tensor, "R d"]) -> Float[Tensor, " R"]:
    return torch.linalg.vecdot(covector, inverse(covector)).clamp_min(0).sqrt()


def _updated(
    H: Float[Tensor, "R d d"], s: Float[Tensor, "R d"], y: Float[Tensor, "R d"], bend: Float[Tensor, " R"]
) -> Float[Tensor, "R d d"]:
    """Broyden, Fletcher, Goldfarb, Shanno: the nearest H with H y = s. Rows with s^T y = 0 are not to be used."""
    bend = torch.where(bend != 0, bend, 1)[:, None, None]
    s, y = s[..., None], y[..., None]
    V = torch.eye(H.shape[-1], dtype=H.dtype, device=H.device) - s @ y.mT / bend
    return V @ H @ V.mT + s @ s.mT / bend


def _inside(
    manifold: Manifold, m: Float[Tensor, "R d"], step: Float[Tensor, "R d"], share: Float[Tensor, " R"]
) -> Float[Tensor, " R"]:
    """The share of the step, halved until its end lies where the manifold has a metric."""
    share = share.clone()
    for _ in range(_HALVINGS):
        with torch.no_grad():
            lost = ~inverse_at(manifold, m + share[:, None] * step).regular
        if not bool(lost.any()):
            break
        share[lost] /= 2
    return torch.where(lost, 0, share)


def _moved(
    path: Float[Tensor, "R N nodes d"], points: Float[Tensor, "R N d"], m: Float[Tensor, "R d"]
) -> Float[Tensor, "R N nodes d"]:
    """The paths with their first node at m, the others in proportion, and the last exactly where it was."""
    T = path.shape[2] - 1
    t = torch.linspace(0, 1, T + 1, dtype=path.dtype, device=path.device)[:, None]
    start = m[:, None, None].expand_as(path[:, :, :1])
    end = points[:, :, None]
    path = path + (1 - t) * (start - path[:, :, :1])
    path = torch.where((start == end).all(-1, keepdim=True), end, path)
    return torch.cat([start, path[:, :, 1:-1], end], dim=2)


def _worth_a_jump(
    cloud: Cloud, m: Float[Tensor, "R d"], visit: Visit, tried: Bool[Tensor, "R N"]
) -> tuple[Bool[Tensor, " R"], Int[Tensor, " R"]]:
    """Whether the nearest point, of each row, could be the median: where the others pull less than it holds.

    Y. Vardi, C.-H. Zhang, The multivariate L1-median and associated data depth, 2000. Tested from near by; at the point
    itself it is the size of the subgradient that decides. Where the gradient nearly vanishes the median is smooth, and
    the nearest point pulls as much as all others without being it.
    """
    nearest = torch.where(cloud.weights > 0, visit.squared, torch.inf).argmin(-1)
    rows = torch.arange(len(m), device=m.device)
    weight = cloud.weights[rows, nearest]
    others = visit.pull.sum(1) - visit.pull[rows, nearest]
    rest = _size(inverse_at(cloud.manifold, m), others)
    held = (rest <= _MARGIN * weight) & (visit.size >= _SMOOTH * weight)
    return held & ~tried[rows, nearest] & ~cloud.touches(visit), nearest
