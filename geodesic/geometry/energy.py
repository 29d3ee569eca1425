"""The energy of a path, its gradient, and how far a path is from being a geodesic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.autodiff import jvp
from geodesic.errors import InputError
from geodesic.geometry.embedded import EmbeddedManifold
from geodesic.geometry.manifold import Expansion, Manifold
from geodesic.geometry.path import spline_at_midpoints
from geodesic.numerics.block_tridiagonal import BlockTridiagonal

__all__ = [
    "decoder_residual",
    "encoder_direction",
    "energy_and_gradient",
    "energy_gradient",
    "path_energy",
    "relative_excess_energy",
]

_EXPLICIT = 64  # latent coordinates up to which metric tensors are formed


def path_energy(manifold: Manifold, path: Tensor) -> Float[Tensor, "*batch"]:
    """Energy E = (T/2) sum_i |x_{i+1} - x_i|^2 of discrete paths.

    2 E is at most the squared length of the curve, with equality in the limit of constant speed.

    Reference:
        H. Shao, A. Kumar, P. T. Fletcher, The Riemannian Geometry of Deep Generative Models, 2017.

    Args:
        manifold: Gives the squared chords.
        path: Nodes, (*batch, T + 1, d).

    Returns:
        The energies, (*batch,), in squared units of the output space.

    Raises:
        InputError: The path has no segment.

    Example:
        >>> import torch, geodesic
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> geodesic.path_energy(plane, geodesic.straight_path(torch.zeros(2), torch.tensor([3.0, 4.0]), 2))
        tensor(12.5000)
    """
    _require_path(path)
    T = path.shape[-2] - 1
    return T / 2 * manifold.squared_chords(path).sum(-1)


def energy_gradient(manifold: Manifold, path: Tensor) -> Float[Tensor, "*batch interior d"]:
    """Gradient of the energy in the interior nodes: a sum of vector-Jacobian products.

    dE/dz_i = -T J_i^T (x_{i+1} - 2 x_i + x_{i-1})

    One backward call serves all nodes of all paths: each output has its own second difference as cotangent, and
    because the embedding is row-wise nothing else arrives at z_i.

    Args:
        manifold: Gives the squared chords.
        path: Nodes, (*batch, T + 1, d).

    Returns:
        The gradients, (*batch, T - 1, d). The ends are fixed and have none.

    Raises:
        InputError: The path has no interior node.

    Example:
        >>> import torch, geodesic
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> geodesic.energy_gradient(plane, torch.tensor([[0.0], [0.0], [1.0]]))
        tensor([[-2.]])
    """
    return energy_and_gradient(manifold, path)[1]


def energy_and_gradient(
    manifold: Manifold, path: Tensor
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch interior d"]]:
    """`path_energy` and `energy_gradient` for the price of the latter."""
    _require_path(path, interior=True)
    T = path.shape[-2] - 1
    squared_chords, pull = manifold.chords_and_pullback(path)
    return T / 2 * squared_chords.sum(-1), T * pull()


def encoder_direction(
    manifold: EmbeddedManifold,
    path: Tensor,
    encoder: Callable[[Tensor], Tensor],
    method: str = "forward",
) -> Float[Tensor, "*batch interior d"]:
    """Shao et al.'s encoder form of the update: the encoder's Jacobian in place of the decoder's transposed one.

    eta_i = -T J_h(x_i) (x_{i+1} - 2 x_i + x_{i-1})

    Where h undoes g this approximates the natural gradient G^{-1} dE/dz.

    Warning:
        eta is the gradient of no energy and vanishes on curves that are no geodesics: at its zeros the
        acceleration lies in the kernel of J_h, on a geodesic in the kernel of J_g^T. On the paraboloid with
        h = (x_1, x_2) it is zero on every straight line. Always read `decoder_residual` beside it.

    Reference:
        H. Shao, A. Kumar, P. T. Fletcher, The Riemannian Geometry of Deep Generative Models, 2017, algorithm 1.

    Args:
        manifold: An embedded manifold; its points, of shape (N, ...), are what the encoder takes.
        path: Nodes, (*batch, T + 1, d).
        encoder: Row-wise function h, (N, ...) to (N, d); the mean of q(z|x), not a sample.
        method: How to take the product: `forward` mode, or the `double_vjp` trick from reverse mode alone.

    Returns:
        The directions, (*batch, T - 1, d).

    Raises:
        InputError: The path has no interior node, the manifold has no embedding, or the encoder does not
            return latent points.

    Example:
        >>> import torch, geodesic
        >>> paraboloid = geodesic.PullbackManifold(lambda z: torch.cat([z, (z * z).sum(1, True)], dim=1))
        >>> path = geodesic.straight_path(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 2)
        >>> geodesic.encoder_direction(paraboloid, path, lambda x: x[:, :2]).abs().max()
        tensor(0.)
        >>> geodesic.energy_gradient(paraboloid, path)
        tensor([[-2., -2.]])
    """
    _require_path(path, interior=True)
    if not isinstance(manifold, EmbeddedManifold):
        raise InputError(f"manifold: the encoder form needs points of an embedding, got {type(manifold).__name__}")
    T, d = path.shape[-2] - 1, path.shape[-1]
    nodes = path.dim() - 2
    with torch.no_grad():
        x = manifold.embed(path)
        interior = x.narrow(nodes, 1, T - 1)
        second_difference = x.narrow(nodes, 2, T - 1) - 2 * interior + x.narrow(nodes, 0, T - 1)
        event = x.shape[nodes + 1 :]
        product = jvp(encoder, interior.reshape(-1, *event), second_difference.reshape(-1, *event), method)
    if product.shape != (interior.shape[: nodes + 1].numel(), d):
        raise InputError(
            f"encoder: expected {d} latent coordinates for each decoder output, (N, {d}), got "
            f"{tuple(product.shape)}; pass the mean of q(z|x) alone"
        )
    return -T * product.reshape(*path.shape[:-2], T - 1, d)


def relative_excess_energy(manifold: Manifold, path: Tensor) -> Float[Tensor, "*batch"]:
    """How much of its energy a path could still lose: the Newton decrement over the energy, g^T H^{-1} g / (2 E).

    g is the gradient of the energy and H its Hessian, block tridiagonal. The ratio has no unit and does not change
    when the outputs are scaled or the latent coordinates are transformed linearly. Near a minimum it is the part of
    E still to gain; near any stationary point it is small.

    Where H is not positive definite no quadratic model has a minimum, and a positive semidefinite part of H takes
    its place, see `newton_step`.

    Warning:
        Takes Jacobians, 2 + 2 d decoder passes. For large d see `NewtonKrylov`, which needs products alone.

    Args:
        manifold: Gives the energy to second order.
        path: Nodes, (*batch, T + 1, d), with T at least 2.

    Returns:
        The ratios, (*batch,). Zero for a constant path. NaN where nothing can be said: the energy is too small for
        the dtype, second derivatives are not finite, or the decoder jumps between nodes where it is flat.

    Raises:
        InputError: The path has no interior node.

    Example:
        >>> import torch, geodesic
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> geodesic.relative_excess_energy(plane, torch.tensor([[0.0], [0.5], [2.0]]))
        tensor(0.2000)
    """
    _require_path(path, interior=True)
    paths = path.detach().reshape(-1, *path.shape[-2:])
    step = newton_step(manifold.expansion(paths))
    excess = torch.where(jumps(manifold, paths), torch.nan, step.excess)
    return torch.where(constant(paths), 0, excess).reshape(path.shape[:-2])


@dataclass(frozen=True)
class NewtonStep:
    """What the quadratic model of the energy says about paths, (P, T + 1, d).

    Attributes:
        direction: H^{-1} g, (P, T - 1, d), to subtract from the interior nodes; NaN where H is not finite.
        excess: The relative excess energy that the model predicts, (P,).
        minimum: Whether the exact Hessian is positive definite, (P,).
    """

    direction: Float[Tensor, "P interior d"]
    excess: Float[Tensor, " P"]
    minimum: Bool[Tensor, " P"]


def newton_step(expansion: Expansion) -> NewtonStep:
    """Minimise the quadratic model of the energy, or a convex one where it has no minimum.

    Where the exact Hessian fails to be positive definite, its sources of negative curvature are halved, then left
    out, which makes it semidefinite, then it is damped.
    """
    g, hessian = expansion.gradient, expansion.hessian
    eps = torch.finfo(g.dtype).eps
    factors = hessian.damped(10 * eps).cholesky()
    direction, definite = factors.solve(g), factors.positive
    # Strictly positive: also with a little taken away, which a singular matrix does not survive.
    minimum = hessian.damped(-100 * eps).cholesky().positive
    finite = hessian.diagonal.isfinite().flatten(1).all(1) & hessian.upper.isfinite().flatten(1).all(1)
    finite &= g.isfinite().flatten(1).all(1)
    (rows,) = (finite & ~definite).nonzero(as_tuple=True)
    for share, damping in ((0.5, 10 * eps), (0.0, 100 * eps), (0.0, eps**0.5)):
        if not len(rows):
            break
        factors = expansion.convexified(rows, share).damped(damping).cholesky()
        direction[rows[factors.positive]] = factors.solve(g[rows])[factors.positive]
        rows = rows[~factors.positive]
    total = expansion.squared_chords.sum(-1)
    # Below the range of the dtype squares underflow, and zero over zero would pass for converged.
    seen = total > torch.finfo(g.dtype).tiny / eps
    excess = torch.where(seen, (g * direction).sum((-2, -1)) / total, torch.nan)
    return NewtonStep(direction, excess, minimum)


def stiffness(
    manifold: Manifold, path: Float[Tensor, "P nodes d"], samples: int, damping: float = 0.0
) -> BlockTridiagonal:
    """The stiffness matrix of half the squared chords: the metric at the midpoints of the segments.

    G_{i-1/2} + G_{i+1/2} on the diagonal and -G_{i+1/2} beside it: the Gauss-Newton Hessian up to order 1/T^2. A few
    samples of the metric along the path suffice for a preconditioner; between them it is interpolated.

    Args:
        manifold: Gives the metric tensor, at `samples` points a path.
        path: Nodes, (P, T + 1, d).
        samples: Number of points along the path.
        damping: Share of the mean diagonal entry of G that is added to its diagonal.
    """
    T, d = path.shape[1] - 1, path.shape[2]
    at = (torch.arange(samples, dtype=path.dtype, device=path.device) + 0.5) * T / samples
    node = at.long().clamp(max=T - 1)
    points = torch.lerp(path[:, node], path[:, node + 1], (at - node)[:, None])
    with torch.no_grad():
        G = manifold.metric_tensor(points)
    mean = G.diagonal(dim1=-2, dim2=-1).mean((-2, -1))[:, None, None, None]
    G = G + damping * mean * torch.eye(d, dtype=path.dtype, device=path.device)
    middle = torch.arange(T, dtype=path.dtype, device=path.device) + 0.5
    position = (middle * samples / T - 0.5).clamp(0, samples - 1)
    before = position.long().clamp(max=max(samples - 2, 0))
    after = (before + 1).clamp(max=samples - 1)
    G = torch.lerp(G[:, before], G[:, after], (position - before)[:, None, None])
    return BlockTridiagonal(G[:, :-1] + G[:, 1:], -G[:, 1:-1])


def constant(path: Float[Tensor, "*batch nodes d"]) -> Bool[Tensor, "*batch"]:
    """Which paths stay where they are."""
    return (path == path[..., :1, :]).flatten(-2).all(-1)


def jumps(manifold: Manifold, path: Float[Tensor, "*batch nodes d"]) -> Bool[Tensor, "*batch"]:
    """Which paths get most of their energy from jumps of the decoder, which no derivative sees.

    There the metric at the midpoints accounts for less than a tenth of the energy, and nothing that is built on
    derivatives can be certified.
    """
    with torch.no_grad():
        seen = manifold.squared_norm((path[..., 1:, :] + path[..., :-1, :]) / 2, path.diff(dim=-2)).sum(-1)
        return ~(seen >= manifold.squared_chords(path).sum(-1) / 10)


def decoder_residual(manifold: Manifold, path: Tensor) -> Float[Tensor, "*batch"]:
    """Largest tangential acceleration of the spline through the nodes over its speed, halfway between the nodes.

    max_i |P a_i| / |x'_i|,   |P a|^2 = u^T G^{-1} u   with u = J^T a = G (c'' + Gamma(c', c'))

    a is the acceleration of x(c(t)), c the not-a-knot spline, and P the projection onto the tangent space: zero along
    a geodesic. At the nodes of a converged path it vanishes however coarse the path is; between them it is of order
    1/T^2, and tells whether T was enough.

    Args:
        manifold: Gives the metric and the acceleration.
        path: Nodes, (*batch, T + 1, d), with T at least 2.

    Returns:
        The residuals, (*batch,), per unit of the curve's time [0, 1]. Zero for a constant path. Above 64 latent
        coordinates a lower bound, see `tangential_acceleration`.

    Raises:
        InputError: The path has no interior node.

    Example:
        >>> import torch, geodesic
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> geodesic.decoder_residual(plane, geodesic.straight_path(torch.zeros(2), torch.ones(2))) < 1e-3
        tensor(True)
    """
    _require_path(path, interior=True)
    return tangential_acceleration(manifold, path.detach()).amax(-1)


def tangential_acceleration(manifold: Manifold, path: Tensor, every: int = 1) -> Float[Tensor, "*batch middles"]:
    """|P a| / |x'| halfway between the nodes of every segment, or of some, as in `decoder_residual`.

    Up to 64 latent coordinates with the metric tensor; above, by at most 20 steps of conjugate gradients on G, whose
    value only grows towards the true one.
    """
    middle, velocity, acceleration = (x[..., every // 2 :: every, :] for x in spline_at_midpoints(path))
    with torch.no_grad():
        speed = manifold.squared_norm(middle, velocity).sqrt()
        u = manifold.lowered_acceleration(middle, velocity, acceleration)
        if path.shape[-1] <= _EXPLICIT:
            L = _cholesky(manifold.metric_tensor(middle))
            square = (u * torch.cholesky_solve(u[..., None], L)[..., 0]).sum(-1)
        else:
            square = _inverse_norm(manifold, middle, u)
        # A curve that stands still, and one whose parts are lost in rounding, has no acceleration to speak of.
        residual = square.clamp_min(0).sqrt() / speed
    return torch.where(constant(path)[..., None], 0, residual)


def _inverse_norm(manifold: Manifold, z: Tensor, u: Tensor, steps: int = 20) -> Tensor:
    """u^T G(z)^{-1} u from below, by conjugate gradients; G v is half the slope of v^T G v."""
    r, p = u, u
    rr = (r * r).sum(-1)
    value = torch.zeros_like(rr)
    for _ in range(steps):
        with torch.enable_grad():
            v = p.detach().requires_grad_()
            (twice,) = torch.autograd.grad(manifold.squared_norm(z, v).sum(), v)
        Gp = twice / 2
        curvature = (p * Gp).sum(-1)
        alpha = torch.where(curvature > 0, rr / curvature, 0)
        value = value + alpha * rr
        r = r - alpha[..., None] * Gp
        new = (r * r).sum(-1)
        p = r + torch.where(rr > 0, new / rr, 0)[..., None] * p
        rr = new
    return value


def _cholesky(G: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch d d"]:
    """Cholesky factor of a metric, which a decoder may leave singular to rounding (a dead ReLU, say)."""
    jitter = 10 * torch.finfo(G.dtype).eps * G.diagonal(dim1=-2, dim2=-1).sum(-1)
    jitter = jitter.clamp_min(torch.finfo(G.dtype).tiny)[..., None, None]
    eye = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
    L, failed = torch.linalg.cholesky_ex(G + jitter * eye)
    # What follows from a failed factor should be NaN, and NaN is never taken for converged.
    return L.masked_fill(failed[..., None, None] > 0, torch.nan)


def _require_path(path: Tensor, interior: bool = False) -> None:
    least = 3 if interior else 2
    if path.dim() < 2 or path.shape[-2] < least:
        raise InputError(
            f"path: expected nodes of shape (*batch, T + 1, d) with T >= {least - 1}, got {tuple(path.shape)}"
        )
    if not path.is_floating_point():
        raise InputError(f"path: expected a floating point tensor, got {path.dtype}; use path.float()")
