"""Geodesic random walks, which tend to Brownian motion."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.checks import require_integer, require_positive
from geodesic.geometry.checks import guarded
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import Rows, inverse_at, require_limit
from geodesic.keywords import renamed
from geodesic.riemannian.endings import after_integration, unless_unseen
from geodesic.riemannian.maps.discrete import follow_discretely
from geodesic.riemannian.maps.flow import follow as integrate
from geodesic.riemannian.maps.follow import IN_FOLLOW, Follow, stride_of
from geodesic.riemannian.maps.followed import Followed
from geodesic.riemannian.maps.stride import Stride
from geodesic.riemannian.statistics.noise import Noise, raised
from geodesic.solvers.status import Status

__all__ = ["RandomWalk", "random_walk"]


@dataclass(frozen=True)
class RandomWalk(Followed):
    """Random walks. Leading axes are those of the points, and one more of `count` walks where that was given.

    Attributes:
        path: Where the walks were after each step, (*batch, n + 1, d); after the time at which a walk was lost, where
            it was last.
        point: Where they ended, (*batch, d).
        time: Up to when each was followed, (*batch,).
        converged: Whether the time was reached, (*batch,), boolean.
        status: Why the row ended, a `Status` as integer, (*batch,).
        iterations: Steps of the walk, (*batch,).
        error: Share of the time that the walk did not reach, (*batch,).
        rank_deficiency: Latent directions that the decoder ignores where the walk begins, (*batch,), integer; along
            these it does not move.
    """

    path: Float[Tensor, "*path"]
    point: Float[Tensor, "*point"]
    time: Float[Tensor, "*batch"]


@guarded
@renamed(**IN_FOLLOW)
def random_walk(
    manifold: Manifold,
    z: Tensor,
    time: float,
    steps: int,
    *,
    count: int | None = None,
    seed: int = 0,
    follow: Follow = Follow(),
) -> RandomWalk:
    """Geodesic random walk, which tends to Brownian motion as its steps become short.

    z_{i+1} = exp_{z_i}(sqrt(h) xi_i),   xi_i ~ N(0, G(z_i)^{-1}),   h = time / steps

    The limit has the generator Laplace-Beltrami / 2: for any smooth f, E f(z) changes at the rate Delta f / 2. The
    error of such averages is of first order in h. Where the decoder ignores directions, nothing moves along them.

    Warning:
        A walk that reaches the edge of a chart (a pole of the coordinates, a saturated decoder) is lost there and
        says so; averages over the walks that are left are then biased.
        Steps of "discrete" must be short against the radius of curvature times its segments; "ode" does
        not see the kinks of a decoder (ReLU).

    Reference:
        E. Jørgensen, The central limit problem for geodesic random walks, 1975.

    Args:
        manifold: Where to walk.
        z: Where to begin, (*batch, d), floating point; (*batch, *latent_shape) for a manifold with a `latent_shape`.
        time: For how long, positive: the variance of each coordinate in flat space.
        steps: Number n of steps.
        count: How many walks to begin at each point, all at once; None for one, without an axis of its own.
        seed: Decides the walks, on every device alike. No global random state is read or changed.
        follow: How the geodesic of each step is followed: by "discrete" with 4 segments unless told otherwise.

    Returns:
        The walks, and what happened to each. Without history.

    Raises:
        InputError: Shapes or settings cannot be used, or the manifold has no lengths.
        SingularMetricError: The metric at a point z is singular, and its rank not the same all around; or it is zero.
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
    stride = stride_of(follow, z.dtype, "discrete", segments=4)
    require_integer("steps", steps, least=1)
    require_integer("count", 1 if count is None else count, least=1)
    require_positive("time", time)
    noise = Noise.seeded(seed)
    walks = () if count is None else (count,)
    with torch.inference_mode(False):
        # A copy: what was made in inference mode has no derivatives.
        start = given.rows[0].repeat_interleave(count or 1, 0).clone()
        inverse = inverse_at(manifold, start, on_range=True)
        require_regular(start, inverse)
        status = torch.full_like(start[:, 0], Status.CONVERGED, dtype=torch.long)
        reached = torch.full_like(status, steps)
        path = start[:, None].expand(-1, steps + 1, -1).clone()
        for i in range(steps):
            # For the lost as well: what one walk does must not depend on the others.
            xi = math.sqrt(time / steps) * noise.normal(tuple(start.shape), start)
            (rows,) = (status == Status.CONVERGED).nonzero(as_tuple=True)
            if not len(rows):
                break
            end, status[rows] = _stepped(manifold, path[rows, i], xi[rows], stride)
            kept = status[rows] == Status.CONVERGED
            path[rows[kept], i + 1 :] = end[kept, None]
            reached[rows[~kept]] = i
        status = unless_unseen(manifold, path, status)
    batch, event = (*given.batch, *walks), given.event
    path = path.reshape(*batch, steps + 1, *event)
    return RandomWalk(
        path=path,
        point=path.select(len(batch), -1),
        time=(reached.to(path) * (time / steps)).reshape(batch),
        converged=(status == Status.CONVERGED).reshape(batch),
        status=status.reshape(batch),
        iterations=reached.reshape(batch),
        error=(1 - reached.to(path) / steps).reshape(batch),
        method=stride.method,
        rank_deficiency=inverse.deficiency.reshape(batch),
    )


def _stepped(
    manifold: Manifold, z: Float[Tensor, "N d"], xi: Float[Tensor, "N d"], stride: Stride
) -> tuple[Float[Tensor, "N d"], Int[Tensor, " N"]]:
    """exp_z(v) with v = xi in an orthonormal frame, and a `Status` for each row."""
    inverse = inverse_at(manifold, z, on_range=True)
    v = raised(inverse, xi[:, None])[:, 0]
    if stride.method == "discrete":
        run = follow_discretely(manifold, z, v, stride.segments)
        end, status = run.path[:, -1], torch.where(run.time < 1, Status.NO_NEARER, Status.CONVERGED)
    else:
        trajectory = integrate(manifold, z, v, replace(stride, segments=1))
        end, status = trajectory.states[:, -1, : z.shape[-1]], after_integration(trajectory.time, trajectory.stuck)
    return end, torch.where(end.isfinite().all(-1) & inverse.regular, status, Status.CUT_SHORT)
