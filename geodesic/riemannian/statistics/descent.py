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
from geodesic.riemannian.statistics.relaxation import Quadratic
from geodesic.solvers.doubts import of_all
from geodesic.solvers.status import Status

__all__ = ["Descent", "Found", "begun", "finished", "improved"]

_CURVATURE = 1e-3  # of the slope, that a step must show to be worth remembering
_VAGUE = 0.3  # of the gradient, by how much it may be wrong before a step is made of it
_ROUNDING = 100  # times eps: relative changes of the objective that are none
_PATIENCE = 3  # shorter steps before the model of the objective is given up for a fresh one
_TRIES = 20  # before a row has stalled
_MARGIN, _SMOOTH = 1.01, 0.02  # of the test whether a point of the cloud is the median, from near by
_HALVINGS = 30  # to bring a step back into the chart
_KEPT, _BROKEN = 0.7, 0.3  # parts of a fall as promised: above, steps may be longer; below, they were too long


@dataclass(frozen=True)
class Found(Record):
    """Where a search ended, and what is seen from there. The status of a row that is still searched is `RUNNING`."""

    point: Float[Tensor, "R d"]
    visit: Visit
    status: Int[Tensor, " R"]
    iterations: Int[Tensor, " R"]


@dataclass(frozen=True)
class Descent(Record):
    """Where R searches are, and what they have learned.

    Attributes:
        found: So far.
        known: Relative excess energy that the geodesics may have.
        limit: The most iterations.
        H: The model of the inverse Hessian.
        formed: Whether there is one.
        learned: Whether it knows more than was formed.
        share: How much of the next step to take.
        radius: How far it may lead at most, as a share of the spread of the points, by the model.
        tries: Steps since the last one that brought anything.
        tried: Points that were jumped to, for power 1.
        spent: Steps of a geodesic, on average, since `quadratic` was formed.
        quadratic: Energies of the geodesics to second order.
    """

    found: Found
    known: Float[Tensor, " R"]
    limit: Int[Tensor, " R"]
    H: Float[Tensor, "R d d"]
    formed: Bool[Tensor, " R"]
    learned: Bool[Tensor, " R"]
    share: Float[Tensor, " R"]
    radius: Float[Tensor, " R"]
    tries: Int[Tensor, " R"]
    tried: Bool[Tensor, "R N"]
    spent: Float[Tensor, " R"]
    quadratic: Quadratic | None

    @property
    def running(self) -> Int[Tensor, " n"]:
        """The numbers of the rows that are still searched."""
        (rows,) = (self.found.status == Status.RUNNING).nonzero(as_tuple=True)
        return rows

    def resumed(self) -> Descent:
        """With the rows that ended well running again: to a smaller gradient, or with certified geodesics."""
        return self.ended(self.found.status == Status.CONVERGED, Status.RUNNING)

    def ended(self, rows: Bool[Tensor, " R"], status: Tensor | int) -> Descent:
        """With a status for some rows, those of a mask."""
        found = self.found
        return replace(self, found=replace(found, status=torch.where(rows, status, found.status)))


@dataclass(frozen=True)
class _Trial(Record):
    """A step of each row: the share of the quasi-Newton step and its slope, or a jump to the nearest point.

    `tol` is the relative excess energy that its geodesics may have.
    """

    point: Float[Tensor, "R d"]
    visit: Visit
    share: Float[Tensor, " R"]
    slope: Float[Tensor, " R"]
    jump: Bool[Tensor, " R"]
    tried: Bool[Tensor, "R N"]
    tol: Float[Tensor, " R"]


def begun(cloud: Cloud, start: Float[Tensor, "R d"], path: Tensor | None = None) -> Descent:
    """The search before its first step, from points m, and from paths that lead to the points of the cloud, if any."""
    m = cloud.only_points(start)
    if path is None:
        visit, known = cloud.found(m), torch.full_like(m[:, 0], cloud.geodesics.rough_tol(m.dtype))
    else:
        known = torch.full_like(m[:, 0], torch.inf)
        visit = cloud.kept(m, _moved(path, m), None, known)
    none = torch.zeros_like(m[:, 0], dtype=torch.long)
    usable = visit.value.isfinite() & visit.size.isfinite()
    return Descent(
        found=Found(m, visit, torch.where(usable, Status.RUNNING, Status.CUT_SHORT), none),
        known=known,
        limit=none + cloud.geodesics.max_iterations,
        H=m.new_zeros(*m.shape, m.shape[1]),
        formed=torch.zeros_like(usable),
        learned=torch.zeros_like(usable),
        share=torch.ones_like(m[:, 0]),
        radius=torch.full_like(m[:, 0], torch.inf),
        tries=none,
        tried=torch.zeros_like(cloud.weights, dtype=torch.bool),
        spent=torch.zeros_like(m[:, 0]),
        quadratic=None,
    )


