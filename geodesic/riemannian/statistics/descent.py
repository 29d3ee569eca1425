"""The search for a point that has the least weighted sum of distances, or of their squares, to others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import inverse_at
from geodesic.numerics.line_search import SUFFICIENT_DECREASE, Trial, backtrack, least_of_parabola
from geodesic.riemannian.records import Record
from geodesic.riemannian.statistics.cloud import Cloud, Visit, covector_norm
from geodesic.solvers.doubts import of_all
from geodesic.solvers.status import Status

__all__ = ["Found", "find_center"]

_CURVATURE = 1e-3  # of the slope, that a step must show to be worth remembering
_ROUNDING = 100  # times eps: relative changes of the objective that are none
_PATIENCE = 3  # shorter steps before the model of the objective is given up for a fresh one
_TRIES = 20  # before a row has stalled
_MARGIN, _SMOOTH = 1.01, 0.02  # of the test whether a point of the cloud is the median, from near by
_HALVINGS = 30  # to bring a step back into the chart
_RUNNING = 0  # the status of a row that is still searched, which is no `Status`


@dataclass(frozen=True)
class Found(Record):
    """Where a search ended, and what is seen from there."""

    point: Float[Tensor, "R d"]
    visit: Visit
    status: Int[Tensor, " R"]
    iterations: Int[Tensor, " R"]


@dataclass(frozen=True)
class _Search(Record):
    """Where R searches are, and what they have learned.

    Attributes:
        found: So far.
        H: The model of the inverse Hessian.
        learned: Whether it knows more than the metric.
        share: How much of the next step to take.
        tries: Steps since the last one that brought anything.
        tried: Points that were jumped to, for power 1.
    """

    found: Found
    H: Float[Tensor, "R d d"]
    learned: Bool[Tensor, " R"]
    share: Float[Tensor, " R"]
    tries: Int[Tensor, " R"]
    tried: Bool[Tensor, "R N"]


@dataclass(frozen=True)
class _Trial(Record):
    """A step of each row: the share of the quasi-Newton step and its slope, or a jump to the nearest point."""

    point: Float[Tensor, "R d"]
    visit: Visit
    share: Float[Tensor, " R"]
    slope: Float[Tensor, " R"]
    jump: Bool[Tensor, " R"]
    tried: Bool[Tensor, "R N"]


def find_center(cloud: Cloud, start: Float[Tensor, "R d"], path: Tensor | None = None) -> Found:
    """Minimize F from points m, (R, d), for all rows at once: BFGS in the chart, with a step shortened until F falls.

    m <- m - t H dF,   H = G(m)^{-1} at first

    The first step is the gradient step of the textbooks, m + sum w_i log_m(x_i), and Weiszfeld's for power 1; the
    updates of H learn what curvature adds. One call of `visit` for each step, of the rows that are still searching;
    paths come along linearly.
    """
    now = _begun(cloud, start, path)
    for _ in range(cloud.geodesics.max_iterations):
        now = _ended(now, cloud.geodesics.tol)
        (rows,) = (now.found.status == _RUNNING).nonzero(as_tuple=True)
        if not len(rows):
            return now.found
        part, here = cloud.of(rows), now.of(rows)
        now = now.replaced(rows, _after(part, here, _trial(part, here)))
    found = _ended(now, cloud.geodesics.tol).found
    return replace(found, status=torch.where(found.status == _RUNNING, Status.MAX_ITERATIONS, found.status))


def _begun(cloud: Cloud, start: Float[Tensor, "R d"], path: Tensor | None) -> _Search:
    m = cloud.only_points(start)
    visit = cloud.visit(m, None if path is None else _moved(path, m))
    none = torch.zeros_like(m[:, 0], dtype=torch.long)
    status = torch.where(visit.value.isfinite() & visit.size.isfinite(), _RUNNING, Status.CUT_SHORT)
    return _Search(
        found=Found(m, visit, status, none),
        H=cloud.inverse_hessian(m, visit),
        learned=torch.zeros_like(none, dtype=torch.bool),
        share=torch.ones_like(m[:, 0]),
        tries=none,
        tried=torch.zeros_like(cloud.weights, dtype=torch.bool),
    )


def _ended(search: _Search, tol: float) -> _Search:
    """With the status of the rows whose gradient has become small enough."""
    found = search.found
    reached = of_all(found.visit.doubts)
    there = (found.status == _RUNNING) & (found.visit.size <= tol)
    return replace(search, found=replace(found, status=torch.where(there, reached, found.status)))


def _trial(cloud: Cloud, now: _Search) -> _Trial:
    m, visit = now.found.point, now.found.visit
    step = -(now.H @ visit.gradient[..., None])[..., 0]
    slope = torch.linalg.vecdot(step, visit.gradient)
    t = _inside(cloud.geodesics.manifold, m, step, now.share)
    point = m + t[:, None] * step
    jump, tried = torch.zeros_like(now.learned), now.tried
    if cloud.power == 1:
        jump, nearest = _worth_a_jump(cloud, m, visit, now.tried)
        rows = torch.arange(len(m), device=m.device)
        point = torch.where(jump[:, None], cloud.points[rows, nearest], point)
        tried = tried.index_put((rows, nearest), tried[rows, nearest] | jump)
    return _Trial(point, cloud.visit(point, _moved(visit.path, point)), t, slope, jump, tried)


def _after(cloud: Cloud, now: _Search, trial: _Trial) -> _Search:
    """Take the steps that brought F down, learn from them, and shorten the others."""
    found, here, there, jump = now.found, now.found.visit, trial.visit, trial.jump
    predicted = trial.share * trial.slope
    better = _better(cloud, here, trial, there.value - here.value, predicted)
    s, y = trial.point - found.point, there.gradient - here.gradient
    bend = torch.linalg.vecdot(s, y)
    # A point of the cloud itself has no gradient for power 1.
    smooth = torch.ones_like(jump) if cloud.power == 2 else ~(cloud.touches(here) | cloud.touches(there))
    useful = better & ~jump & smooth & (bend > -_CURVATURE * predicted)

    (taken,) = better.nonzero(as_tuple=True)
    point, visit = torch.where(better[:, None], trial.point, found.point), here.replaced(taken, there.of(taken))
    tries = torch.where(better, 0, now.tries + (~jump).long())
    reset = torch.where(better, jump | ~now.learned, now.learned & (tries == _PATIENCE))
    kept = torch.where(reset[:, None, None], cloud.inverse_hessian(point, visit), now.H)
    # A jump says nothing about the step.
    shorter = torch.where(jump, now.share, least_of_parabola(trial.share, -trial.slope, there.value - here.value))
    stuck = ~better & ((tries > _TRIES) | (~jump & (s == 0).all(-1)))
    return _Search(
        found=Found(point, visit, torch.where(stuck, Status.NO_NEARER, found.status), found.iterations + 1),
        H=torch.where(useful[:, None, None], _updated(now.H, s, y, bend), kept),
        learned=useful | (now.learned & ~reset),
        share=torch.where(better | reset, 1, shorter),
        tries=tries,
        tried=trial.tried,
    )


def _better(cloud: Cloud, here: Visit, trial: _Trial, fall: Tensor, predicted: Tensor) -> Bool[Tensor, " R"]:
    """Whether a step brought F down far enough."""
    there = trial.visit
    # Within rounding the values say nothing, and the gradient decides.
    noise = _ROUNDING * torch.finfo(fall.dtype).eps + cloud.geodesics.path_tol(fall.dtype)
    flat = (fall <= noise * here.value) & (there.size < here.size)
    better = torch.where(trial.jump, fall < 0, (fall <= SUFFICIENT_DECREASE * predicted) | flat)
    return better & there.value.isfinite() & there.size.isfinite()


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
    """The share of the step, halved until its end lies where the manifold has a metric; 0 where it never does."""

    def trial(rows: Tensor, part: Tensor) -> Trial:
        with torch.no_grad():
            regular = inverse_at(manifold, m[rows] + part[:, None] * step[rows], on_range=True).regular
        return Trial(regular, tuple, part / 2)

    found = backtrack(trial, (), share, max_trials=_HALVINGS)
    return torch.where(found.failed, 0, found.step)


def _moved(path: Float[Tensor, "R N nodes d"], m: Float[Tensor, "R d"]) -> Float[Tensor, "R N nodes d"]:
    """The paths with their first node at m, the others in proportion, and the last exactly where it was."""
    T = path.shape[2] - 1
    t = torch.linspace(0, 1, T + 1, dtype=path.dtype, device=path.device)[:, None]
    start = m[:, None, None].expand_as(path[:, :, :1])
    end = path[:, :, -1:]
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
    rest = covector_norm(inverse_at(cloud.geodesics.manifold, m, on_range=True), others)
    held = (rest <= _MARGIN * weight) & (visit.size >= _SMOOTH * weight)
    return held & ~tried[rows, nearest] & ~cloud.touches(visit), nearest
