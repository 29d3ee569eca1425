"""Which ways to differentiate a function agree with its values and with each other, and how smooth it is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.door.derivatives import FORWARD, REVERSE, Derivatives
from geodesic.door.probes import Probe, Probes, size_of

__all__ = ["bends_at_kinks", "is_affine_on_pieces", "is_smooth", "wrong_with"]

RowWise = Callable[[Tensor], Tensor]

_LINES = 2  # near the probes, and as many that lead far away, on which the smoothness is seen
_SHORT, _FAR = 4.0, 3.0  # half their lengths: in spreads of the points, in sizes of the points
_LINE = 32  # steps of half a line
_CLOSER = 2  # times to look closer, at four steps
_SMOOTH = 0.29  # ratio of second differences to those of twice the step: 1/4, or at least 1/3 next to a kink
_NEARLY_STRAIGHT = 1e-3  # second derivatives, as a part of the first, of which nothing depends
_STRIDE = 0.1  # of differences that cross kinks, in spreads of the points
_UNSEEN = 0.5  # of the curvature that values show, that second derivatives have to miss for it to lie on kinks
_ROUNDINGS = 1e3  # of first derivatives: what second ones may be that vanish
_FEW = 64  # latent coordinates for which Jacobians are compared: above, nothing forms them
_AT_ONCE = 3  # rows: a decoder may take much memory for each


def wrong_with(way: Derivatives, function: RowWise, probes: Probes) -> str:
    """What is wrong with a way to differentiate, in words: "" where a round agrees with differences of values."""
    wrong = ""
    for k in range(len(probes)):
        try:
            wrong = _wrong(way, function, probes, probes[k])
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever torch or the function raises: this way is closed
            return f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}"
        if not wrong:
            break
    return wrong


def _wrong(way: Derivatives, f: RowWise, probes: Probes, probe: Probe) -> str:
    z, u, v, r = probe.z, probe.u, probe.v, probe.r

    def differ(x: Tensor, y: Tensor, most: Tensor) -> bool:
        return not bool((size_of(x - y) <= most + torch.finfo(z.dtype).tiny).all())

    for k in range(6):  # what is scripted or compiled is rewritten after a call or two, for each grad mode
        with torch.set_grad_enabled(k % 2 == 0):
            pushed = way.push(f, z, u).detach()
    pulled = way.pull(f, z, r)
    # Where the modes differ, a part is hidden from one of them, and only differences that tell them apart count.
    apart = _apart(way, f, probe, pushed, pulled, probes.rounding)
    if way is FORWARD and bool((apart < torch.inf).any()):
        return "its derivatives by forward and by reverse mode differ"
    size = size_of(pushed)
    off = torch.minimum(probes.tolerance * torch.maximum(size_of(probe.along), size) + probe.error, apart / 3)
    if differ(pushed, probe.along, off):
        return "its derivative along a direction is not that of its values"
    if differ(_inner(pulled, u), _inner(r, probe.along), (size_of(r) * off).flatten()):
        return "its derivative by reverse mode is not that of its values"
    tolerance = probes.bent
    if not way.curvature:  # its tangents are differences themselves
        size = torch.maximum(size, probe.error / tolerance)
        hidden = _unseen(f, probe)
        slope = _inner(way.pull(f, z, hidden), u)
        if differ(slope, _inner(hidden, probe.along), (size_of(hidden) * off).flatten()):
            return "its derivative by reverse mode is not that of its values"
    if z.shape[1] <= _FEW:
        J = way.jacobian(f, z)
        if differ(_times(J, u), pushed, tolerance * size):
            return "its Jacobian is not that of its values"
    # Second derivatives: of the cotangents by differences, and against each other.
    step = probe.step
    change = (way.pull(f, z + step * v, r) - way.pull(f, z - step * v, r)) / (2 * step)
    bent, expected = _inner(way.turn(f, z, r, v), u), _inner(change, u)
    # What rounding leaves of a difference of cotangents, where the function is nearly straight.
    noise = 10 * torch.finfo(z.dtype).eps / step * (pulled.norm(dim=1) * u.norm(dim=1)) / tolerance
    scale = torch.maximum(torch.maximum(bent.abs(), expected.abs()), noise)
    if differ(bent, expected, tolerance * scale):
        return "its second derivative is not that of its first"
    if z.shape[1] <= _FEW:
        H = way.expand(f, z, lambda _: r)[2]
        if differ(_inner((H @ v[..., None])[..., 0], u), bent, tolerance * scale):
            return "its Hessian is not that of its Hessian products"
    if way.curvature:
        second = way.second(f, z, u, v)
        seen = torch.maximum(size_of(second).flatten(), _NEARLY_STRAIGHT * size.flatten())
        if differ(_inner(r, second), bent, tolerance * torch.maximum(scale, seen * size_of(r).flatten())):
            return "its second derivatives by forward and by reverse mode differ"
        if z.shape[1] <= _FEW and differ(_times(way.bend(f, z, u)[1], v), second, tolerance * seen.reshape(size.shape)):
            return "its second derivatives are not those of its Jacobian"
    return ""


def _unseen(f: RowWise, probe: Probe) -> Tensor:
    """What a difference sees along u and forward or reverse mode does not; all of it where torch has neither."""
    for way in (REVERSE, FORWARD):
        try:
            return probe.along - way.push(f, probe.z, probe.u).detach()
        except torch.OutOfMemoryError:
            raise
        except Exception:  # whatever torch or the function raises
            continue
    return probe.along


def _apart(way: Derivatives, f: RowWise, probe: Probe, pushed: Tensor, pulled: Tensor, rounding: float) -> Tensor:
    """By how much forward and reverse mode differ, as a norm of each row; infinite where they do not."""
    r, u, size = probe.r, probe.u, size_of(pushed)
    if way is FORWARD:
        gap = (_inner(r, pushed) - _inner(pulled, u)).abs().reshape(size.shape) / size_of(r)
        scale = torch.maximum(size, (pulled.norm(dim=1) * u.norm(dim=1)).reshape(size.shape) / size_of(r))
    else:
        try:
            forward, reverse = FORWARD.push(f, probe.z, u).detach(), REVERSE.push(f, probe.z, u).detach()
        except torch.OutOfMemoryError:
            raise
        except Exception:  # there is one of them at most
            return torch.full_like(size, torch.inf)
        gap, scale = size_of(forward - reverse), torch.maximum(size_of(forward), size_of(reverse))
    return torch.where(gap <= rounding * scale + torch.finfo(gap.dtype).tiny, torch.inf, gap)


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


def bends_at_kinks(way: Derivatives, function: RowWise, probes: Probes) -> bool:
    """Whether most of the curvature that values show lies on kinks, where second derivatives do not see it.

    As of a network of ReLUs, straight between its kinks: second differences of a long step meet many of them.
    """
    unseen = whole = 0.0
    for k in range(2 * _LINES):
        z, u = probes[k].z, probes[k].u
        after, here, before = (function(z + step * u) for step in (_STRIDE, 0.0, -_STRIDE))
        bend, slope = (after - 2 * here + before) / _STRIDE**2, (after - before) / (2 * _STRIDE)
        if float(bend.norm()) > _NEARLY_STRAIGHT * float(slope.norm()):
            unseen += float((bend - way.second(function, z, u, u)).square().sum())
            whole += float(bend.square().sum())
    return unseen > _UNSEEN**2 * whole


def is_affine_on_pieces(way: Derivatives, function: RowWise, probes: Probes) -> bool:
    """Whether second derivatives vanish wherever it was looked, as those of a network of ReLUs with a linear end."""
    for k in range(len(probes)):
        probe = probes[k]
        first, second = way.push(function, probe.z, probe.u), way.second(function, probe.z, probe.u, probe.u)
        if not bool((size_of(second) <= _ROUNDINGS * torch.finfo(probe.z.dtype).eps * size_of(first)).all()):
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


def _times(J: Tensor, u: Float[Tensor, "N d"]) -> Tensor:
    """J u, from a Jacobian, (N, ..., d)."""
    return (J * u.reshape(len(u), *[1] * (J.dim() - 2), -1)).sum(-1)


def _inner(x: Tensor, y: Tensor) -> Float[Tensor, " N"]:
    return (x * y).reshape(len(x), -1).sum(1)
