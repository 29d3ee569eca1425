"""Comparisons on a few points: rows that are coupled, hidden precision, derivatives that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from geodesic.door.derivatives import Derivatives
from geodesic.errors import DecoderError

__all__ = ["Probes", "is_smooth", "require_apart", "require_full_precision", "wrong_with"]

RowWise = Callable[[Tensor], Tensor]

_STEPS = (0.1, 1.0, 0.03, 0.3, 0.1, 3.0, 0.1, 0.3)  # in units of eps^(1/3), one a round: a round may meet a kink
_NEAR = 0.1  # distance of probes from the points, in units of how far these spread
_LINES = 2  # near the probes, and as many that lead far away, on which the smoothness is seen
_SHORT, _FAR = 4.0, 3.0  # half their lengths: in spreads of the points, in sizes of the points
_LINE = 32  # steps of half a line
_CLOSER = 2  # times to look closer, at four steps
_SMOOTH = 0.29  # ratio of second differences to those of twice the step: 1/4, or at least 1/3 next to a kink
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
        noise: What rounding may leave of it, for each point.
    """

    z: Float[Tensor, "2 d"]
    u: Float[Tensor, "2 d"]
    v: Float[Tensor, "2 d"]
    r: Tensor
    along: Tensor
    step: float
    noise: Tensor


class Probes:
    """Where a function is looked at: rounds of probes, each at other points and with another step.

    They lie near some of the points, and not on them: at centers and corners derivatives may be special.

    Args:
        function: From (N, d) to (N, ...).
        points: Where it is going to be used, (N, d).

    Attributes:
        tolerance: Largest relative difference between ways that are both right.
    """

    def __init__(self, function: RowWise, points: Float[Tensor, "N d"]) -> None:
        self._function, self._rows, self._spread = function, _pair(points), _spread(points)
        try:
            function(self._rows)
        except torch.OutOfMemoryError:
            self._rows = self._rows[:1]
        self._known: dict[int, Probe] = {}
        self.tolerance = 1e-4 if points.dtype == torch.float64 else 3e-2

    def __len__(self) -> int:
        return len(_STEPS)

    def __getitem__(self, k: int) -> Probe:
        if not 0 <= k < len(self):
            raise IndexError(k)
        if k not in self._known:
            self._known[k] = self._made(k)
        return self._known[k]

    def _made(self, k: int) -> Probe:
        generator, rows, f = torch.Generator("cpu").manual_seed(k), self._rows, self._function

        def draw(shape: torch.Size) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu").to(rows)

        z = rows + _NEAR * self._spread * draw(rows.shape)
        if not f(z).isfinite().all():
            z = rows.clone()
        u, v = (self._spread * draw(rows.shape) for _ in range(2))
        step = _STEPS[k] * torch.finfo(rows.dtype).eps ** (1 / 3)
        after, before = f(z + step * u), f(z - step * u)
        along = (after - before) / (2 * step)
        noise = 10 * torch.finfo(rows.dtype).eps / step * torch.maximum(_size(after), _size(before))
        # Half at random, half along the change itself, where most of it is seen.
        random = draw(along.shape)
        r = random / _size(random) + along / _size(along).clamp_min(torch.finfo(along.dtype).tiny)
        return Probe(z, u, v, r, along, step, noise)


