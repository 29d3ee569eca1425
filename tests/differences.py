"""Geometry from the values of a decoder alone: central differences of fourth order, and no derivative of torch's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Decoder = Callable[[Tensor], Tensor]

_FIRST = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))
_SECOND = ((-2, -1 / 12), (-1, 16 / 12), (0, -30 / 12), (1, 16 / 12), (2, -1 / 12))


def _combined(f: Decoder, z: Tensor, v: Tensor, stencil: tuple[tuple[int, float], ...], h: float) -> Tensor:
    with torch.no_grad():
        y = f(torch.cat([z + k * h * v for k, _ in stencil])).flatten(1).unflatten(0, (len(stencil), len(z)))
    return sum(weight * part for (_, weight), part in zip(stencil, y, strict=True))


def along(f: Decoder, z: Tensor, v: Tensor, h: float = 1e-3) -> Tensor:
    """J v, (N, D)."""
    return _combined(f, z, v, _FIRST, h) / h


def jacobian(f: Decoder, z: Tensor, h: float = 1e-3) -> Tensor:
    """J, (N, D, d)."""
    return torch.stack([along(f, z, e.expand_as(z), h) for e in torch.eye(z.shape[1], dtype=z.dtype)], dim=-1)


def metric(f: Decoder, z: Tensor, h: float = 1e-3) -> Tensor:
    """G, (N, d, d)."""
    J = jacobian(f, z, h)
    return J.mT @ J


def bend(f: Decoder, z: Tensor, v: Tensor, w: Tensor, h: float = 3e-3) -> Tensor:
    """D^2 f (v, w), (N, D), by polarization."""
    both, none = (_combined(f, z, u, _SECOND, h) / h**2 for u in (v + w, v - w))
    return (both - none) / 4


def acceleration(f: Decoder, z: Tensor, v: Tensor, h: float = 3e-3) -> Tensor:
    """-Gamma(v, v), (N, d)."""
    J, bent = jacobian(f, z), _combined(f, z, v, _SECOND, h) / h**2
    return -torch.linalg.solve(J.mT @ J, (J.mT @ bent[..., None])[..., 0])


def scalar_curvature(f: Decoder, z: Tensor, h: float = 3e-3) -> Tensor:
    """Twice the Gauss curvature of a surface, (N,): 2 (<II_11, II_22> - |II_12|^2) / det G."""
    J, (a, b) = jacobian(f, z), torch.eye(2, dtype=z.dtype)
    G = J.mT @ J
    B = torch.stack([bend(f, z, *(x.expand_as(z) for x in xs), h) for xs in ((a, a), (a, b), (b, b))], dim=-1)
    normal = B - J @ torch.linalg.solve(G, J.mT @ B)
    gauss = (normal[..., 0] * normal[..., 2]).sum(1) - normal[..., 1].square().sum(1)
    return 2 * gauss / torch.linalg.det(G)


def follow(f: Decoder, z: Tensor, v: Tensor, steps: int = 8) -> Tensor:
    """The end of a geodesic from z with velocity v, (N, d): Runge-Kutta."""

    def rate(state: Tensor) -> Tensor:
        z, v = state
        return torch.stack([v, acceleration(f, z, v)])

    state, h = torch.stack([z, v]), 1 / steps
    for _ in range(steps):
        k1 = rate(state)
        k2 = rate(state + h / 2 * k1)
        k3 = rate(state + h / 2 * k2)
        k4 = rate(state + h * k3)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state[0]


def energy(f: Decoder, path: Tensor) -> Tensor:
    """T/2 times the sum of squared chords, (P,)."""
    with torch.no_grad():
        x = f(path.reshape(-1, path.shape[-1])).reshape(*path.shape[:-1], -1)
    return (path.shape[-2] - 1) / 2 * x.diff(dim=-2).square().sum((-1, -2))


def energy_slope(f: Decoder, path: Tensor, bumps: Tensor, h: float = 1e-4) -> Tensor:
    """The derivative of the energy of one path, (T + 1, d), along bumps, (B, T + 1, d): (B,)."""
    return (energy(f, path + h * bumps) - energy(f, path - h * bumps)) / (2 * h)
