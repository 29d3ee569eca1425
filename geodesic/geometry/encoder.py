"""Shao et al.'s encoder form of the update: no gradient, and with zeros that are no geodesics."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.autodiff import jvp
from geodesic.errors import InputError
from geodesic.geometry.checks import admit_path, guarded
from geodesic.geometry.energy import require_path
from geodesic.geometry.manifold import Manifold, weighted
from geodesic.keywords import renamed

__all__ = ["encoder_direction"]


@guarded
@renamed(method="mode")
def encoder_direction(
    manifold: Manifold,
    path: Tensor,
    encoder: Callable[[Tensor], Tensor],
    mode: str = "forward",
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
        manifold: One with an embedding; its points, of shape (N, ...), are what the encoder takes.
        path: Nodes, (*batch, T + 1, d).
        encoder: Row-wise function h, (N, ...) to (N, d); the mean of q(z|x), not a sample.
        mode: How to take the product: `forward` mode, or the `double_vjp` trick from reverse mode alone.

    Returns:
        The directions, (*batch, T - 1, d). Without history.

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
    require_path(path, interior=True)
    admit_path(manifold, path)
    return encoder_form(manifold, path, encoder, mode)


def encoder_form(
    manifold: Manifold,
    path: Tensor,
    encoder: Callable[[Tensor], Tensor],
    mode: str,
    weights: Float[Tensor, "*batch T"] | None = None,
) -> Float[Tensor, "*batch interior d"]:
    """`encoder_direction` for paths that have been looked at; with weights, for nodes at any times."""
    if not manifold.has_embedding:
        raise InputError(f"manifold: the encoder form needs points of an embedding, and {manifold} has none")
    T, d = path.shape[-2] - 1, path.shape[-1]
    nodes = path.dim() - 2
    with torch.no_grad():
        x = manifold.embed(path)
        interior = x.narrow(nodes, 1, T - 1)
        second_difference = weighted(x.diff(dim=nodes), weights).diff(dim=nodes)
        event = x.shape[nodes + 1 :]
        product = jvp(encoder, interior.reshape(-1, *event), second_difference.reshape(-1, *event), mode)
    if product.shape != (interior.shape[: nodes + 1].numel(), d):
        raise InputError(
            f"encoder: expected {d} latent coordinates for each decoder output, (N, {d}), got "
            f"{tuple(product.shape)}; pass the mean of q(z|x) alone"
        )
    return -T * product.reshape(*path.shape[:-2], T - 1, d)