def improved(cloud: Cloud, now: Descent, tol: float) -> Descent:
    """Minimize F for all rows at once, until gradients are at most `tol`: BFGS, with a step shortened until F falls.

    m <- m - t H dF,   H = Hess(F)^{-1} or G(m)^{-1} at first

    With G^{-1} the first step is the gradient step of the textbooks, m + sum w_i log_m(x_i), and Weiszfeld's for power
    1; the updates of H learn what curvature adds. In each step the geodesics of the rows that are still searched are
    kept near, all at once: paths come along linearly, and are then improved as far as the gradient needs it. Rows
    that end here have converged if their geodesics have, see `finished`.
    """
    while True:
        now = _ended(now, tol)
        rows = now.running
        if not len(rows):
            return now
        now = _formed(cloud, now)
        (vague,) = _vague(cloud, now.of(rows)).nonzero(as_tuple=True)
        if len(vague):
            rows = rows[vague]
            now = now.replaced(rows, _refined(cloud.of(rows), now.of(rows)))
        else:
            part, here = cloud.of(rows), now.of(rows)
            now = now.replaced(rows, _after(part, here, _trial(part, here)))


def finished(cloud: Cloud, now: Descent) -> Descent:
    """The search to its end, with geodesics that are certified; from there on again where these say otherwise."""
    tol = cloud.geodesics.tol
    while True:
        now = _certified(cloud, improved(cloud, now, tol), tol)
        if not len(now.running):
            return now


def _ended(now: Descent, tol: float) -> Descent:
    """With the status of the rows whose gradient has become small enough, or that have no step left."""
    visit, running = now.found.visit, now.found.status == Status.RUNNING
    there = running & (visit.size <= tol)
    now = now.ended(there, torch.where(visit.certified, of_all(visit.doubts), Status.CONVERGED))
    return now.ended(running & ~there & (now.found.iterations >= now.limit), Status.MAX_ITERATIONS)


def _certified(cloud: Cloud, now: Descent, tol: float) -> Descent:
    """With certified geodesics; rows run again whose gradient is larger by these, where all of them were found."""
    (rows,) = (~now.found.visit.certified).nonzero(as_tuple=True)
    if not len(rows):
        return now
    found = now.found.of(rows)
    visit = cloud.of(rows).certified(found.point, found.visit.path)
    reached = of_all(visit.doubts)
    again = (visit.size > tol) & (reached == Status.CONVERGED)
    ended = torch.where(again, Status.RUNNING, reached)
    status = torch.where(found.status == Status.CONVERGED, ended, found.status)
    return replace(now, found=now.found.replaced(rows, replace(found, visit=visit, status=status)))


def _formed(cloud: Cloud, now: Descent) -> Descent:
    """With a model of the inverse Hessian, and what it is made from, for rows that have none and need one."""
    wanted = (now.found.status == Status.RUNNING) & ~now.formed
    if not wanted.any():
        return now
    found = now.found
    pairs = wanted[:, None].expand(cloud.weights.shape)
    quadratic = cloud.quadratic(found.visit.path, pairs, now.quadratic)
    H = cloud.inverse_hessian(found.point, found.visit, quadratic)
    return replace(now, H=torch.where(wanted[:, None, None], H, now.H), formed=now.formed | wanted, quadratic=quadratic)


def _vague(cloud: Cloud, now: Descent) -> Bool[Tensor, " R"]:
    """Where geodesics are not exact enough for a step, and can be more so."""
    needed = (_VAGUE * now.found.visit.size).square()
    return now.known > needed.clamp_min(cloud.geodesics.path_tol(needed.dtype))


def _refined(cloud: Cloud, now: Descent) -> Descent:
    """With geodesics from the same points that are as exact as the gradient needs them."""
    found, known = now.found, cloud.geodesics.path_tol_near(now.found.visit.size)
    visit = cloud.kept(found.point, found.visit.path, now.quadratic, known)
    return replace(now, found=replace(found, visit=visit), known=known)


