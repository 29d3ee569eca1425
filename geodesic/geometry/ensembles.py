"""Geometries of ensembles of decoders: where the members disagree, nothing was learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.door.door import Door
from geodesic.errors import DecoderError, InputError
from geodesic.geometry.batches import AnyBatch
from geodesic.geometry.chords import ChordManifold
from geodesic.geometry.decoders import (
    Decoder,
    checked_shape,
    embedded,
    examine,
    name_of,
    require_decoder,
    require_evaluation_mode,
)
from geodesic.geometry.embedded import EmbeddedManifold
from geodesic.geometry.outputs import DistanceGeometry, Euclidean, OutputGeometry
from geodesic.geometry.period import Period, checked_period, said

__all__ = ["EnsembleManifold", "IndependentEnsembleManifold"]


@final
class EnsembleManifold(EmbeddedManifold):
    """Latent space with the average geometry of an ensemble of K decoders: the same member at both ends of a segment.

    squared chord = 1/K sum over k of |x_k(z_{i+1}) - x_k(z_i)|^2,   G = 1/K sum over k of J_k^T J_k

    x_k(z) = phi(g_k(z)) is the embedded output of member k.

    It is an embedding, the members' outputs side by side over sqrt K, with all that holds for embeddings. Members that
    disagree by a constant do not notice it: see `IndependentEnsembleManifold`.

    Reference:
        S. Syrota, P. Moreno-Muñoz, S. Hauberg, Decoder ensembling for learned latent geometries, 2024.

    Args:
        decoders: Row-wise functions g_k, (N, d) to (N, ...), at least 2, trained together.
        outputs: Geometry of their outputs, with an embedding; Euclidean distance by default.
        latent_shape: As in `PullbackManifold`.
        period: As in `PullbackManifold`.

    Raises:
        DecoderError: A decoder cannot be called, or is in training mode.
        InputError: There are fewer than 2 decoders, or the geometry has no embedding.

    Example:
        >>> import torch, geodesic
        >>> G = geodesic.EnsembleManifold([lambda z: z, lambda z: 3 * z]).metric_tensor(torch.zeros(1))
        >>> print(f"{float(G):.3f}")
        5.000
    """

    def __init__(
        self,
        decoders: Sequence[Decoder],
        outputs: OutputGeometry | DistanceGeometry | None = None,
        latent_shape: tuple[int, ...] | None = None,
        period: Period | None = None,
    ) -> None:
        decoders = tuple(decoders)
        if len(decoders) < 2:
            raise InputError(f"decoders: an ensemble has at least 2 members, got {len(decoders)}; use PullbackManifold")
        for k, decoder in enumerate(decoders):
            require_decoder(decoder, f"decoders[{k}]")
        if outputs is not None and not isinstance(outputs, OutputGeometry):
            raise InputError(
                f"outputs: an ensemble needs an output geometry with an embedding, such as Euclidean(mean=...), got "
                f"{type(outputs).__name__}"
            )
        self.decoders, self._of_any_batch = decoders, tuple(map(AnyBatch, decoders))
        self.outputs = Euclidean() if outputs is None else outputs
        self.latent_shape = checked_shape(latent_shape)
        self.period = checked_period(period)
        self._door = Door(self.embed, (*decoders, self.outputs))

    @property
    def door(self) -> Door:
        return self._door

    def require_usable(self) -> None:
        for k, decoder in enumerate(self.decoders):
            require_evaluation_mode(decoder, f"decoders[{k}]")

    def examine(self, z: Float[Tensor, "N d"], given: Tensor | None = None) -> None:
        for k, decoder in enumerate(self.decoders):
            examine(decoder, self.outputs, z, self.latent_shape, f"decoders[{k}]", given)

    def embed(self, z: Tensor) -> Tensor:
        """x_k(z) / sqrt K side by side, (*batch, K, ...), at points z, (*batch, d)."""
        members = [embedded(decoder, self.outputs, z, self.latent_shape) for decoder in self._of_any_batch]
        shapes = {tuple(x.shape[z.dim() - 1 :]) for x in members}
        if len(shapes) > 1:
            raise DecoderError(f"decoders: their outputs differ in shape: {', '.join(map(str, sorted(shapes)))}")
        return torch.stack(members, dim=z.dim() - 1) / math.sqrt(len(members))

    def __repr__(self) -> str:
        note = said(self.period) + (self.door.note and f"; {self.door.note}")
        return f"EnsembleManifold({len(self.decoders)} x {name_of(self.decoders[0])}, {self.outputs}{note})"


@final
class IndependentEnsembleManifold(ChordManifold):
    """Latent space with the expected geometry of an ensemble whose members are drawn anew at every node.

    squared chord = |m(z_{i+1}) - m(z_i)|^2 + v(z_i) + v(z_{i+1})

    m(z) and v(z) are the mean and the total variance of x_k(z) = phi(g_k(z)) over the members k. Disagreement itself
    costs, and it grows away from the data.

    Warning:
        These chords do not vanish with the step: the energy grows with T^2, the number of segments T is part of the
        model, and there is no limiting length. Whatever speaks of a limit does not apply: `solve` refuses
        `length_rtol`, its lengths are sums of chords at that T, and no answer is resolved. `metric_tensor` and
        `squared_norm` are those of `EnsembleManifold`, the part that does vanish with the step; a solution's decoder
        residual, variation of speed and velocity speak of that part alone.

    Reference:
        S. Syrota, P. Moreno-Muñoz, S. Hauberg, Decoder ensembling for learned latent geometries, 2024.

    Args:
        decoders: As in `EnsembleManifold`.
        outputs: As in `EnsembleManifold`.
        latent_shape: As in `PullbackManifold`.
        period: As in `PullbackManifold`.

    Raises:
        DecoderError: A decoder cannot be called, or is in training mode.
        InputError: There are fewer than 2 decoders, or the geometry has no embedding.

    Example:
        >>> import torch, geodesic
        >>> manifold = geodesic.IndependentEnsembleManifold([lambda z: z, lambda z: 3 * z])
        >>> manifold.squared_chords(torch.tensor([[0.0], [1.0]]))
        tensor([5.])
    """

    has_length = False

    def __init__(
        self,
        decoders: Sequence[Decoder],
        outputs: OutputGeometry | DistanceGeometry | None = None,
        latent_shape: tuple[int, ...] | None = None,
        period: Period | None = None,
    ) -> None:
        self._same = EnsembleManifold(decoders, outputs, latent_shape, period)
        self.decoders, self.outputs = self._same.decoders, self._same.outputs
        self.latent_shape, self.period = self._same.latent_shape, self._same.period

    @property
    def door(self) -> Door:
        return self._same.door

    def require_usable(self) -> None:
        self._same.require_usable()

    def examine(self, z: Float[Tensor, "N d"], given: Tensor | None = None) -> None:
        self._same.examine(z, given)

    def observe(self, z: Tensor) -> Tensor:
        return self.door(z)

    def metric_tensor(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        return self._same.metric_tensor(z)

    def squared_norm(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        return self._same.squared_norm(z, v)

    def squared_chords(self, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1"]:
        member = path.dim() - 1
        x = (self.door(path) * math.sqrt(len(self.decoders))).flatten(member + 1)
        mean = x.mean(member)
        variance = (x - mean.unsqueeze(member)).square().mean(member).sum(-1)
        return mean.diff(dim=-2).square().sum(-1) + variance[..., 1:] + variance[..., :-1]

    def __repr__(self) -> str:
        return f"Independent{self._same!r}"
