"""Whether a manifold can be used, before any work begins."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar, cast, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geodesic.arrays import takes_arrays
from geodesic.checks import brief, require_tensor, warn
from geodesic.door.door import first_time, visit
from geodesic.door.operators import eagerly
from geodesic.errors import DecoderError, InputError
from geodesic.geometry.by_row import ManifoldByRow
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.period import require_periodic

__all__ = ["admit", "admit_path", "check_manifold", "guarded", "require_manifold"]

_PROBES = 8  # points of each half on which values are looked at


def require_manifold(manifold: object) -> None:
    """Refuse what is no manifold.

    Raises:
        InputError: With what was received.
    """
    if not isinstance(manifold, Manifold):
        if callable(getattr(manifold, "manifold", None)):  # a decoder that `geodesic.wrap` returned
            raise InputError(f"manifold: got a {type(manifold).__name__}; give its manifold, decoder.manifold()")
        raise InputError(
            "manifold: expected a Manifold such as PullbackManifold(decoder) or geodesic.wrap(model).manifold(), got "
            f"{type(manifold).__name__}"
        )


P = ParamSpec("P")
R = TypeVar("R")


@overload
def guarded(function: Callable[P, R]) -> Callable[P, R]: ...
@overload
def guarded(*, differentiable: bool) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def guarded(
    function: Callable[P, R] | None = None, *, differentiable: bool = False
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a public function that takes a manifold first: the one door of all tools.

    Within a call the user's functions are looked at once, and nothing depends on the modes that the caller has set:
    tensors made in inference mode have no derivatives, and autocast has not the digits. Arrays are taken too, see
    `takes_arrays`.

    Args:
        function: What to decorate.
        differentiable: Whether its answer keeps the history of the arguments. Otherwise arguments that require
            gradients are warned of, once in a public call.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        names = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            manifold = given.get("manifold")
            if not isinstance(manifold, ManifoldByRow):
                require_manifold(manifold)
            with visit() as outermost, _in_usual_modes():
                if outermost and not differentiable:
                    _warn_of_gradients(function.__name__, given)
                if isinstance(manifold, ManifoldByRow):
                    return cast(R, manifold.each(function.__name__, call, given))
                return function(*args, **kwargs)

        return takes_arrays(call)

    return decorate if function is None else decorate(function)


def _warn_of_gradients(tool: str, given: Mapping[str, object]) -> None:
    """Say that an answer has no history where the arguments have one."""
    if not torch.is_grad_enabled():
        return
    asked = [name for name, x in given.items() if isinstance(x, Tensor) and x.requires_grad]
    if asked:
        warn(
            f"{tool}: {', '.join(asked)} require{'s' * (len(asked) == 1)} gradients, and the answer has none; give "
            f"{asked[0]}.detach(), or take `distance`, `path_length` or `path_energy`, which have gradients"
        )


@contextmanager
def _in_usual_modes() -> Iterator[None]:
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())  # leaving inference mode turns gradients on
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(eagerly())
        yield


def admit(
    manifold: Manifold, points: Float[Tensor, "N d"], given: Tensor | None = None, *, finite: bool = False
) -> None:
    """Let a manifold in, if it can be used at points like these: once in a public call, in pieces or whole.

    Raises:
        DecoderError: As from `check_manifold` and `Manifold.way`; or, where values have to be finite, their squares are
            lost to the dtype.
        InputError: A metric tensor cannot be used, or the manifold has another period than it says.
    """
    some = torch.cat([points[:_PROBES], points[len(points) // 2 :][:_PROBES]])
    if first_time(manifold.door or manifold):
        if finite or manifold.door is not None:
            usable = check_manifold(manifold, some, given, finite=finite)
            if usable.any():  # elsewhere tools say row by row that there is nothing
                manifold.way(some[usable])
        require_periodic(manifold, some)
    if finite and manifold.has_embedding:
        _require_squares(manifold, some)


def admit_path(manifold: Manifold, path: Float[Tensor, "*batch nodes d"]) -> None:
    """Let a manifold in, if it can be used on paths like these: at their first nodes, and further on.

    Raises:
        DecoderError: As from `check_manifold` and `Manifold.way`.
        InputError: The path is no tensor, or a metric of the user's is not positive definite at a node or between two.
    """
    require_tensor("path", path)
    if not path.numel():
        return
    points = path.detach().reshape(-1, path.shape[-1])
    admit(manifold, points)
    if manifold.door is not None and type(manifold).observe is Manifold.observe:
        middles = ((path[..., 1:, :] + path[..., :-1, :]) / 2).detach().reshape(-1, path.shape[-1])
        with torch.no_grad():
            for z in (points, middles):
                G = manifold.metric_tensor(z)
                usable = G.isfinite().flatten(1).all(1)
                _require_positive(G[usable], torch.cat([z[usable], z[:1]]), singular=True)


def check_manifold(
    manifold: Manifold, points: Tensor, given: Tensor | None = None, *, finite: bool = True
) -> Bool[Tensor, " N"]:
    """Refuse a manifold that cannot be used at these points: a decoder of another size, coupled rows.

    Args:
        manifold: The manifold.
        points: Points that it should take, (N, d), with N at least 1.
        given: Some of them in the shape in which the user gave them.
        finite: Whether values have to be finite at all of them.

    Returns:
        Where they are.

    Raises:
        DecoderError: The decoder fails on the points, returns values that are not finite, has a random
            output, or lets the rows of a batch influence each other.
    """
    manifold.require_usable()
    manifold.examine(points, given)
    d, N = points.shape[-1], len(points) + 1
    batch = torch.cat([points, points[:1] + 1])  # a second, different row, even where points has one only
    if finite and type(manifold).observe is Manifold.observe:  # there is nothing but the metric tensor
        _check_metric(manifold, batch)
    try:
        with torch.no_grad():
            alone, together = manifold.observe(points[:1]), manifold.observe(batch)
    except (DecoderError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever the user's decoder raises, said with what it was given
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DecoderError(
            f"decoder: it failed on {N} points of size {d}, {points.dtype} on {points.device} ({reason}); check "
            f"that it maps (N, d) to (N, ...), that its latent size is {d}, and that its dtype and device are "
            "those of the endpoints (decoder.to(start))"
        ) from error
    if alone.dtype != points.dtype:
        words = {torch.float32: "float", torch.float64: "double"}
        ways = [f".{words[alone.dtype]}() on the points"] if alone.dtype in words else []
        raise DecoderError(
            f"decoder: for points of {points.dtype} its output has {alone.dtype}; expected the same dtype: call "
            f"{' or '.join([*ways, f'.{words[points.dtype]}() on its output'])}"
        )
    if alone.numel() == 0:
        raise DecoderError(f"decoder: its output has shape {tuple(alone.shape)}; expected at least one number a row")
    usable = together[:-1].isfinite().flatten(1).all(1)
    if finite and not usable.all():
        raise DecoderError(
            f"decoder: its output is not finite at {brief(points[~usable][0])}; check the weights, and whether "
            "the endpoints lie where the decoder was trained"
        )
    return usable


def _require_squares(manifold: Manifold, points: Float[Tensor, "N d"]) -> None:
    """Refuse outputs that differ by so little, or so much, that the squares of steps between them are lost."""
    with torch.no_grad():
        outputs = manifold.observe(points)
    info, apart = torch.finfo(outputs.dtype), float((outputs - outputs[:1]).abs().nan_to_num(0).amax())
    if apart != 0 and not (100 * info.tiny / info.eps) ** 0.5 < apart < (info.max / 100) ** 0.5:
        raise DecoderError(
            f"decoder: its outputs differ by {apart:.1e} between the points, and squares of that leave the range of "
            f"{outputs.dtype}; multiply them by a constant, with which lengths scale, or use float64"
        )


def _check_metric(manifold: Manifold, points: Float[Tensor, "N d"]) -> None:
    """Refuse a metric whose shape, values or derivatives cannot be used, with the reason.

    The last point is no end of a path, so that nothing is asked of the values there.
    """
    d = points.shape[-1]
    try:
        for z in (points, torch.stack([points, points])):
            with torch.no_grad():
                G = manifold.metric_tensor(z)
            if not isinstance(G, Tensor) or G.dtype != z.dtype:
                got = str(G.dtype) if isinstance(G, Tensor) else type(G).__name__
                raise InputError(
                    f"manifold: for points of {z.dtype} its metric_tensor returned {got}; expected the same"
                )
            shape = G.shape
            if shape != (*z.shape, d):
                raise InputError(
                    f"manifold: for points of shape {tuple(z.shape)} its metric_tensor has shape {tuple(shape)}; "
                    f"expected (*batch, d, d), here {(*z.shape, d)}"
                )
        _require_positive(manifold.metric_tensor(points[:-1]).detach(), points)
        step = torch.linspace(0, 0.01, 3, dtype=points.dtype, device=points.device)[:, None]
        manifold.expansion((points[:1] + step)[None])
    except InputError:
        raise
    except Exception as error:  # whatever the user's metric raises, said with what it was given
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"manifold: its metric_tensor failed ({reason}); it must take points (*batch, d) and have two derivatives "
            "by torch.func (use torch.func.grad inside it, not torch.autograd.grad, and differences instead of "
            "torch.cdist)"
        ) from error


def _require_positive(G: Float[Tensor, "N d d"], points: Tensor, *, singular: bool = False) -> None:
    """Refuse metrics at all points but the last that are none; singular ones only where they may not be so."""
    finite = G.isfinite().flatten(1).all(1)
    if not finite.all():
        raise InputError(f"manifold: its metric_tensor is not finite at {brief(points[:-1][~finite][0])}")
    scale = G.abs().amax((1, 2)).clamp_min(torch.finfo(G.dtype).tiny)
    askew = (G - G.mT).abs().amax((1, 2)) > 1e3 * torch.finfo(G.dtype).eps * scale
    if askew.any():
        raise InputError(
            f"manifold: its metric_tensor is not symmetric at {brief(points[:-1][askew][0])}: "
            f"G - G^T is up to {float((G - G.mT)[askew][0].abs().max()):.3g}; give (G + G^T) / 2 if that is meant"
        )
    least = torch.linalg.eigvalsh((G + G.mT) / 2)[:, 0]
    flat = least < -1e3 * torch.finfo(G.dtype).eps * scale if singular else ~(least > 0)
    if flat.any():
        raise InputError(
            f"manifold: its metric_tensor is not positive definite at {brief(points[:-1][flat][0])}, where its least "
            f"eigenvalue is {float(least[flat][0]):.3g}; add a small multiple of the identity, or check its sign"
        )
