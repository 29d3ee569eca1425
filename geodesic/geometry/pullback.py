"""The geometry that a decoder pulls back to its latent space."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.door.door import Door
from geodesic.errors import InputError
from geodesic.geometry.batches import AnyBatch
from geodesic.geometry.chords import ChordManifold
from geodesic.geometry.decoders import (
    Decoder,
    checked_shape,
    decoded,
    embedded,
    examine,
    name_of,
    require_decoder,
    require_evaluation_mode,
)
from geodesic.geometry.embedded import EmbeddedManifold
from geodesic.geometry.manifold import Deviation, Expansion, Manifold
from geodesic.geometry.outputs import DistanceGeometry, Euclidean, OutputGeometry
from geodesic.geometry.period import Period, checked_period, said

__all__ = ["PullbackManifold"]


@final
class PullbackManifold(Manifold):
    """Latent space with the geometry that a decoder g pulls back from its outputs.

    G = J^T J,   x(z) = phi(g(z))   where the output geometry has an embedding phi, with J the Jacobian of x;
    G = J^T M J,   squared chord = d(g(z_i), g(z_{i+1}))^2   where it has a distance d with metric M instead
    (`FisherRaoGaussian`), with J the Jacobian of g.

    Warning:
        A decoder in training mode is refused: batch normalization couples the rows of a batch, which falsifies
        every product with the Jacobian, and dropout makes the metric random.

    Reference:
        H. Shao, A. Kumar, P. T. Fletcher, The Riemannian Geometry of Deep Generative Models, 2017.

    Args:
        decoder: Row-wise function g, (N, d) to (N, ...). A module should be in evaluation mode.
        outputs: Geometry of the decoder's outputs; Euclidean distance by default.
        latent_shape: The shape of a latent point, where the decoder wants (N, *latent_shape) instead of (N, d):
            (C, H, W) for the latent images of a diffusion autoencoder, say. `solve` then takes and returns points
            of this shape.
        period: For each latent coordinate its period, None where it has none: `(2 * pi, None)` where the first is an
            angle. Points that differ by whole periods are then one and the same to all tools, and `solve` goes the
            shorter way round. In float32 periods are as exact as the decoder is at points a period away.

    Raises:
        DecoderError: The decoder cannot be called, or is a module in training mode with layers that behave
            differently there.
        InputError: `outputs` is no output geometry, `latent_shape` no shape, or an entry of `period` no positive
            number; from tools, where the outputs do not come round after a period.

    Example:
        >>> import torch, geodesic
        >>> paraboloid = lambda z: torch.cat([z, (z * z).sum(1, keepdim=True)], dim=1)
        >>> geodesic.PullbackManifold(paraboloid).metric_tensor(torch.tensor([1.0, 0.0]))
        tensor([[5., 0.],
                [0., 1.]])
    """

    def __init__(
        self,
        decoder: Decoder,
        outputs: OutputGeometry | DistanceGeometry | None = None,
        latent_shape: tuple[int, ...] | None = None,
        period: Period | None = None,
    ) -> None:
        require_decoder(decoder)
        self.decoder = decoder
        self.outputs = Euclidean() if outputs is None else outputs
        self.latent_shape = checked_shape(latent_shape)
        self.period = checked_period(period)
        self._geometry = _geometry(AnyBatch(decoder), self.outputs, self.latent_shape)
        self.has_embedding, self.has_chords = self._geometry.has_embedding, self._geometry.has_chords

    @property
    def door(self) -> Door | None:
        return self._geometry.door

    def require_usable(self) -> None:
        require_evaluation_mode(self.decoder)

    def examine(self, z: Float[Tensor, "N d"], given: Tensor | None = None) -> None:
        examine(self.decoder, self.outputs, z, self.latent_shape, given=given)

    def embed(self, z: Tensor) -> Tensor:
        return self._geometry.embed(z) if self.has_embedding else super().embed(z)

    def observe(self, z: Float[Tensor, "*batch d"]) -> Tensor:
        return self._geometry.observe(z)

    def metric_tensor(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        return self._geometry.metric_tensor(z)

    def squared_norm(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        return self._geometry.squared_norm(z, v)

    def squared_chords(self, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1"]:
        return self._geometry.squared_chords(path)

    def chords_of_one_and_two(
        self, path: Float[Tensor, "*batch nodes d"]
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Float[Tensor, "*batch nodes-2"]]:
        return self._geometry.chords_of_one_and_two(path)

    def chords_and_pullback(
        self, path: Float[Tensor, "*batch nodes d"], weights: Float[Tensor, "*batch nodes-1"] | None = None
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Callable[[], Tensor]]:
        return self._geometry.chords_and_pullback(path, weights)

    def gradient_and_product(
        self, path: Float[Tensor, "*batch nodes d"], weights: Float[Tensor, "*batch nodes-1"] | None = None
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Tensor, Callable[[Tensor], Tensor]]:
        return self._geometry.gradient_and_product(path, weights)

    def lowered(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return self._geometry.lowered(z, v)

    def expansion(
        self, path: Float[Tensor, "paths nodes d"], weights: Float[Tensor, "paths nodes-1"] | None = None
    ) -> Expansion:
        return self._geometry.expansion(path, weights)

    def lowered_acceleration(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], w: Float[Tensor, "*batch d"]
    ) -> Float[Tensor, "*batch d"]:
        return self._geometry.lowered_acceleration(z, v, w)

    def metric_and_acceleration(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], w: Float[Tensor, "*batch d"]
    ) -> tuple[Float[Tensor, "*batch d d"], Float[Tensor, "*batch d"]]:
        return self._geometry.metric_and_acceleration(z, v, w)

    def lowered_connection(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]
    ) -> Float[Tensor, "*batch d d"]:
        return self._geometry.lowered_connection(z, v)

    def deviation(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Deviation:
        return self._geometry.deviation(z, v)

    def riemann(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d d d"]:
        return self._geometry.riemann(z)

    def apart(self, x: Float[Tensor, "P *outputs"], y: Float[Tensor, "P *outputs"]) -> Float[Tensor, " P"]:
        return self._geometry.apart(x, y)

    def __repr__(self) -> str:
        note = self._geometry.door.note if self._geometry.door else ""
        return f"PullbackManifold({name_of(self.decoder)}, {self.outputs}{said(self.period)}{note and '; ' + note})"


def _geometry(decoder: Decoder, outputs: object, latent_shape: tuple[int, ...] | None) -> Manifold:
    """The two ways to pull back: by an embedding, where there is one, which is cheaper, or by distances."""
    if isinstance(outputs, OutputGeometry):
        return _ByEmbedding(decoder, outputs, latent_shape)
    if isinstance(outputs, DistanceGeometry):
        return _ByDistance(decoder, outputs, latent_shape)
    got = f"the class {outputs.__name__} itself" if isinstance(outputs, type) else type(outputs).__name__
    function = callable(outputs) and not isinstance(outputs, type)
    hint = "; an encoder goes to `shoot` or `GradientDescent`" if function else ""
    raise InputError(f"outputs: expected an output geometry such as Euclidean(mean=...), got {got}{hint}")


@final
class _ByEmbedding(EmbeddedManifold):
    def __init__(self, decoder: Decoder, outputs: OutputGeometry, latent_shape: tuple[int, ...] | None) -> None:
        self.decoder, self.outputs, self.latent_shape = decoder, outputs, latent_shape
        self._decoder = Door(lambda z: embedded(decoder, outputs, z, latent_shape), (decoder, outputs))

    @property
    def door(self) -> Door:
        return self._decoder

    def embed(self, z: Tensor) -> Tensor:
        return self._decoder(z)


@final
class _ByDistance(ChordManifold):
    has_chords = True

    def __init__(self, decoder: Decoder, outputs: DistanceGeometry, latent_shape: tuple[int, ...] | None) -> None:
        self.decoder, self.outputs, self.latent_shape = decoder, outputs, latent_shape
        self._decoder = Door(lambda z: decoded(decoder, z, latent_shape), (decoder,))

    @property
    def door(self) -> Door:
        return self._decoder

    def observe(self, z: Tensor) -> Tensor:
        return self._decoder(z.reshape(-1, z.shape[-1])).unflatten(0, z.shape[:-1])

    def metric_tensor(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        d = z.shape[-1]
        rows = z.reshape(-1, d)
        p, J = self._decoder(rows), self.way(z).jacobian(self._decoder, rows)
        columns = [self.outputs.in_orthonormal_frame(p, J[..., k]).flatten(1) for k in range(d)]
        Y = torch.stack(columns, dim=-1)
        return (Y.mT @ Y).reshape(*z.shape, d)

    def squared_norm(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        rows = z.reshape(-1, z.shape[-1])
        image = self.way(z).push(self._decoder, rows, v.reshape(rows.shape))
        y = self.outputs.in_orthonormal_frame(self._decoder(rows), image)
        return y.flatten(1).square().sum(1).reshape(z.shape[:-1])

    def squared_chords(self, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1"]:
        *batch, n, d = path.shape
        p = self._decoder(path.reshape(-1, d)).unflatten(0, (-1, n))
        squared = self.outputs.squared_distance(p[:, :-1].flatten(0, 1), p[:, 1:].flatten(0, 1))
        return squared.reshape(*batch, n - 1)

    def apart(self, x: Float[Tensor, "P *outputs"], y: Float[Tensor, "P *outputs"]) -> Float[Tensor, " P"]:
        """The distance of the two outputs."""
        return self.outputs.squared_distance(x, y).sqrt()
