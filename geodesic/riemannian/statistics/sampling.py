"""Random points of a manifold: its normal distribution, and Brownian motion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.errors import InputError
from geodesic.geometry.inverse import MetricInverse, require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.memory import rows_at_once
from geodesic.geometry.points import Rows, inverse_at, require_limit
from geodesic.riemannian.maps.discrete import follow_discretely
from geodesic.riemannian.maps.exp_map import checked, ended
from geodesic.riemannian.maps.flow import follow, require_method
from geodesic.riemannian.maps.neighbours import Stride, exp_with_neighbours
from geodesic.riemannian.outcome import Outcome

__all__ = ["RandomWalk", "RiemannianSamples", "random_walk", "riemannian_normal"]


@dataclass(frozen=True)
class RiemannianSamples:
    """Points drawn from a distribution around a mean. Leading axes are those of the mean.

    Attributes:
        points: Independent samples, (*batch, count, d); NaN where no proposal of a chain could be used.
        vectors: The velocities at the mean that lead to them, (*batch, count, d): exp_mean of them are the points.
        acceptance: Share of the proposals after the first that were accepted, (*batch,).
        converged: Whether a chain has found a proposal that could be used, (*batch, count), boolean.
    """

    points: Float[Tensor, "*points"]
    vectors: Float[Tensor, "*points"]
    acceptance: Float[Tensor, "*batch"]
    converged: Bool[Tensor, "*batch count"]


@dataclass(frozen=True)
class RandomWalk:
    """Random walks. Leading axes are those of the points, and one more of `count` walks where that was given.

    Attributes:
        path: Where the walks were after each step, (*batch, n + 1, d); after the time at which a walk was lost, where
            it was last.
        point: Where they ended, (*batch, d).
        time: Up to when each was followed, (*batch,).
        converged: Whether the time was reached, (*batch,), boolean.
        status: Why the row ended, an `Outcome` as integer, (*batch,).
    """

    path: Float[Tensor, "*path"]
    point: Float[Tensor, "*point"]
    time: Float[Tensor, "*batch"]
    converged: Bool[Tensor, "*batch"]
    status: Int[Tensor, "*batch"]


def riemannian_normal(
    manifold: Manifold,
    mean: Tensor,
    scale: float | Tensor,
    count: int,
    *,
    seed: int = 0,
    burn_in: int = 10,
    method: str = "discrete",
    segments: int = 32,
    rtol: float | None = None,
    max_steps: int = 1000,
) -> RiemannianSamples:
    """Draw from the Riemannian normal distribution around a mean.

    p(z) ~ exp(-d(mean, z)^2 / (2 s^2))   with respect to the Riemannian volume

    z = exp_mean(v) is drawn by drawing v, whose density is exp(-|v|^2 / (2 s^2)) |det d exp_mean(v)|. Proposals come
    from N(0, s^2 G^{-1}), and Metropolis and Hastings accept them by the ratio of the determinants, which
    the Jacobi fields that vanish at the mean give. Each sample is the last state of a chain of its own, so samples
    are independent, and all chains run at once.

    Warning:
        The cut locus is only seen through conjugate points: proposals beyond the first of these are rejected, but a
        proposal beyond a cut point that is not conjugate, such as half way round a cylinder, is taken for one
        at the distance |v|. Where s is small against the injectivity radius this does not matter.
        Where sqrt(-K) s is large, K the sectional curvature, volumes grow so fast that the proposals miss where most
        of the mass is: above 1, raise `burn_in` until nothing changes, and keep an eye on `acceptance`.
        "ode" is wrong for decoders with kinks (ReLU), as `exp_map`.

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
        method: "ode" or "discrete", as for `exp_map`.
        segments: Number T of segments of each geodesic, at least 2: conjugate points are looked for at its nodes.
        rtol: As for `exp_map`.
        max_steps: As for `exp_map`.

    Returns:
        The samples, and what share of the proposals was accepted.

    Raises:
        InputError: Shapes or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a mean is singular.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> sphere, south = geodesic.StereographicSphere(), torch.zeros(2)
        >>> samples = geodesic.riemannian_normal(sphere, south, 0.3, count=500, segments=8)
        >>> distance = sphere.distance(south.expand(500, 2), samples.points)
        >>> print(bool(0.5 < distance.square().mean() / (2 * 0.3**2) < 1.5), bool(samples.converged.all()))
        True True
    """
    given = Rows(manifold, mean=mean)
    require_limit(manifold, "normal distribution")
    require_method(method)
    stride = Stride(method, segments, checked(rtol, mean.dtype, segments, max_steps), max_steps)
    _require_integers(count=(count, 1), burn_in=(burn_in, 1), segments=(segments, 2))
    s = _scales(scale, given, mean)
    noise = _generator(seed)
    (z,) = given.rows
    B, d = z.shape
    with torch.inference_mode(False):
        inverse = inverse_at(manifold, z)
        require_regular(z, inverse, "mean")
        start = z.repeat_interleave(count, 0)
        none = torch.full_like(start, torch.nan)
        state = _Proposal(none, none, torch.full_like(start[:, 0], -torch.inf))
        accepted = z.new_zeros(B)
        for i in range(burn_in + 1):
            xi, u = _normal(noise, (B, count, d), z), _uniform(noise, (B, count), z)
            v = s[:, None, None] * _raised(inverse, xi)
            proposal = _propose(manifold, start, v.reshape(-1, d), stride, inverse, count)
            ratio = proposal.log_volume - state.log_volume
            # Minus infinity stands for proposals that cannot be used: none of them replaces a state.
            better = (u.reshape(-1).log() < ratio) & proposal.log_volume.isfinite()
            state = _Proposal(
                _where(better, proposal.point, state.point),
                _where(better, proposal.vector, state.vector),
                _where(better, proposal.log_volume, state.log_volume),
            )
            if i > 0:
                accepted += better.reshape(B, count).to(z).mean(1)
    batch, event = given.batch, given.event
    return RiemannianSamples(
        points=state.point.reshape(*batch, count, *event),
        vectors=state.vector.reshape(*batch, count, *event),
        acceptance=given.each(accepted / burn_in),
        converged=state.log_volume.isfinite().reshape(*batch, count),
    )


class _Proposal(NamedTuple):
    """Points, the vectors to them, and log |det d exp| in orthonormal frames: (N, d) twice, and (N,)."""

    point: Tensor
    vector: Tensor
    log_volume: Tensor


def _propose(manifold: Manifold, z: Tensor, v: Tensor, stride: Stride, inverse: MetricInverse, count: int) -> _Proposal:
    there = exp_with_neighbours(manifold, z, v, stride)
    end = there.path[:, -1]
    usable = there.reached & end.isfinite().all(-1)
    end = _where(usable, end, z)
    factor = inverse_at(manifold, end).factor
    roots = [x.diagonal(dim1=-2, dim2=-1).log().sum(-1) for x in (factor, inverse.factor.repeat_interleave(count, 0))]
    sign, size = torch.linalg.slogdet(_where(usable, there.by_velocity, torch.zeros_like(there.by_velocity)))
    volume = size + roots[0] - roots[1]
    # Two conjugate points, or one of multiplicity two, leave the sign of the determinant as it was. Morse's index
    # theorem sees them all: up to the first one the energy has a minimum at the geodesic, with its ends held fixed.
    usable = usable & (sign > 0) & volume.isfinite()
    (rows,) = usable.nonzero(as_tuple=True)
    for group in rows.split(max(1, rows_at_once(manifold, z) // stride.segments)):
        usable[group] = manifold.expansion(there.path[group]).hessian.cholesky().positive
    return _Proposal(end, v, torch.where(usable, volume, -torch.inf))


def random_walk(
    manifold: Manifold,
    z: Tensor,
    time: float,
    steps: int,
    *,
    count: int | None = None,
    seed: int = 0,
    method: str = "discrete",
    segments: int = 4,
    rtol: float | None = None,
    max_steps: int = 1000,
) -> RandomWalk:
    """Geodesic random walk, which tends to Brownian motion as its steps become short.

    z_{i+1} = exp_{z_i}(sqrt(h) xi_i),   xi_i ~ N(0, G(z_i)^{-1}),   h = time / steps

    The limit has the generator Laplace-Beltrami / 2: for any smooth f, E f(z) changes at the rate Delta f / 2. The
    error of such averages is of first order in h.

    Warning:
        A walk that reaches the edge of a chart (a pole of the coordinates, a saturated decoder) is lost there and
        says so; averages over the walks that are left are then biased.
        Steps of "discrete" must be short against the radius of curvature times `segments`; "ode" is wrong for
        decoders with kinks (ReLU), as `exp_map`.

    Reference:
        E. Jørgensen, The central limit problem for geodesic random walks, 1975.

    Args:
        manifold: Where to walk.
        z: Where to begin, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`.
        time: For how long, positive: the variance of each coordinate in flat space.
        steps: Number n of steps.
        count: How many walks to begin at each point, all at once; None for one, without an axis of its own.
        seed: Decides the walks, on every device alike. No global random state is read or changed.
        method: "ode" or "discrete", as for `exp_map`.
        segments: Number of segments of each step. For "discrete" alone.
        rtol: As for `exp_map`.
        max_steps: Most steps of the integration for each step of the walk. For "ode" alone.

    Returns:
        The walks, and what happened to each.

    Raises:
        InputError: Shapes or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point z is singular.
        DecoderError: The decoder is in training mode.

    Example:
        >>> import torch, geodesic
        >>> plane = geodesic.PullbackManifold(lambda z: 2 * z)
        >>> walks = geodesic.random_walk(plane, torch.zeros(2), time=1.0, steps=10, count=1000)
        >>> print(tuple(walks.path.shape), bool((walks.point.std(0) - 0.5).abs().max() < 0.05))
        (1000, 11, 2) True
    """
    given = Rows(manifold, z=z)
    require_limit(manifold, "Brownian motion")
    require_method(method)
    rtol = checked(rtol, z.dtype, segments, max_steps)
    _require_integers(steps=(steps, 1), count=(1 if count is None else count, 1))
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 < time < math.inf:
        raise InputError(f"time: expected a positive number, got {time!r}")
    noise = _generator(seed)
    walks = () if count is None else (count,)
    z = given.rows[0].repeat_interleave(count or 1, 0)
    with torch.inference_mode(False):
        z = z.clone()  # what was made in inference mode has no derivatives
        status = torch.full_like(z[:, 0], Outcome.CONVERGED, dtype=torch.long)
        reached = torch.full_like(status, steps)
        path = z[:, None].expand(-1, steps + 1, -1).clone()
        require_regular(z, inverse_at(manifold, z))
        for i in range(steps):
            # For the lost as well: what one walk does must not depend on the others.
            xi = math.sqrt(time / steps) * _normal(noise, tuple(z.shape), z)
            (rows,) = (status == Outcome.CONVERGED).nonzero(as_tuple=True)
            if not len(rows):
                break
            inverse = inverse_at(manifold, path[rows, i])
            v = _raised(inverse, xi[rows, None])[:, 0]
            end, outcome = _stepped(manifold, path[rows, i], v, method, segments, rtol, max_steps)
            outcome = torch.where(inverse.regular, outcome, Outcome.NOT_FINITE)
            kept = outcome == Outcome.CONVERGED
            status[rows] = outcome
            path[rows[kept], i + 1 :] = end[kept, None]
            reached[rows[~kept]] = i
    batch, event = (*given.batch, *walks), given.event
    path = path.reshape(*batch, steps + 1, *event)
    return RandomWalk(
        path=path,
        point=path.select(len(batch), -1),
        time=(reached.to(z) * (time / steps)).reshape(batch),
        converged=(status == Outcome.CONVERGED).reshape(batch),
        status=status.reshape(batch),
    )


def _stepped(
    manifold: Manifold, z: Tensor, v: Tensor, method: str, segments: int, rtol: float, max_steps: int
) -> tuple[Tensor, Tensor]:
    """exp_z(v), and an `Outcome` for each row."""
    if method == "discrete":
        run = follow_discretely(manifold, z, v, segments)
        end, lost = run.path[:, -1], torch.where(run.time < 1, Outcome.STALLED, Outcome.CONVERGED)
    else:
        trajectory = follow(manifold, z, v, 1, rtol, max_steps)
        end = trajectory.states[:, -1, : z.shape[-1]]
        lost = ended(trajectory.time, trajectory.stuck)
    return end, torch.where(end.isfinite().all(-1), lost, Outcome.NOT_FINITE)


# --- noise ------------------------------------------------------------------------------------


def _generator(seed: Any) -> torch.Generator:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InputError(f"seed: expected an integer, got {seed!r}")
    return torch.Generator().manual_seed(seed)


def _normal(noise: torch.Generator, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard normal numbers, drawn on the CPU in float64: the same ones for every device and dtype."""
    return torch.randn(shape, generator=noise, dtype=torch.float64, device="cpu").to(like)


def _uniform(noise: torch.Generator, shape: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.rand(shape, generator=noise, dtype=torch.float64, device="cpu").to(like)


def _raised(inverse: MetricInverse, xi: Float[Tensor, "B n d"]) -> Float[Tensor, "B n d"]:
    """L^{-T} xi with L L^T = G: standard normal xi become N(0, G^{-1})."""
    return torch.linalg.solve_triangular(inverse.factor.mT, xi.mT, upper=True).mT


def _where(rows: Bool[Tensor, " N"], new: Tensor, old: Tensor) -> Tensor:
    return torch.where(rows.reshape(-1, *[1] * (new.dim() - 1)), new, old)


# --- settings ---------------------------------------------------------------------------------


def _scales(scale: Any, given: Rows, mean: Tensor) -> Float[Tensor, " B"]:
    number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not number and not isinstance(scale, Tensor):
        raise InputError(f"scale: expected a positive number or a tensor of them, got {type(scale).__name__}")
    s = torch.as_tensor(scale, dtype=mean.dtype, device=mean.device).detach()
    if s.dim() and s.shape != given.batch:
        raise InputError(f"scale: expected a number or one for each mean, {tuple(given.batch)}, got {tuple(s.shape)}")
    if not bool((s > 0).all() & s.isfinite().all()):
        raise InputError(f"scale: expected positive lengths, got {scale}")
    return s.expand(given.batch).reshape(-1)


def _require_integers(**settings: tuple[Any, int]) -> None:
    for name, (value, least) in settings.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name}: expected an integer of at least {least}, got {value!r}")
