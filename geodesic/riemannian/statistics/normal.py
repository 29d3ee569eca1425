"""The normal distribution of a manifold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.checks import is_number, require_integer
from geodesic.errors import InputError
from geodesic.geometry.checks import guarded
from geodesic.geometry.excess import hessian_seen
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.pieces import pieced
from geodesic.geometry.points import Rows, inverse_at, require_limit
from geodesic.keywords import renamed
from geodesic.riemannian.maps.follow import IN_FOLLOW, Follow, stride_of
from geodesic.riemannian.maps.followed import Followed
from geodesic.riemannian.maps.neighbors import exp_with_neighbors
from geodesic.riemannian.maps.stride import Stride
from geodesic.riemannian.records import Record
from geodesic.riemannian.statistics.noise import Noise
from geodesic.solvers.status import Status

__all__ = ["RiemannianSamples", "riemannian_normal"]


@dataclass(frozen=True)
class RiemannianSamples(Followed):
    """Points drawn from a distribution around a mean. Leading axes are those of the mean.

    Attributes:
        points: Independent samples, (*batch, count, d); NaN where no proposal of a chain could be used.
        vectors: The velocities at the mean that lead to them, (*batch, count, d): exp_mean of them are the points.
        acceptance: Share of the proposals after the first that were accepted, (*batch,).
        converged: Whether a chain has found a proposal that could be used, (*batch, count), boolean.
        status: Why each ended, a `Status` as integer, (*batch, count): `CUT_SHORT` where none could be used.
        iterations: Proposals of each chain after the first, (*batch, count).
        error: Estimated share of the chains of this mean that never moved from their first proposal,
            (*batch, count): (1 - acceptance)^burn_in.
        rank_deficiency: Latent directions that the decoder ignores at the mean, (*batch, count), integer; along these
            the points are as the mean.
    """

    points: Float[Tensor, "*points"]
    vectors: Float[Tensor, "*points"]
    acceptance: Float[Tensor, "*means"]


@guarded
@renamed(**IN_FOLLOW)
def riemannian_normal(
    manifold: Manifold,
    mean: Tensor,
    scale: float | Tensor,
    count: int,
    *,
    seed: int = 0,
    burn_in: int = 10,
    follow: Follow = Follow(),
) -> RiemannianSamples:
    """Draw from the Riemannian normal distribution around a mean.

    p(z) ~ exp(-d(mean, z)^2 / (2 s^2))   with respect to the Riemannian volume

    z = exp_mean(v) is drawn by drawing v, whose density is exp(-|v|^2 / (2 s^2)) |det d exp_mean(v)|. Proposals come
    from N(0, s^2 G^{-1}), and Metropolis and Hastings accept them by the ratio of the determinants, which
    the Jacobi fields that vanish at the mean give. Each sample is the last state of a chain of its own, so samples
    are independent, and all chains run at once. Where the decoder ignores directions, samples are as the mean along
    them, and the volume is that of what it sees.

    Warning:
        The cut locus is only seen through conjugate points: proposals beyond the first of these are rejected, but a
        proposal beyond a cut point that is not conjugate, such as half way round a cylinder, is taken for one
        at the distance |v|. Where s is small against the injectivity radius this does not matter.
        Where sqrt(-K) s is large, K the sectional curvature, volumes grow so fast that the proposals miss where most
        of the mass is: above 1, raise `burn_in` until nothing changes, and keep an eye on `acceptance`.
        "ode" does not see the kinks of a decoder (ReLU).

    Reference:
        X. Pennec, Intrinsic statistics on Riemannian manifolds: basic tools for geometric measurements, 2006.

    Args:
        manifold: Where to draw.
        mean: Where the density is largest, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with
            a `latent_shape`.
        scale: s, in units of Riemannian length, a number or (*batch,), positive. In flat space the standard
            deviation of each coordinate; where space is curved only nearly.
        count: Number of samples for each mean.
        seed: Decides the samples, on every device alike. No global random state is read or changed.
        burn_in: Proposals of each chain after the first.
        follow: How geodesics are followed; its `segments` are at least 2, as conjugate points are looked for at nodes.

    Returns:
        The samples, and what share of the proposals was accepted. Without history.

    Raises:
        InputError: Shapes or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a mean is singular, and its rank not the same all around; or it is zero.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> sphere, south = geodesic.surfaces.StereographicSphere(), torch.zeros(2)
        >>> samples = geodesic.riemannian_normal(sphere, south, 0.3, count=500, follow=geodesic.Follow(segments=8))
        >>> distance = sphere.distance(south.expand(500, 2), samples.points)
        >>> print(bool(0.5 < distance.square().mean() / (2 * 0.3**2) < 1.5), bool(samples.converged.all()))
        True True
    """
    given = Rows(manifold, mean=mean)
    require_limit(manifold, "normal distribution")
    stride = stride_of(follow, mean.dtype, "discrete", least_segments=2)
    require_integer("count", count, least=1)
    require_integer("burn_in", burn_in, least=1)
    s = _scales(scale, given, mean)
    noise = Noise.seeded(seed)
    (z,) = given.rows
    B, d = z.shape
    with torch.inference_mode(False):
        inverse = inverse_at(manifold, z, on_range=True)
        require_regular(z, inverse, "mean")
        chains = _Chains(manifold, stride, z.repeat_interleave(count, 0), inverse.frame.repeat_interleave(count, 0))
        state = chains.begun()
        accepted = z.new_zeros(B)
        for i in range(burn_in + 1):
            v = s[:, None, None] * noise.vectors(inverse, (B, count, d))
            u = noise.uniform((B, count), z)
            proposal = chains.proposed(v.reshape(-1, d))
            # Minus infinity stands for proposals that cannot be used: none of them replaces a state.
            better = u.reshape(-1).log() < proposal.log_volume - state.log_volume
            better &= proposal.log_volume.isfinite()
            (rows,) = better.nonzero(as_tuple=True)
            state = state.replaced(rows, proposal.of(rows))
            if i > 0:
                accepted += better.reshape(B, count).to(z).mean(1)
    batch, event = given.batch, given.event
    found = state.log_volume.isfinite().reshape(*batch, count)
    status = torch.where(found, Status.CONVERGED, Status.CUT_SHORT)
    acceptance = given.each(accepted / burn_in)
    return RiemannianSamples(
        points=state.point.reshape(*batch, count, *event),
        vectors=state.vector.reshape(*batch, count, *event),
        acceptance=acceptance,
        converged=found,
        status=status,
        iterations=torch.full_like(status, burn_in),
        error=((1 - acceptance) ** burn_in)[..., None].expand(found.shape).clone(),
        method=stride.method,
        rank_deficiency=given.each(inverse.deficiency)[..., None].expand(found.shape).clone(),
    )


@dataclass(frozen=True)
class _Proposal(Record):
    """Points, the vectors to them, and log |det d exp| in orthonormal frames: minus infinity where nothing leads."""

    point: Float[Tensor, "N d"]
    vector: Float[Tensor, "N d"]
    log_volume: Float[Tensor, " N"]


@dataclass(frozen=True)
class _Chains:
    """N chains around means z, (N, d), with frames F there, (N, d, d), see `MetricInverse`."""

    manifold: Manifold
    stride: Stride
    z: Float[Tensor, "N d"]
    frame: Float[Tensor, "N d d"]

    def begun(self) -> _Proposal:
        """Nowhere yet."""
        none = torch.full_like(self.z, torch.nan)
        return _Proposal(none, none, torch.full_like(self.z[:, 0], -torch.inf))

    def proposed(self, v: Float[Tensor, "N d"]) -> _Proposal:
        """exp_z(v), and its volume."""
        there = exp_with_neighbors(self.manifold, self.z, v, self.stride)
        end = there.path[:, -1]
        usable = there.reached & end.isfinite().all(-1)
        end = torch.where(usable[:, None], end, self.z)
        coframe = inverse_at(self.manifold, end, on_range=True).coframe
        ignored = (self.frame == 0).all(-2)
        change = coframe @ there.by_velocity @ self.frame + torch.diag_embed(ignored.to(end))
        known = usable & change.isfinite().flatten(1).all(1)
        sign, volume = torch.linalg.slogdet(torch.where(known[:, None, None], change, 0))
        sign = torch.where(ignored.any(-1), 1, sign)  # frames of a part of the directions may be turned over
        # Two conjugate points, or one of multiplicity two, leave the sign of the determinant as it was. Morse's index
        # theorem sees them all: up to the first one the energy has a minimum at the geodesic, with its ends held fixed.
        usable = usable & (sign > 0) & volume.isfinite()
        (rows,) = usable.nonzero(as_tuple=True)
        if len(rows):
            usable = usable.index_put((rows,), self._is_minimum(there.path[rows]))
        return _Proposal(end, v, torch.where(usable, volume, -torch.inf))

    def _is_minimum(self, path: Float[Tensor, "n nodes d"]) -> Bool[Tensor, " n"]:
        return hessian_seen(pieced(self.manifold, path).expansion(path)).cholesky().positive


def _scales(scale: Any, given: Rows, mean: Tensor) -> Float[Tensor, " B"]:
    if not is_number(scale) and not isinstance(scale, Tensor):
        raise InputError(f"scale: expected a positive number or a tensor of them, got {type(scale).__name__}")
    s = torch.as_tensor(scale, dtype=mean.dtype, device=mean.device).detach()
    if s.dim() and s.shape != given.batch:
        raise InputError(f"scale: expected a number or one for each mean, {tuple(given.batch)}, got {tuple(s.shape)}")
    if not bool((s > 0).all() & s.isfinite().all()):
        raise InputError(f"scale: expected positive lengths, got {scale}")
    return s.expand(given.batch).reshape(-1)
