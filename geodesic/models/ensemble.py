"""Several decoders of one latent space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geodesic.errors import InputError

__all__ = ["DecoderEnsemble"]


class DecoderEnsemble(nn.Module):
    """K decoders trained together behind one encoder, each from its own random weights.

    They agree where there are data, and drift apart where there are none: what `EnsembleManifold` and
    `IndependentEnsembleManifold` make a geometry of.

    Reference:
        S. Syrota, P. Moreno-Muñoz, S. Hauberg, Decoder ensembling for learned latent geometries, 2024.

    Args:
        members: Decoders, (N, d) to parameters of one shape, (N, *parameter_shape); at least 2.

    Raises:
        InputError: There are fewer than 2 members.

    Example:
        >>> import torch
        >>> from geodesic.models.ensemble import DecoderEnsemble
        >>> DecoderEnsemble([torch.nn.Linear(2, 5) for _ in range(3)])(torch.zeros(7, 2)).shape
        torch.Size([7, 3, 5])
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(members) < 2:
            raise InputError(f"decoders: an ensemble has at least 2 members, got {len(members)}")
        self.members = nn.ModuleList(members)

    def forward(self, z: Tensor) -> Tensor:
        """The members' parameters, (N, K, *parameter_shape), at latent points z, (N, d)."""
        return torch.stack([member(z) for member in self.members], dim=1)
