"""Toy decoders that several tests share: small networks, and a hill."""

import torch
from torch import Tensor, nn


def network(d: int = 2, width: int = 16, outputs: int = 20, activation: type[nn.Module] = nn.ELU) -> nn.Module:
    """A network with enough curvature for geodesics to bend; the same one at each call, in float64."""
    torch.manual_seed(0)
    layers = [nn.Linear(d, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, outputs)]
    net = nn.Sequential(*layers)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(2)
    return net.double().requires_grad_(False)


def pairs(count: int, d: int = 2) -> tuple[Tensor, Tensor]:
    """Endpoints for it: the same ones at each call."""
    torch.manual_seed(1)
    return torch.randn(count, d), torch.randn(count, d)


def hill(z: Tensor) -> Tensor:
    """A hill between the ends, which the straight line climbs and a shorter way goes round."""
    return torch.cat([z, 3 * (-4 * z.square().sum(1, keepdim=True)).exp()], dim=1)
