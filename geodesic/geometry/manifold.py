"""Manifolds: a latent space together with the geometry that a decoder gives it.

A manifold knows local quantities only. It never solves and knows no network: its decoder is a function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geodesic.autodiff import jacobian, jvp
from geodesic.errors import DecoderError, InputError
from geodesic.geometry.outputs import Euclidean, OutputGeometry

__all__ = ["EmbeddedManifold", "Manifold", "MetricManifold", "PullbackManifold"]


class Manifold(ABC):
    """Latent space with a Riemannian metric G(z).

    Two primitives suffice to find geodesics: the metric tensor, and the squared chords between the
    neighbours of a path. The squared norm of a vector and the gradient of the chords have methods of their own
    because they are often far cheaper than what the primitives would cost. Solvers, energies and lengths use
    nothing else.
    """

    @abstractmethod
    def metric_tensor(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        """G(z), (*batch, d, d), symmetric, at points z, (*batch, d)."""

    @abstractmethod
    def squared_norm(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """v^T G(z) v, (*batch,), for vectors v, (*batch, d), at points z, (*batch, d)."""

    @abstractmethod
    def squared_chords(self, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1"]:
        """Squared distance between neighbours, (*batch, T), along paths, (*batch, T + 1, d)."""

    @abstractmethod
    def chords_and_gradient(
        self, path: Float[Tensor, "*batch nodes d"]
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Float[Tensor, "*batch nodes-2 d"]]:
        """The squared chords, and the gradient of half their sum in the interior nodes; both without history."""


class MetricManifold(Manifold):
    """A manifold given by its metric tensor alone: what has no embedding at hand, or none at all.

    squared chord = u^T G((z_i + z_{i+1}) / 2) u,   u = z_{i+1} - z_i

    Only `metric_tensor` is left to write; it must be differentiable in z by autograd and treat rows apart.

    The metric is taken at the midpoint of a segment, which is of second order in 1/T. With the metric at the left
    node, a rule often seen, the energy is of first order only, its minimiser jumps where the metric is small, and
    lengths read off it lie below the true distance.

    Warning:
        These chords are no distances between points of a Euclidean space: twice the energy may exceed the squared
        distance, or fall short of it, by order 1/T^2.
    """

    @final
    def squared_norm(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        return _quadratic_form(self.metric_tensor(z), v)

    @final
    def squared_chords(self, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1"]:
        return _quadratic_form(self.metric_tensor(_midpoints(path)), path.diff(dim=-2))

    @final
    def chords_and_gradient(
        self, path: Float[Tensor, "*batch nodes d"]
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Float[Tensor, "*batch nodes-2 d"]]:
        with torch.inference_mode(False), torch.enable_grad():
            nodes = (path.clone() if path.is_inference() else path.detach()).requires_grad_()
            G = self.metric_tensor(_midpoints(nodes))
            # A constant metric has no derivative; one that merely hides it would give a gradient without dG/dz.
            if not G.requires_grad and not torch.equal(G, G[..., :1, :, :].expand_as(G)):
                raise InputError(
                    "manifold: its metric_tensor changes with z, but not as far as autograd can see; look for "
                    "no_grad or detach"
                )
            chords = _quadratic_form(G, nodes.diff(dim=-2))
            (gradient,) = torch.autograd.grad(chords.sum() / 2, nodes)
        return chords.detach(), gradient[..., 1:-1, :]


def _midpoints(path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1 d"]:
    return (path[..., 1:, :] + path[..., :-1, :]) / 2


def _quadratic_form(G: Float[Tensor, "*batch d d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    return (v * (G @ v[..., None])[..., 0]).sum(-1)


class EmbeddedManifold(Manifold):
    """A manifold given by an embedding x(z) into Euclidean space: G = J^T J with J the Jacobian of x.

    Only `embed` is left to write.
    """

    @abstractmethod
    def embed(self, z: Tensor) -> Tensor:
        """x(z), (*batch, ...): points of Euclidean space of any event shape, for points z, (*batch, d)."""

    @final
    def metric_tensor(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        J = self.jacobian(z)
        return J.mT @ J

    @final
    def squared_norm(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        d = z.shape[-1]
        rows = jvp(self.embed, z.reshape(-1, d), v.reshape(-1, d))
        return rows.flatten(1).square().sum(-1).reshape(z.shape[:-1])

    @final
    def squared_chords(self, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1"]:
        x = self.embed(path).flatten(path.dim() - 1)
        return x.diff(dim=-2).square().sum(-1)

    @final
    def chords_and_gradient(
        self, path: Float[Tensor, "*batch nodes d"]
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Float[Tensor, "*batch nodes-2 d"]]:
        time = path.dim() - 2
        with torch.inference_mode(False), torch.enable_grad():
            nodes = (path.clone() if path.is_inference() else path.detach()).requires_grad_()
            x = self.embed(nodes)
        if not x.requires_grad:
            raise DecoderError(
                "decoder: its output does not depend on z as far as autograd can see; look for no_grad, detach, "
                "rounding, or a constant"
            )
        step = x.detach().diff(dim=time)
        # The cotangent of x_i is minus its second difference. The ends are fixed: nothing is asked of them.
        cotangent = torch.zeros_like(x)
        interior = step.shape[time] - 1
        torch.sub(
            step.narrow(time, 0, interior), step.narrow(time, 1, interior), out=cotangent.narrow(time, 1, interior)
        )
        (gradient,) = torch.autograd.grad(x, nodes, cotangent)
        return step.flatten(time + 1).square().sum(-1), gradient[..., 1:-1, :]

    @final
    def jacobian(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch D d"]:
        """J, (*batch, D, d), with the event shape of the embedding flattened to D, at z, (*batch, d)."""
        d = z.shape[-1]
        J = jacobian(self.embed, z.reshape(-1, d)).flatten(1, -2)
        return J.reshape(*z.shape[:-1], *J.shape[1:])


@final
class PullbackManifold(EmbeddedManifold):
    """Latent space with the geometry that a decoder g pulls back: x(z) = phi(g(z)), G = J^T J.

    Warning:
        A decoder in training mode is refused: batch normalisation couples the rows of a batch, which falsifies
        every product with the Jacobian, and dropout makes the metric random.

    Reference:
        H. Shao, A. Kumar, P. T. Fletcher, The Riemannian Geometry of Deep Generative Models, 2017.

    Args:
        decoder: Row-wise function g, (N, d) to (N, ...). A module should be in evaluation mode.
        outputs: Geometry phi of the decoder's outputs; Euclidean distance by default.

    Raises:
        DecoderError: The decoder cannot be called, or is a module in training mode with layers that behave
            differently there.

    Example:
        >>> import torch, geodesic
        >>> paraboloid = lambda z: torch.cat([z, (z * z).sum(1, keepdim=True)], dim=1)
        >>> geodesic.PullbackManifold(paraboloid).metric_tensor(torch.tensor([1.0, 0.0]))
        tensor([[5., 0.],
                [0., 1.]])
    """

    def __init__(self, decoder: Callable[[Tensor], Tensor], outputs: OutputGeometry | None = None) -> None:
        if not callable(decoder):
            raise DecoderError(f"decoder: expected a function from (N, d) to (N, ...), got {type(decoder).__name__}")
        _require_evaluation_mode(decoder)
        if outputs is not None and not isinstance(outputs, OutputGeometry):
            raise DecoderError(
                f"outputs: expected an output geometry such as Euclidean(mean=...), got {type(outputs).__name__}"
            )
        self.decoder = decoder
        self.outputs = Euclidean() if outputs is None else outputs

    def embed(self, z: Tensor) -> Tensor:
        rows = z.reshape(-1, z.shape[-1]).clone()  # a decoder may begin with an operation in place
        parameters = self.decoder(rows)
        if not isinstance(parameters, Tensor):
            raise DecoderError(f"decoder: expected a tensor of shape (N, ...), got {type(parameters).__name__}")
        x = self.outputs.embed(parameters)
        if x.shape[:1] != rows.shape[:1]:
            raise DecoderError(
                f"decoder: {len(rows)} points gave an output of shape {tuple(x.shape)}; it must map (N, d) to "
                "(N, ...), one row for each"
            )
        return x.reshape(*z.shape[:-1], *(x.shape[1:] or (1,)))

    def __repr__(self) -> str:
        name = getattr(self.decoder, "__name__", type(self.decoder).__name__)
        return f"PullbackManifold({name}, {self.outputs})"


_UNLIKE_IN_TRAINING = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.dropout._DropoutNd,
    nn.modules.instancenorm._InstanceNorm,
)


def _require_evaluation_mode(decoder: object, argument: str = "decoder") -> None:
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


def check_manifold(manifold: Manifold, points: Tensor) -> None:
    """Refuse a manifold that cannot be used at these points: a decoder of another size, coupled rows.

    Args:
        manifold: The manifold.
        points: Points that it should take, (N, d), with N at least 1.

    Raises:
        DecoderError: The decoder fails on the points, returns values that are not finite, has a random
            output, or lets the rows of a batch influence each other.
    """
    if isinstance(manifold, PullbackManifold):
        _require_evaluation_mode(manifold.decoder)  # it may have changed since the manifold was made
    d, N = points.shape[-1], len(points) + 1
    batch = torch.cat([points, points[:1] + 1])  # a second, different row, even where points has one only
    probe = manifold.embed if isinstance(manifold, EmbeddedManifold) else manifold.metric_tensor
    try:
        with torch.no_grad():
            alone, together = probe(points[:1]), probe(batch)
            if alone.dtype == points.dtype:
                manifold.metric_tensor(points[:1])
    except DecoderError:
        raise
    except Exception as error:  # whatever the user's decoder raises, said with what it was given
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DecoderError(
            f"decoder: it failed on {N} points of size {d}, {points.dtype} on {points.device} ({reason}); check "
            f"that it maps (N, d) to (N, ...), that its latent size is {d}, and that its dtype and device are "
            "those of the endpoints (decoder.to(start))"
        ) from error
    if alone.dtype != points.dtype or alone.numel() == 0:
        raise DecoderError(
            f"decoder: for points of {points.dtype} its output has {alone.dtype} and shape {tuple(alone.shape)}; "
            "expected the same dtype and at least one number a row"
        )
    finite = together[:-1].isfinite().flatten(1).all(1)
    if not finite.all():
        raise DecoderError(
            f"decoder: its output is not finite at {points[~finite][0].tolist()}; check the weights, and whether "
            "the endpoints lie where the decoder was trained"
        )
    scale = together.abs().amax().clamp_min(torch.finfo(alone.dtype).tiny)
    change = float((together[:1] - alone).abs().amax() / scale)
    # Rounding differs between batch sizes; coupling and randomness are larger by orders of magnitude.
    if change > 1e4 * torch.finfo(alone.dtype).eps:
        raise DecoderError(
            f"decoder: the first row's output changes by {change:.1e} (relative) when other rows join the "
            "batch, so its rows are coupled or its output is random; put batch normalisation and dropout into "
            "evaluation mode (decoder.eval())"
        )