def _pair(points: Float[Tensor, "N d"]) -> Float[Tensor, "2 d"]:
    """Two of the points, as different as may be."""
    return points[[0, len(points) // 2]] if len(points) > 1 else points[[0, 0]]


def _spread(points: Float[Tensor, "N d"]) -> Float[Tensor, " d"]:
    """How far points lie from each other, or a tenth of how far they lie from the origin."""
    spread = points.std(0) if len(points) > 1 else torch.zeros_like(points[0])
    return torch.where(spread > 0, spread, 0.1 * (1 + points[:2].abs().amax(0)))


def wrong_with(way: Derivatives, function: RowWise, probes: Probes) -> str:
    """What is wrong with a way to differentiate, in words: "" where a round agrees with differences of values."""
    wrong = ""
    for k in range(len(probes)):
        try:
            wrong = _wrong(way, function, probes[k], probes.tolerance)
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
    size = torch.maximum(torch.maximum(_size(probe.along), _size(pushed)), probe.noise / tolerance)
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
    """Whether second derivatives are continuous along lines through the probes, as far as one sees.

    Second differences of J u with step h are of order h^2 where they are, of order h where they jump (ELU), and of
    order 1 where J jumps (ReLU): doubling the step tells. What is sharp without a jump is told apart by looking closer
    where these differences are least those of a smooth function.
    """
    some = [probes[k] for k in range(2 * _LINES)]
    middle = torch.cat([probe.z for probe in some]).mean(0)
    far = _FAR * (1 + middle.abs().amax())
    for k, probe in enumerate(some):
        reach = far / probe.u[:1].norm() if k % 2 else _SHORT
        if not _is_smooth_on(way, function, middle, reach * probe.u[:1]):
            return False
    return True


def _is_smooth_on(way: Derivatives, function: RowWise, middle: Float[Tensor, " d"], u: Float[Tensor, "1 d"]) -> bool:
    """The same on the line from middle - u to middle + u."""
    center, half, steps = 0.0, 1.0, 2 * _LINE
    for _ in range(_CLOSER + 1):
        t = torch.linspace(center - half, center + half, steps + 1, dtype=u.dtype, device=u.device)[:, None]
        parts = [way.push(function, z, u.expand_as(z)).reshape(len(z), -1) for z in (middle + t * u).split(_AT_ONCE)]
        tangent = torch.cat(parts)
        fine, coarse = _bends(tangent, 1)[1:-1], _bends(tangent, 2)
        known = fine.isfinite() & coarse.isfinite()
        if not bool(known.any()):
            return True
        at = int(torch.where(known, fine - coarse / 4, -torch.inf).argmax())
        center, half, steps = float(t[at + 2]), 4 * half / steps, _LINE
    noise = 1e2 * torch.finfo(u.dtype).eps * tangent[known.nonzero()[:, 0] + 2].abs().amax()
    return bool((fine[known].amax() <= noise) | (fine[known].amax() <= _SMOOTH * coarse[known].amax()))


def _bends(x: Float[Tensor, "n D"], step: int) -> Float[Tensor, " m"]:
    """The sizes of second differences of a curve over so many of its steps."""
    return (x[2 * step :] - 2 * x[step:-step] + x[: -2 * step]).norm(dim=1)


def require_apart(function: RowWise, points: Float[Tensor, "N d"]) -> None:
    """Refuse a function whose rows influence each other, depend on their place, or are random.

    Batches of one size are compared, in which a kernel rounds alike, then batches of one row.

    Raises:
        DecoderError: With what was found and what to do.
    """
    rows = _pair(points)
    other = rows[:1] + _NEAR * _spread(points), rows[1:] - _NEAR * _spread(points)
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
    z = points[:1].clone()
    with _Narrowest(z) as watched:
        function(z)
    if torch.finfo(watched.dtype).eps > torch.finfo(points.dtype).eps:
        name = str(watched.dtype).removeprefix("torch.")
        raise DecoderError(
            f"decoder: for points of {points.dtype} it computes in {name}, whose rounding falsifies derivatives; "
            "leave out autocast and .half(), or give points of the precision that it has"
        )


class _Narrowest(TorchDispatchMode):
    """Follows the least precise dtype of what is made from a tensor: constants may have fewer digits."""

    def __init__(self, origin: Tensor) -> None:
        super().__init__()
        self.dtype = origin.dtype
        self._made = {id(origin): origin}  # kept alive, or another one could take its number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(id(x) in self._made for x in tree_leaves((args, kwargs))):
            for x in tree_leaves(result):
                if isinstance(x, Tensor) and x.is_floating_point():
                    self._made[id(x)] = x
                    self.dtype = max(self.dtype, x.dtype, key=lambda dtype: torch.finfo(dtype).eps)
        return result


def _times(J: Tensor, u: Float[Tensor, "N d"]) -> Tensor:
    """J u, from a Jacobian, (N, ..., d)."""
    return (J * u.reshape(len(u), *[1] * (J.dim() - 2), -1)).sum(-1)


def _inner(x: Tensor, y: Tensor) -> Float[Tensor, " N"]:
    return (x * y).reshape(len(x), -1).sum(1)


def _size(x: Tensor) -> Tensor:
    """The norm of each row, with axes to divide by."""
    axes = tuple(range(1, x.dim()))
    return x.square().sum(axes, keepdim=True).sqrt() if axes else x.abs()
