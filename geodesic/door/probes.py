"""Comparisons on a few points: rows that are coupled, hidden precision, derivatives that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from geodesic.door.derivatives import Derivatives
from geodesic.errors import DecoderError

__all__ = ["Probes", "is_smooth", "require_apart", "require_full_precision", "wrong_with"]

RowWise = Callable[[Tensor], Tensor]

_STEPS = (0.1, 1.0, 0.03, 0.3, 0.1, 3.0, 0.1, 0.3)  # in units of eps^(1/3), one a round: a round may meet a kink
_LINE = 128  # steps of the line on which the smoothness is seen
_NEARLY_STRAIGHT = 1e-3  # second derivatives, as a part of the first, of which nothing depends
_FEW = 64  # latent coordinates for which Jacobians are compared: above, nothing forms them
_AT_ONCE = 3  # rows: a decoder may take much memory for each
_DRAWS = 3  # comparisons of a function with itself, which show whether it is random


@dataclass(frozen=True)
class Probe:
    """Points, directions and cotangents on which derivatives are compared.

    Attributes:
        z: Points, (2, d).
        u, v: Tangents there, (2, d).
        r: Cotangents, of the shape of f(z).
        along: The derivative of f along u, by a difference.
        step: Of the difference.
    """

    z: Float[Tensor, "2 d"]
    u: Float[Tensor, "2 d"]
    v: Float[Tensor, "2 d"]
    r: Tensor
    along: Tensor
    step: float


@dataclass(frozen=True)
class Probes:
    """Where a function is looked at, in rounds.

    Attributes:
        rounds: What is compared, each at other points and with another step.
        tolerance: Largest relative difference between ways that are both right.
    """

    rounds: tuple[Probe, ...]
    tolerance: float

    @classmethod
    def near(cls, function: RowWise, points: Float[Tensor, "N d"]) -> Probes:
        """Probes near some of the points: at points such as centers and corners derivatives may be special."""
        generator = torch.Generator("cpu").manual_seed(0)
        rows = _pair(points)
        try:
            function(rows)
        except torch.OutOfMemoryError:
            rows = rows[:1]
        spread = points.std(0) if len(points) > 1 else torch.zeros_like(points[0])
        spread = torch.where(spread > 0, spread, 1e-1 * (1 + rows.abs().amax(0)))

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu").to(points)

        wide = torch.finfo(points.dtype).eps ** (1 / 3)
        rounds = []
        for share in _STEPS:
            z = rows + 0.1 * spread * draw(*rows.shape)
            if not function(z).isfinite().all():
                z = rows.clone()
            u, v = (spread * draw(*rows.shape) for _ in range(2))
            step = wide * share
            along = (function(z + step * u) - function(z - step * u)) / (2 * step)
            # Half at random, half along the change itself, where most of it is seen.
            random = draw(*along.shape)
            r = random / _size(random) + along / _size(along).clamp_min(torch.finfo(along.dtype).tiny)
            rounds.append(Probe(z, u, v, r, along, step))
        return cls(tuple(rounds), 1e-4 if points.dtype == torch.float64 else 3e-2)


def wrong_with(way: Derivatives, function: RowWise, probes: Probes) -> str:
    """What is wrong with a way to differentiate, in words: "" where a round agrees with differences of values."""
    wrong = ""
    for probe in probes.rounds:
        try:
            wrong = _wrong(way, function, probe, probes.tolerance)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever torch or the function raises: this way is closed
            return f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}"
        if not wrong:
            break
    return wrong


def _wrong(way: Derivatives, f: RowWise, probe: Probe, tolerance: float) -> str:
    z, u, v, r = probe.z, probe.u, probe.v, probe.r

    def differ(x: Tensor, y: Tensor, scale: Tensor) -> bool:
        return not bool((_size(x - y) <= tolerance * scale + torch.finfo(z.dtype).tiny).all())

    for k in range(6):  # what is scripted or compiled is rewritten after a call or two, for each grad mode
        with torch.set_grad_enabled(k % 2 == 0):
            pushed = way.push(f, z, u).detach()
    size = torch.maximum(_size(probe.along), _size(pushed))
    if differ(pushed, probe.along, size):
        return "its derivative along a direction is not that of its values"
    pulled = way.pull(f, z, r)
    if differ(_inner(pulled, u), _inner(r, probe.along), (_size(r) * size).flatten()):
        return "its derivative by reverse mode is not that of its values"
    if z.shape[1] <= _FEW:
        J = way.jacobian(f, z)
        if differ(_times(J, u), pushed, size):
            return "its Jacobian is not that of its values"
    # Second derivatives: of the cotangents by differences, and against each other.
    step = probe.step
    change = (way.pull(f, z + step * v, r) - way.pull(f, z - step * v, r)) / (2 * step)
    bent, expected = _inner(way.turn(f, z, r, v), u), _inner(change, u)
    # What rounding leaves of a difference of cotangents, where the function is nearly straight.
    noise = 10 * torch.finfo(z.dtype).eps / step * (pulled.norm(dim=1) * u.norm(dim=1)) / tolerance
    scale = torch.maximum(torch.maximum(bent.abs(), expected.abs()), noise)
    if differ(bent, expected, scale):
        return "its second derivative is not that of its first"
    if z.shape[1] <= _FEW:
        H = way.expand(f, z, lambda _: r)[2]
        if differ(_inner((H @ v[..., None])[..., 0], u), bent, scale):
            return "its Hessian is not that of its Hessian products"
    if way.curvature:
        second = way.second(f, z, u, v)
        seen = torch.maximum(_size(second).flatten(), _NEARLY_STRAIGHT * size.flatten())
        if differ(_inner(r, second), bent, torch.maximum(scale, seen * _size(r).flatten())):
            return "its second derivatives by forward and by reverse mode differ"
        if z.shape[1] <= _FEW and differ(_times(way.bend(f, z, u)[1], v), second, seen.reshape(size.shape)):
            return "its second derivatives are not those of its Jacobian"
    return ""


def is_smooth(way: Derivatives, function: RowWise, probes: Probes) -> bool:
    """Whether second derivatives are continuous along a line through the probes, as far as one sees.

    Second differences of J u with step h are of order h^2 where they are, of order h where they jump (ELU), and of
    order 1 where J jumps (ReLU): halving the step tells.
    """
    first, last = probes.rounds[0], probes.rounds[-1]
    start, end, u = first.z[:1], last.z[-1:], first.u[:1]
    t = torch.linspace(0, 1, _LINE + 1, dtype=start.dtype, device=start.device)[:, None]
    parts = [
        way.push(function, z, u.expand_as(z)).reshape(len(z), -1) for z in (start + t * (end - start)).split(_AT_ONCE)
    ]
    tangent = torch.cat(parts)
    fine, coarse = (_bends(tangent[::k]) for k in (1, 2))
    noise = 1e2 * torch.finfo(start.dtype).eps * float(tangent.abs().amax())
    return fine <= noise or fine <= coarse * 2**-1.5


def _bends(x: Float[Tensor, "n D"]) -> float:
    """The largest second difference of a curve."""
    return float((x[2:] - 2 * x[1:-1] + x[:-2]).norm(dim=1).amax())


def require_apart(function: RowWise, points: Float[Tensor, "N d"]) -> None:
    """Refuse a function whose rows influence each other, depend on their place, or are random.

    Batches of one size are compared, in which a kernel rounds alike, then batches of one row.

    Raises:
        DecoderError: With what was found and what to do.
    """
    rows = _pair(points)
    other = rows[:1] + 1, rows[1:] - 1
    batches = [torch.cat([rows, x]) for x in other]
    try:
        whole = [function(batches[0]) for _ in range(_DRAWS)]
    except torch.OutOfMemoryError:  # rows that never meet cannot be coupled
        return
    first = [x[:2] for x in whole]
    eps = torch.finfo(points.dtype).eps
    scale = whole[0].abs().nan_to_num(0, 0, 0).amax().clamp_min(torch.finfo(points.dtype).tiny)

    def change(x: Tensor) -> float:
        return float((x - first[0]).abs().nan_to_num(torch.inf).amax() / scale) if x.isfinite().any() else 0.0

    drawn = max(change(x) for x in first[1:])
    if drawn > 1e2 * eps:
        raise DecoderError(
            f"decoder: its output changes by {drawn:.1e} (relative) from call to call, so it is random; put dropout "
            "and sampling layers into evaluation mode (decoder.eval()), or return the mean instead of a sample"
        )
    together = function(batches[1])[:2]
    moved = function(batches[0].flip(0)).flip(0)[:2]
    try:
        alone = torch.cat([function(row) for row in rows.split(1)])
    except (ValueError, RuntimeError, IndexError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DecoderError(
            f"decoder: it takes no batch of one row ({reason}), so its rows are coupled; put batch normalization into "
            "evaluation mode with running statistics (decoder.eval(), track_running_stats=True), and keep the axis of "
            "the batch where it squeezes"
        ) from error
    coupled = max(change(together), change(moved), change(alone))
    lost = bool((first[0].isfinite() & ~alone.isfinite()).any())
    # Rounding differs between batch sizes; coupling is larger by orders of magnitude.
    if coupled > 1e4 * eps or lost:
        found = "is not finite" if lost else f"changes by {coupled:.1e} (relative)"
        raise DecoderError(
            f"decoder: a row's output {found} when the other rows of the batch change, so its rows are coupled; put "
            "batch normalization into evaluation mode with running statistics (decoder.eval(), "
            "track_running_stats=True), and take means and deviations over features, not over rows"
        )


def require_full_precision(function: RowWise, points: Float[Tensor, "N d"]) -> None:
    """Refuse a function that computes with fewer digits than its points have.

    Raises:
        DecoderError: With the precision that was met.
    """
    with _Narrowest() as watched:
        function(points[:1])
    narrow = torch.finfo(watched.dtype).eps if watched.dtype is not None else 0.0
    if narrow > torch.finfo(points.dtype).eps:
        name = str(watched.dtype).removeprefix("torch.")
        raise DecoderError(
            f"decoder: for points of {points.dtype} it computes in {name}, whose rounding falsifies derivatives; "
            "leave out autocast and .half(), or give points of the precision that it has"
        )


class _Narrowest(TorchDispatchMode):
    """Follows the floating dtypes of results."""

    def __init__(self) -> None:
        super().__init__()
        self.dtype: torch.dtype | None = None

    def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        result = func(*args, **(kwargs or {}))  # type: ignore[operator]
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, Tensor) and x.is_floating_point():
                known = self.dtype
                if known is None or torch.finfo(x.dtype).eps > torch.finfo(known).eps:
                    self.dtype = x.dtype
        return result


def _pair(points: Float[Tensor, "N d"]) -> Float[Tensor, "2 d"]:
    """Two of the points, as different as may be."""
    return points[[0, len(points) // 2]] if len(points) > 1 else points[[0, 0]]


def _times(J: Tensor, u: Float[Tensor, "N d"]) -> Tensor:
    """J u, from a Jacobian, (N, ..., d)."""
    return (J * u.reshape(len(u), *[1] * (J.dim() - 2), -1)).sum(-1)


def _inner(x: Tensor, y: Tensor) -> Float[Tensor, " N"]:
    return (x * y).reshape(len(x), -1).sum(1)


def _size(x: Tensor) -> Tensor:
    """The norm of each row, with axes to divide by."""
    axes = tuple(range(1, x.dim()))
    return x.square().sum(axes, keepdim=True).sqrt() if axes else x.abs()
