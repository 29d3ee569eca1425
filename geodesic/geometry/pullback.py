"""Geometries that decoders pull back to their latent spaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geodesic.autodiff import jacobian, jvp
from geodesic.errors import DecoderError, InputError
from geodesic.geometry.chords import ChordManifold
from geodesic.geometry.embedded import EmbeddedManifold
from geodesic.geometry.outputs import DistanceGeometry, Euclidean, OutputGeometry

__all__ = ["DistancePullbackManifold", "EnsembleManifold", "IndependentEnsembleManifold", "PullbackManifold"]

Decoder = Callable[[Tensor], Tensor]


@final
class PullbackManifold(EmbeddedManifold):
    """Latent space with the geometry that a decoder g pulls back: x(z) = phi(g(z)), G = J^T J.

    Outputs without an embedding (`FisherRaoGaussian`) make a `DistancePullbackManifold` of it.

    Warning:
        A decoder in training mode is refused: batch normalisation couples the rows of a batch, which falsifies
        every product with the Jacobian, and dropout makes the metric random.

    Reference:
        H. Shao, A. Kumar, P. T. Fletcher, The Riemannian Geometry of Deep Generative Models, 2017.

    Args:
        decoder: Row-wise function g, (N, d) to (N, ...). A module should be in evaluation mode.
        outputs: Geometry phi of the decoder's outputs; Euclidean distance by default.
        latent_shape: The shape of a latent point, where the decoder wants (N, *latent_shape) instead of (N, d):
            (C, H, W) for the latent images of a diffusion autoencoder, say. `solve` then takes and returns points
            of this shape.

    Raises:
        DecoderError: The decoder cannot be called, or is a module in training mode with layers that behave
            differently there.
        InputError: `latent_shape` is no shape.

    Example:
        >>> import torch, geodesic
        >>> paraboloid = lambda z: torch.cat([z, (z * z).sum(1, keepdim=True)], dim=1)
        >>> geodesic.PullbackManifold(paraboloid).metric_tensor(torch.tensor([1.0, 0.0]))
        tensor([[5., 0.],
                [0., 1.]])
    """

    def __new__(cls, decoder: Any = None, outputs: Any = None, latent_shape: Any = None) -> Any:
        if isinstance(outputs, DistanceGeometry):
            # So that every geometry of outputs is chosen in the same way.
            return DistancePullbackManifold(decoder, outputs, latent_shape)
        return super().__new__(cls)

    def __init__(
        self,
        decoder: Decoder,
        outputs: OutputGeometry | DistanceGeometry | None = None,
        latent_shape: tuple[int, ...] | None = None,
    ) -> None:
        _require_decoder(decoder)
        if outputs is not None and not isinstance(outputs, OutputGeometry):
            raise DecoderError(
                f"outputs: expected an output geometry such as Euclidean(mean=...), got {type(outputs).__name__}"
            )
        self.decoder = decoder
        self.outputs = Euclidean() if outputs is None else outputs
        self.latent_shape = _checked_shape(latent_shape)

    def require_usable(self) -> None:
        require_evaluation_mode(self.decoder)

    def embed(self, z: Tensor) -> Tensor:
        return _embedded(self.decoder, self.outputs, z, self.latent_shape)

    def __repr__(self) -> str:
        return f"PullbackManifold({_name(self.decoder)}, {self.outputs})"


@final
class DistancePullbackManifold(ChordManifold):
    """Latent space with the geometry that a decoder g pulls back from outputs that have a distance but no embedding.

    G = J^T M J,   squared chord = d(g(z_i), g(z_{i+1}))^2   with the Jacobian J of g and the metric M of its outputs

    Args:
        decoder: As in `PullbackManifold`.
        outputs: Geometry of the decoder's outputs.
        latent_shape: As in `PullbackManifold`.

    Raises:
        DecoderError: The decoder cannot be called, or is in training mode.
        InputError: `latent_shape` is no shape.

    Example:
        >>> import torch, geodesic
        >>> def decoder(z):  # a mean, and a log scale, for one output
        ...     return torch.stack([z[:, :1], z[:, 1:].log()], dim=1)
        >>> plane = geodesic.DistancePullbackManifold(decoder, geodesic.FisherRaoGaussian())
        >>> plane.metric_tensor(torch.tensor([0.0, 2.0]))
        tensor([[0.2500, 0.0000],
                [0.0000, 0.5000]])
    """

    def __init__(
        self, decoder: Decoder, outputs: DistanceGeometry, latent_shape: tuple[int, ...] | None = None
    ) -> None:
        _require_decoder(decoder)
        if not isinstance(outputs, DistanceGeometry):
            raise DecoderError(
                f"outputs: expected a geometry with a distance such as FisherRaoGaussian(), got "
                f"{type(outputs).__name__}; embeddings belong to PullbackManifold"
            )
        self.decoder, self.outputs = decoder, outputs
        self.latent_shape = _checked_shape(latent_shape)

    def require_usable(self) -> None:
        require_evaluation_mode(self.decoder)

    def observe(self, z: Tensor) -> Tensor:
        return self._parameters(z.reshape(-1, z.shape[-1])).unflatten(0, z.shape[:-1])

    def metric_tensor(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        d = z.shape[-1]
        rows = z.reshape(-1, d)
        p, J = self._parameters(rows), jacobian(self._parameters, rows)
        columns = [self.outputs.in_orthonormal_frame(p, J[..., k]).flatten(1) for k in range(d)]
        Y = torch.stack(columns, dim=-1)
        return (Y.mT @ Y).reshape(*z.shape, d)

    def squared_norm(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        rows = z.reshape(-1, z.shape[-1])
        image = jvp(self._parameters, rows, v.reshape(rows.shape))
        y = self.outputs.in_orthonormal_frame(self._parameters(rows), image)
        return y.flatten(1).square().sum(1).reshape(z.shape[:-1])

    def squared_chords(self, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1"]:
        *batch, n, d = path.shape
        p = self._parameters(path.reshape(-1, d)).unflatten(0, (-1, n))
        squared = self.outputs.squared_distance(p[:, :-1].flatten(0, 1), p[:, 1:].flatten(0, 1))
        return squared.reshape(*batch, n - 1)

    def lower_bound(self, start: Float[Tensor, "*batch d"], end: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """The distance of the two outputs."""
        return self.squared_chords(torch.stack([start, end], dim=-2))[..., 0].sqrt()

    def _parameters(self, z: Float[Tensor, "N d"]) -> Tensor:
        return _decoded(self.decoder, z, self.latent_shape)

    def __repr__(self) -> str:
        return f"DistancePullbackManifold({_name(self.decoder)}, {self.outputs})"


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
    ) -> None:
        decoders = tuple(decoders)
        if len(decoders) < 2:
            raise InputError(f"decoders: an ensemble has at least 2 members, got {len(decoders)}; use PullbackManifold")
        for k, decoder in enumerate(decoders):
            _require_decoder(decoder, f"decoders[{k}]")
        if outputs is not None and not isinstance(outputs, OutputGeometry):
            raise InputError(
                f"outputs: an ensemble needs an output geometry with an embedding, such as Euclidean(mean=...), got "
                f"{type(outputs).__name__}"
            )
        self.decoders = decoders
        self.outputs = Euclidean() if outputs is None else outputs
        self.latent_shape = _checked_shape(latent_shape)

    def require_usable(self) -> None:
        for k, decoder in enumerate(self.decoders):
            require_evaluation_mode(decoder, f"decoders[{k}]")

    def embed(self, z: Tensor) -> Tensor:
        """x_k(z) / sqrt K side by side, (*batch, K, ...), at points z, (*batch, d)."""
        members = [_embedded(decoder, self.outputs, z, self.latent_shape) for decoder in self.decoders]
        shapes = {tuple(x.shape[z.dim() - 1 :]) for x in members}
        if len(shapes) > 1:
            raise DecoderError(f"decoders: their outputs differ in shape: {', '.join(map(str, sorted(shapes)))}")
        return torch.stack(members, dim=z.dim() - 1) / math.sqrt(len(members))

    def __repr__(self) -> str:
        return f"EnsembleManifold({len(self.decoders)} x {_name(self.decoders[0])}, {self.outputs})"


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

    Raises:
        DecoderError: A decoder cannot be called, or is in training mode.
        InputError: There are fewer than 2 decoders, or the geometry has no embedding.

    Example:
        >>> import torch, geodesic
        >>> manifold = geodesic.IndependentEnsembleManifold([lambda z: z, lambda z: 3 * z])
        >>> manifold.squared_chords(torch.tensor([[0.0], [1.0]]))
        tensor([5.])
    """

    has_length: ClassVar[bool] = False

    def __init__(
        self,
        decoders: Sequence[Decoder],
        outputs: OutputGeometry | DistanceGeometry | None = None,
        latent_shape: tuple[int, ...] | None = None,
    ) -> None:
        self._same = EnsembleManifold(decoders, outputs, latent_shape)
        self.decoders, self.outputs, self.latent_shape = (
            self._same.decoders,
            self._same.outputs,
            self._same.latent_shape,
        )

    def require_usable(self) -> None:
        self._same.require_usable()

    def observe(self, z: Tensor) -> Tensor:
        return self._same.embed(z)

    def metric_tensor(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        return self._same.metric_tensor(z)

    def squared_norm(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        return self._same.squared_norm(z, v)

    def squared_chords(self, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1"]:
        member = path.dim() - 1
        x = (self._same.embed(path) * math.sqrt(len(self.decoders))).flatten(member + 1)
        mean = x.mean(member)
        variance = (x - mean.unsqueeze(member)).square().mean(member).sum(-1)
        return mean.diff(dim=-2).square().sum(-1) + variance[..., 1:] + variance[..., :-1]

    def __repr__(self) -> str:
        return f"Independent{self._same!r}"


# --- decoders -----------------------------------------------------------------------------------


def _require_decoder(decoder: object, argument: str = "decoder") -> None:
    """Refuse what is no function, or is in training mode."""
    if not callable(decoder):
        raise DecoderError(f"{argument}: expected a function from (N, d) to (N, ...), got {type(decoder).__name__}")
    require_evaluation_mode(decoder, argument)


_UNLIKE_IN_TRAINING = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.dropout._DropoutNd,
    nn.modules.instancenorm._InstanceNorm,
)


def require_evaluation_mode(decoder: object, argument: str = "decoder") -> None:
    """Refuse a decoder with layers that behave differently in training."""
    # A bound method, such as `vae.decode`, is as much in training mode as the module that it belongs to.
    owner = decoder if isinstance(decoder, nn.Module) else getattr(decoder, "__self__", None)
    if not isinstance(owner, nn.Module):
        return
    for name, module in owner.named_modules():
        if module.training and isinstance(module, _UNLIKE_IN_TRAINING):
            kind = type(module).__name__
            raise DecoderError(
                f"{argument}: its layer {name or kind!r} ({kind}) is in training mode, where the rows of a batch "
                f"are coupled or random; call {argument}.eval() first"
            )


def _decoded(decoder: Decoder, z: Tensor, latent_shape: tuple[int, ...] | None) -> Tensor:
    """The decoder's output, (N, ...), for rows z, (N, d)."""
    rows = z.clone()  # a decoder may begin with an operation in place
    parameters = decoder(rows if latent_shape is None else rows.reshape(-1, *latent_shape))
    if not isinstance(parameters, Tensor):
        raise DecoderError(f"decoder: expected a tensor of shape (N, ...), got {type(parameters).__name__}")
    if parameters.shape[:1] != z.shape[:1]:
        raise DecoderError(
            f"decoder: {len(z)} points gave an output of shape {tuple(parameters.shape)}; it must map (N, d) to "
            "(N, ...), one row for each"
        )
    return parameters


def _embedded(decoder: Decoder, outputs: OutputGeometry, z: Tensor, latent_shape: tuple[int, ...] | None) -> Tensor:
    """phi(g(z)), (*batch, ...), with at least one axis after those of the points z, (*batch, d)."""
    rows = z.reshape(-1, z.shape[-1])
    x = outputs.embed(_decoded(decoder, rows, latent_shape))
    if x.shape[:1] != rows.shape[:1]:
        raise DecoderError(
            f"outputs: {outputs} gave the shape {tuple(x.shape)} for {len(rows)} outputs; it must keep the rows apart"
        )
    return x.reshape(*z.shape[:-1], *(x.shape[1:] or (1,)))


def _checked_shape(shape: Any) -> tuple[int, ...] | None:
    shape = tuple(shape) if isinstance(shape, list | torch.Size) else shape
    if shape is None:
        return None
    if not isinstance(shape, tuple) or not (shape and all(type(n) is int and n > 0 for n in shape)):
        raise InputError(f"latent_shape: expected positive integers such as (4, 8, 8), got {shape!r}")
    return shape


def _name(decoder: Decoder) -> str:
    return getattr(decoder, "__name__", type(decoder).__name__)