def _trial(cloud: Cloud, now: Descent) -> _Trial:
    m, visit = now.found.point, now.found.visit
    step = -(now.H @ visit.gradient[..., None])[..., 0]
    slope = torch.linalg.vecdot(step, visit.gradient)
    t = torch.minimum(now.share, now.radius / _stretch(cloud, visit, slope))
    t = _inside(cloud.geodesics.manifold, m, step, t)
    point = m + t[:, None] * step
    jump, tried = torch.zeros_like(now.learned), now.tried
    if cloud.power == 1:
        jump, nearest = _worth_a_jump(cloud, m, visit, now.tried)
        rows = torch.arange(len(m), device=m.device)
        point = torch.where(jump[:, None], cloud.points[rows, nearest], point)
        tried = tried.index_put((rows, nearest), tried[rows, nearest] | jump)
    tol = cloud.geodesics.path_tol_near(visit.size)
    there = cloud.kept(point, _moved(visit.path, point), now.quadratic, tol)
    return _Trial(point, there, t, slope, jump, tried, tol)


def _after(cloud: Cloud, now: Descent, trial: _Trial) -> Descent:
    """Take the steps that brought F down, learn from them, and shorten the others."""
    found, here, there, jump = now.found, now.found.visit, trial.visit, trial.jump
    predicted = trial.share * trial.slope
    fall = there.value - here.value
    better = _better(here, trial, fall, predicted)
    s, y = trial.point - found.point, there.gradient - here.gradient
    bend = torch.linalg.vecdot(s, y)
    # A point of the cloud itself has no gradient for power 1.
    smooth = torch.ones_like(jump) if cloud.power == 2 else ~(cloud.touches(here) | cloud.touches(there))
    useful = better & ~jump & smooth & (bend > -_CURVATURE * predicted)

    (taken,) = better.nonzero(as_tuple=True)
    point, visit = torch.where(better[:, None], trial.point, found.point), here.replaced(taken, there.of(taken))
    tries = torch.where(better, 0, now.tries + (~jump).long())
    reset = torch.where(better, jump | ~now.learned, now.learned & (tries == _PATIENCE))
    quadratic, kept = now.quadratic, now.H
    spent = now.spent + there.steps.to(point).sum(-1) / (cloud.weights > 0).sum(-1)
    slow = better & (spent > 1 + point.shape[-1])  # as much as new Hessians cost
    if quadratic is not None:
        quadratic = cloud.quadratic(visit.path, slow[:, None].expand(now.tried.shape), quadratic)
    if reset.any() or slow.any():
        kept = torch.where((reset | slow)[:, None, None], cloud.inverse_hessian(point, visit, quadratic), kept)
    # A jump says nothing about the step.
    shorter = torch.where(jump, now.share, least_of_parabola(trial.share, -trial.slope, fall))
    stuck = ~better & ((tries > _TRIES) | (~jump & (s == 0).all(-1)))
    return replace(
        now,
        found=Found(point, visit, torch.where(stuck, Status.NO_NEARER, found.status), found.iterations + 1),
        H=torch.where((useful & ~slow)[:, None, None], _updated(now.H, s, y, bend), kept),
        learned=useful | (now.learned & ~reset),
        known=torch.where(better, trial.tol, now.known),
        share=torch.where(better | reset, 1, shorter),
        radius=torch.where(jump, now.radius, _radius(cloud, now, trial, fall / predicted)),
        tries=tries,
        tried=trial.tried,
        spent=torch.where(slow, 0, spent),
        quadratic=quadratic,
    )


def _stretch(cloud: Cloud, visit: Visit, slope: Float[Tensor, " R"]) -> Float[Tensor, " R"]:
    """How far a full step leads, as a share of the spread of the points: by the model, whose Hessian is about G."""
    return (-slope / (cloud.power * visit.value)).clamp_min(0).sqrt()


def _radius(cloud: Cloud, now: Descent, trial: _Trial, ratio: Float[Tensor, " R"]) -> Float[Tensor, " R"]:
    """Smaller where F fell by much less than the model promised, larger where it kept its promise at the radius."""
    reached = trial.share * _stretch(cloud, now.found.visit, trial.slope)
    kept = ratio / (1 - trial.share / 2)  # of the fall of a parabola
    wider = torch.where((kept > _KEPT) & (reached > 0.9 * now.radius), 2 * now.radius, now.radius)
    return torch.where(kept < _BROKEN, torch.minimum(now.radius, reached / 2), wider)


def _better(here: Visit, trial: _Trial, fall: Tensor, predicted: Tensor) -> Bool[Tensor, " R"]:
    """Whether a step brought F down far enough."""
    there = trial.visit
    # Within rounding the values say nothing, and the gradient decides.
    noise = _ROUNDING * torch.finfo(fall.dtype).eps + trial.tol
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
