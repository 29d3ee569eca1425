"""Encoders, looked at before they are used; and Shao et al.'s encoder form of the update.

The form is no gradient, and has zeros that are no geodesics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.autodiff import jvp
from geodesic.checks import require_choice
from geodesic.door.derivatives import Derivatives
from geodesic.door.door import Door
from geodesic.door.rows import require_apart
from geodesic.errors import DecoderError, InputError
from geodesic.geometry.checks import admit_path, guarded
from geodesic.geometry.decoders import require_evaluation_mode
from geodesic.geometry.energy import require_path
from geodesic.geometry.manifold import Manifold, weighted
from geodesic.keywords import renamed

__all__ = ["Encoder", "encoder_direction", "encoder_form"]


class Encoder:
    """A user's encoder h, (N, ...) to (N, d), through a door of its own: as decoders are, it is looked at first.

    Args:
        encoder: The row-wise mean of q(z|x).

    Raises:
        InputError: It is no function.
        DecoderError: It is in training mode.
    """

    def __init__(self, encoder: Callable[[Tensor], Tensor]) -> None:
        if not callable(encoder):
            raise InputError(f"encoder: expected a function, got {type(encoder).__name__}")
        require_evaluation_mode(encoder, "encoder")
        self.encoder = encoder
        self._doors: dict[tuple[torch.Size, int], Door] = {}

    def at(self, x: Float[Tensor, "N *event"], d: int) -> Float[Tensor, "N d"]:
        """H(x), whose rows are latent points of d numbers.

        Raises:
            InputError: It does not return these.
        """
        z: Any = self.encoder(x.clone())
        if not isinstance(z, Tensor) or z.shape[:1] != x.shape[:1] or math.prod(z.shape[1:]) != d:
            got = tuple(z.shape) if isinstance(z, Tensor) else f"a {type(z).__name__}"
            first = "; give lambda x: encoder(x)[0] if that is the mean" if isinstance(z, tuple | list) else ""
            raise InputError(
                f"encoder: expected {d} latent coordinates for each decoder output, ({len(x)}, {d}), got {got}; pass "
                f"the mean of q(z|x) alone{first}"
            )
        return z.reshape(len(x), d)

    def require_apart(self, x: Float[Tensor, "N *event"], d: int) -> None:
        """Refuse an encoder whose values cannot be relied on at points like these.

        Raises:
            InputError: It does not return latent points.
            DecoderError: Its rows are coupled, or it is random.
        """
        event = x.shape[1:]
        with _said_of_encoders(), torch.no_grad(), torch.random.fork_rng([x.device] if x.is_cuda else []):
            self.at(x[:1], d)
            require_apart(lambda x: self.at(x.reshape(-1, *event), d), x.detach().flatten(1))

    def way(self, x: Float[Tensor, "N *event"], d: int) -> Derivatives:
        """How derivatives are taken at points like these.

        Raises:
            InputError: It does not return latent points.
            DecoderError: Its rows are coupled, it is random, or a part of it is hidden from autograd.
        """
        with _said_of_encoders():
            self.at(x[:1], d)
            return self._door(x.shape[1:], d).derivatives(x.detach().flatten(1))

    def push(self, x: Float[Tensor, "N *event"], u: Float[Tensor, "N *event"], d: int, mode: str) -> Tensor:
        """J_h(x) u, (N, d), by a mode of `jvp` where that sees all of the encoder."""
        require_choice("mode", mode, ("forward", "double_vjp"))
        way, door = self.way(x, d), self._door(x.shape[1:], d)
        if mode == "double_vjp" and way.reverse and way.curvature:
            return jvp(door, x.flatten(1), u.flatten(1), mode)
        return way.push(door, x.flatten(1), u.flatten(1))

    def _door(self, event: torch.Size, d: int) -> Door:
        if (event, d) not in self._doors:
            self._doors[event, d] = Door(lambda x: self.at(x.reshape(-1, *event), d), (self.encoder,))
        return self._doors[event, d]


@contextmanager
def _said_of_encoders() -> Iterator[None]:
    """Within it, what is found of a function is said of an encoder."""
    try:
        yield
    except DecoderError as error:
        raise DecoderError(str(error).replace("decoder", "encoder")) from error


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
        DecoderError: The rows of the encoder are coupled, it is random, or a part of it is hidden from autograd.

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
    return encoder_form(manifold, path, Encoder(encoder), mode)


def encoder_form(
    manifold: Manifold,
    path: Tensor,
    encoder: Encoder,
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
        product = encoder.push(interior.reshape(-1, *event), second_difference.reshape(-1, *event), d, mode)
    return -T * product.reshape(*path.shape[:-2], T - 1, d)
