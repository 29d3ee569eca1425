"""Embeddings with known geodesics, for the tests."""

import torch
from torch import Tensor


def paraboloid(z: Tensor) -> Tensor:
    return torch.cat([z, (z * z).sum(1, keepdim=True)], dim=1)


def saddle(z: Tensor) -> Tensor:
    return torch.cat([z, z[:, :1] ** 2 - z[:, 1:] ** 2], dim=1)


def sphere(z: Tensor) -> Tensor:
    theta, phi = z[:, 0], z[:, 1]
    return torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], dim=1)


def cylinder(z: Tensor) -> Tensor:
    return torch.stack([z[:, 0].cos(), z[:, 0].sin(), z[:, 1]], dim=1)


def flat_torus(z: Tensor) -> Tensor:
    return torch.cat([(3 * z).cos(), (3 * z).sin()], dim=1) / 3


# name: (embedding, start, end, geodesic length, straight length or None)
KNOWN = {
    "paraboloid": (paraboloid, (1.0, 0.0), (-0.5, 1.0), 2.0993679301, 2.5425587),
    "saddle": (saddle, (1.0, 0.5), (-1.0, 1.0), 2.5977711346, None),
    "sphere": (sphere, (torch.pi / 4, 0.0), (torch.pi / 4, 2.0), 1.2745558, 2**0.5),
    "cylinder": (cylinder, (0.0, 0.0), (2.0, 1.0), 5**0.5, 5**0.5),
    "flat torus": (flat_torus, (0.0, 0.0), (0.5, 1.0), 1.25**0.5, 1.25**0.5),
}
