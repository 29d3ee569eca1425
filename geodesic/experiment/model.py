"""A model as experiments use it: decoders, whoever trained them, and what is needed around them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.geometry.outputs import DistanceGeometry, OutputGeometry
from geodesic.models.likelihoods import Gaussian, Likelihood
from geodesic.models.vae import VAE

__all__ = ["Model", "model_of"]


@dataclass(frozen=True)
class Model:
    """Decoders with what is needed around them, whether the project trained them or not.

    Args:
        decoders: From latent points (N, d) to parameters, each; more than one for an ensemble.
        output_mean: How a decoder's output becomes a mean.
        encoder: From rows to latent points, if there is one.
        latent_size: d.
        likelihood: What the parameters mean, if that is known.
        varying_scale: Whether the scale of a Gaussian likelihood depends on z.
        period: Of each latent coordinate, see `geodesic.PullbackManifold`.
        natural: The geometry that a decoder of the user's names by what it returns, if it does.
        image_shape: In which means that are flat are drawn, if they are images.
    """

    decoders: tuple[Callable[[Tensor], Tensor], ...]
    output_mean: Callable[[Tensor], Tensor]
    encoder: Callable[[Tensor], Tensor] | None
    latent_size: int
    likelihood: Likelihood | None = None
    varying_scale: bool = True
    period: tuple[float | None, ...] | None = None
    natural: OutputGeometry | DistanceGeometry | None = None
    image_shape: tuple[int, ...] | None = None

    def mean(self, z: Float[Tensor, "N d"]) -> Tensor:
        """Expected rows at latent points, (N, *event): averaged over the members of an ensemble."""
        return torch.stack([self.output_mean(decoder(z)) for decoder in self.decoders]).mean(0)

    def pictured(self, x: Float[Tensor, "N *event"]) -> Tensor:
        """Means or rows of data in the shape in which they are drawn: flat ones as images, if they are images."""
        if self.image_shape is None or x.shape[1:].numel() != math.prod(self.image_shape):
            return x
        return x.reshape(-1, *self.image_shape)


def model_of(vae: VAE) -> Model:
    """A trained VAE as a model."""
    likelihood = vae.likelihood
    varying = vae.uncertainty is not None or (isinstance(likelihood, Gaussian) and likelihood.scale == "per_pixel")
    return Model(vae.decoders, likelihood.mean, vae.encode, vae.latent_size, likelihood, varying)
