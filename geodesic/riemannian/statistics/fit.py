"""Geodesics through points at times: their distances from the points, and how these change with the geodesic."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.geometry.copies import to_nearest_copies
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.path import straight_path
from geodesic.geometry.period import unwrapped
from geodesic.geometry.points import inverse_at
from geodesic.riemannian.maps.follow import Follow
from geodesic.riemannian.maps.log_map import exact_enough, log_map
from geodesic.riemannian.maps.neighbors import exp_with_neighbors, varied
from geodesic.riemannian.maps.stride import Stride
from geodesic.riemannian.records import Record
from geodesic.riemannian.statistics.pairs import Geodesics
from geodesic.solvers.doubts import doubts_of
from geodesic.solvers.solve import find
from geodesic.solvers.status import Status

__all__ = ["Data", "Fit"]

_SHORT = 1e-4  # times the spread: a discrete logarithm is exact to 1e-8 / T^2 of itself, and shooting meets rounding


@dataclass(frozen=True)
class Fit(Record):
    """B geodesics with what belongs to them, for N points each.

    Attributes:
        point: Where they are at time 0.
        velocity: Their velocities there.
        predictions: Where they are at the times of the points.
        jacobian: Of the predictions in point and velocity, k = 2 d, in orthonormal frames.
        residual: log_prediction(y), in an orthonormal frame.
        squared: Squared distances of the points from the predictions.
        paths: Nodes of the geodesics from the predictions to the points.
        doubts: How these ended, see `doubts_of`.
    """

    point: Float[Tensor, "B d"]
    velocity: Float[Tensor, "B d"]
    predictions: Float[Tensor, "B N d"]
    jacobian: Float[Tensor, "B N d k"]
    residual: Float[Tensor, "B N d"]
    squared: Float[Tensor, "B N"]
    paths: Float[Tensor, "B N nodes d"]
    doubts: Int[Tensor, "B N"]

    @property
    def loss(self) -> Float[Tensor, " B"]:
        """The sum of squared distances."""
        return self.squared.sum(-1)


@dataclass(frozen=True)
class Data(Record):
    """The problem: points y, (B, N, d), at times x, (B, N), of mean 0 and variance 1.

    Attributes:
        stride: How geodesics are followed to the predictions.
        geodesics: How those from there to the points are found.
    """

    manifold: Manifold
    x: Float[Tensor, "B N"]
    y: Float[Tensor, "B N d"]
    stride: Stride
    geodesics: Geodesics

    def fit(
        self,
        p: Float[Tensor, "B d"],
        v: Float[Tensor, "B d"],
        before: Fit | None = None,
        size: Float[Tensor, " B"] | None = None,
    ) -> Fit:
        """Follow geodesics to the predictions, and find the geodesics from there to the points, without certificates.

        Args:
            p: Where they are at time 0.
            v: Their velocities there.
            before: A fit near by, whose geodesics to the points are kept near; they are looked for if None.
            size: The error of that fit, which says how exactly this is done.
        """
        B, N, d = self.y.shape
        start, pace = p[:, None].expand(B, N, d), self.x[..., None] * v[:, None]
        # Jacobi fields need no nodes on the way, discrete steps do.
        stride = self.stride if self.stride.method == "discrete" else replace(self.stride, segments=1)
        there = exp_with_neighbors(self.manifold, start.reshape(-1, d), pace.reshape(-1, d), stride)
        G, at_start = (inverse_at(self.manifold, z, on_range=True) for z in (there.path[:, -1], p))
        predictions = there.path[:, -1].reshape(B, N, d)
        usable = (there.reached & G.regular).reshape(B, N).all(1) & at_start.regular
        fit = self._unknown(p, v, predictions)
        (rows,) = usable.nonzero(as_tuple=True)
        if not len(rows):
            return fit
        some, E = self.of(rows), G.coframe.reshape(B, N, d, d)[rows]
        back = at_start.frame[rows, None]
        by_point, by_velocity = (
            E @ columns.reshape(B, N, d, d)[rows] @ back for columns in (there.by_point, there.by_velocity)
        )
        J = torch.cat([by_point, some.x[..., None, None] * by_velocity], dim=-1)
        known = None if before is None else before.of(rows)
        ways = some._ways(predictions[rows], known, None if size is None else size[rows])
        residual = (E @ ways.vector[..., None])[..., 0]
        known = Fit(p[rows], v[rows], predictions[rows], J, residual, ways.squared, ways.paths, ways.doubts)
        return fit.replaced(rows, known)

    def certified(self, fit: Fit) -> Fit:
        """The same fit with geodesics to the points that are as exact as an answer needs them."""
        B, N, d = self.y.shape
        E = inverse_at(self.manifold, fit.predictions.reshape(-1, d), on_range=True).coframe.reshape(B, N, d, d)
        ways = self._ways(fit.predictions, fit, None)
        residual = (E @ ways.vector[..., None])[..., 0]
        return replace(fit, residual=residual, squared=ways.squared, paths=ways.paths, doubts=ways.doubts)

    def varied(self, fit: Fit, step: Float[Tensor, "B k"], size: Float[Tensor, " B"]) -> Fit:
        """The fit after a change of point and velocity, given in an orthonormal frame; of the point alone if k = d."""
        d = self.y.shape[-1]
        step = torch.nan_to_num(torch.nn.functional.pad(step, (0, 2 * d - step.shape[-1])))
        F = inverse_at(self.manifold, fit.point, on_range=True).frame
        change, turn = ((F @ part[..., None])[..., 0] for part in step.split(d, dim=-1))
        p, v = varied(self.manifold, self.stride, fit.point, fit.velocity, change, turn)
        usable = (p.isfinite() & v.isfinite()).all(-1, keepdim=True)
        return self.fit(torch.where(usable, p, fit.point), torch.where(usable, v, fit.velocity), fit, size)

    def _unknown(self, p: Tensor, v: Tensor, predictions: Tensor) -> Fit:
        """A fit with infinite distances."""
        y, d = self.y, self.y.shape[-1]
        return Fit(
            point=p,
            velocity=v,
            predictions=predictions,
            jacobian=y.new_zeros(*y.shape, 2 * d),
            residual=torch.zeros_like(y),
            squared=torch.full_like(self.x, torch.inf),
            paths=y.new_zeros(*self.x.shape, self.stride.segments + 1, d),
            doubts=torch.full_like(self.x, Status.NO_GEODESIC, dtype=torch.long),
        )

    def _ways(self, z: Float[Tensor, "B N d"], before: Fit | None, size: Float[Tensor, " B"] | None) -> _Ways:
        """The geodesics from predictions z to the points.

        Looked for where nothing is known, kept near those of a fit of an error, and certified where that is None.
        """
        N, d = self.y.shape[1:]
        a, b = z.reshape(-1, d), self.y.reshape(-1, d)
        moved = None if before is None else to_nearest_copies(self.manifold, self._moved(a, before))
        if self.stride.method == "ode":
            return self._exactly(a, b, moved)
        # The discrete logarithm is the gradient of the discrete energy: with it as the squared distance nothing of
        # order 1/T^2 stands between the loss and its gradient.
        if moved is None:
            pairs = self.geodesics.between(a, b, roughly=True)
        elif size is None:
            pairs = self.geodesics.between(a, b, moved)
        else:
            pairs = self.geodesics.near(moved, None, self.geodesics.path_tol_near(size).repeat_interleave(N))
        vector = inverse_at(self.manifold, a, on_range=True)(pairs.covector)
        vector = torch.where((a == b).all(-1, keepdim=True), 0, vector)
        return self._shaped(vector, pairs.squared, pairs.path, pairs.doubts)

    def _exactly(self, a: Float[Tensor, "P d"], b: Float[Tensor, "P d"], path: Tensor | None) -> _Ways:
        """The exact geodesics; discrete ones to points that are very near."""
        B, N, d = self.y.shape
        shape = (B * N, *(self.manifold.latent_shape or (d,)))
        search = exact_enough(self.geodesics.search, "a regression", "discrete", a.dtype)
        if path is not None:
            search = replace(search, init=path.reshape(B * N, -1, *shape[1:]), graph_points=None, segments=None)
        solution = find(self.manifold, a.reshape(shape), b.reshape(shape), search)
        by_energy = Follow(method="discrete")
        there = log_map(self.manifold, a.reshape(shape), b.reshape(shape), follow=by_energy, solution=solution)
        vector, squared = there.vector.reshape(-1, d), there.length.square()
        doubts = torch.where(there.converged, doubts_of(solution), there.status)
        spread = (self.y - self.y.mean(1, keepdim=True)).norm(dim=-1).amax(1, keepdim=True)
        (long,) = ((b - a).norm(dim=-1) > _SHORT * spread.repeat_interleave(N, 1).flatten()).nonzero(as_tuple=True)
        if len(long):
            ends = (x.reshape(shape)[long] for x in (a, b))
            exactly = Follow(rtol=self.stride.rtol, max_iterations=self.stride.max_iterations)
            shot = log_map(self.manifold, *ends, follow=exactly, solution=solution[long])
            vector = vector.index_put((long,), shot.vector.reshape(-1, d))
            squared = squared.index_put((long,), shot.length.square())
            doubts = doubts.index_put((long,), shot.status)
        return self._shaped(vector, squared, solution.path, doubts)

    def _shaped(self, vector: Tensor, squared: Tensor, path: Tensor, doubts: Tensor) -> _Ways:
        B, N, d = self.y.shape
        return _Ways(vector.reshape(B, N, d), squared.reshape(B, N), path.reshape(B, N, -1, d), doubts.reshape(B, N))

    def _moved(self, a: Float[Tensor, "P d"], before: Fit) -> Float[Tensor, "P n d"]:
        """Paths to go on with: the last geodesics with their first ends moved, or straight lines.

        From a moved one few steps are left, to the same geodesic again. Where the end has moved as far as the point is
        away, it is no better than the straight line.
        """
        T, d = self.stride.segments, a.shape[-1]
        b = unwrapped(self.manifold.period, self.y.reshape(-1, d), before.paths[:, :, -1].reshape(-1, d))
        line = straight_path(a, b, T)
        shift = a - before.predictions.reshape(-1, d)
        fade = torch.linspace(1, 0, T + 1, dtype=a.dtype, device=a.device)[:, None]
        moved = before.paths.reshape(-1, T + 1, d) + fade * shift[:, None]
        near = shift.norm(dim=-1) < (b - a).norm(dim=-1) / 2
        path = torch.where(near[:, None, None], moved, line)
        return torch.cat([a[:, None], path[:, 1:-1], b[:, None]], dim=1)


@dataclass(frozen=True)
class _Ways:
    """Geodesics from predictions to points: logarithms, squared distances, paths, and how they ended."""

    vector: Float[Tensor, "B N d"]
    squared: Float[Tensor, "B N"]
    paths: Float[Tensor, "B N nodes d"]
    doubts: Int[Tensor, "B N"]
