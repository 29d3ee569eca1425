"""The energy of a path, its gradient, and how far a path is from being a geodesic."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.autodiff import jvp
from geodesic.errors import InputError
from geodesic.geometry.manifold import EmbeddedManifold, Manifold

__all__ = [
    "decoder_residual",
    "encoder_direction",
    "energy_and_gradient",
    "energy_gradient",
    "path_energy",
    "relative_excess_energy",
]


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
    squared_chords, gradient = manifold.chords_and_gradient(path)
    return T / 2 * squared_chords.sum(-1), T * gradient


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
    """How much of its energy a path could still lose, from a quadratic model: g^T S^{-1} g / (2 E).

    g is the energy gradient and S the stiffness matrix, block tridiagonal, with the metric at the midpoints of
    the segments: T (G_{i-1/2} + G_{i+1/2}) on the diagonal and -T G_{i+1/2} beside it. S is positive
    semidefinite and is the Gauss-Newton Hessian of the energy up to order 1/T^2. The ratio has no unit and does
    not change when the outputs are scaled or the latent coordinates are transformed linearly.

    Args:
        manifold: Gives the energy and the metric tensor; d metric products a node.
        path: Nodes, (*batch, T + 1, d), with T at least 2.

    Returns:
        The ratios, (*batch,). Zero for a path without energy; NaN where the metric along the path accounts for
        less than a tenth of the energy, because the decoder jumps between nodes.

    Raises:
        InputError: The path has no interior node.

    Example:
        >>> import torch, geodesic
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> geodesic.relative_excess_energy(plane, torch.tensor([[0.0], [0.5], [2.0]]))
        tensor(0.2000)
    """
    energy, g = energy_and_gradient(manifold, path)
    T = path.shape[-2] - 1
    with torch.no_grad():
        G = manifold.metric_tensor((path[..., 1:, :] + path[..., :-1, :]) / 2)
        diagonal, beside = T * (G[..., :-1, :, :] + G[..., 1:, :, :]), -T * G[..., 1:-1, :, :]
        step = _solve_block_tridiagonal(diagonal, beside, g)
        decrement = (g * step).sum((-2, -1))
        change = path.diff(dim=-2)[..., None]
        # A decoder that jumps between nodes where it is flat has no use for a metric: certify nothing.
        seen = T / 2 * (change.mT @ G @ change).sum((-3, -2, -1)) > energy / 10
        decrement = torch.where(seen, decrement, torch.nan)
    return torch.where(energy > 0, decrement / (2 * energy), torch.zeros_like(energy))


def decoder_residual(manifold: Manifold, path: Tensor) -> Float[Tensor, "*batch"]:
    """Largest tangential acceleration over the speed, at the interior nodes; zero on a discrete geodesic.

    max_i |P_i a_i| / L with a_i = T^2 (x_{i+1} - 2 x_i + x_{i-1}), P_i the projection onto the tangent space and
    L = sqrt(2 E) the speed. Since J_i^T a_i = -T dE/dz_i this is T sqrt(g_i^T G_i^{-1} g_i) / L, and needs
    the metric alone.

    Args:
        manifold: Gives the energy and the metric tensor.
        path: Nodes, (*batch, T + 1, d), with T at least 2.

    Returns:
        The residuals, (*batch,), per unit of the curve's time [0, 1]. Zero for a path without energy.

    Raises:
        InputError: The path has no interior node.

    Example:
        >>> import torch, geodesic
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> geodesic.decoder_residual(plane, geodesic.straight_path(torch.zeros(2), torch.ones(2)))
        tensor(0.)
    """
    energy, g = energy_and_gradient(manifold, path)
    T = path.shape[-2] - 1
    with torch.no_grad():
        G = manifold.metric_tensor(path[..., 1:-1, :])
        acceleration = T * (g * torch.cholesky_solve(g[..., None], _cholesky(G))[..., 0]).sum(-1).sqrt()
        residual = acceleration.amax(-1) / (2 * energy).sqrt()
    return torch.where(energy > 0, residual, torch.zeros_like(energy))


def _solve_block_tridiagonal(
    diagonal: Float[Tensor, "*batch n d d"],
    upper: Float[Tensor, "*batch n-1 d d"],
    right: Float[Tensor, "*batch n d"],
) -> Float[Tensor, "*batch n d"]:
    """Solve S y = right for symmetric positive definite S: blocks (*batch, n, d, d), (*batch, n - 1, d, d)."""
    n = diagonal.shape[-3]
    factors, partial = [], []
    block, rest = diagonal[..., 0, :, :], right[..., 0, :, None]
    for i in range(n):
        factors.append(_cholesky(block))
        partial.append(rest)
        if i + 1 < n:
            U = upper[..., i, :, :]
            coupled = torch.cholesky_solve(torch.cat([U, rest], dim=-1), factors[i])
            block = diagonal[..., i + 1, :, :] - U.mT @ coupled[..., :-1]
            rest = right[..., i + 1, :, None] - U.mT @ coupled[..., -1:]
    y = [torch.cholesky_solve(partial[-1], factors[-1])]
    for i in reversed(range(n - 1)):
        y.append(torch.cholesky_solve(partial[i] - upper[..., i, :, :] @ y[-1], factors[i]))
    return torch.stack(y[::-1], dim=-3)[..., 0]


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
