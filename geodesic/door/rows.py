"""What a function may not do with the rows of a batch, and with their digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from geodesic.checks import brief
from geodesic.door.probes import pair, spread_of
from geodesic.errors import DecoderError

__all__ = ["require_apart", "require_full_precision", "where_finite"]

RowWise = Callable[[Tensor], Tensor]

_NEAR = 0.1  # distance of other rows from the points, in units of how far these spread
_CALLS = 3  # of a function that may draw random numbers: another thread may have drawn them
_MANY = 64  # rows of a large batch: coupling may begin at some size
_TRIED = 16  # points at which values are looked at
_NUMBERS = 2**18  # in the output of a large batch, at most


def where_finite(function: RowWise, points: Float[Tensor, "N d"]) -> Float[Tensor, "M d"]:
    """The points, or a few of them where a function is finite, if it is not at those that are looked at.

    Raises:
        DecoderError: It is finite at none of these.
    """
    try:
        if bool(function(pair(points)).isfinite().all()):
            return points
    except torch.OutOfMemoryError:
        return points
    some = points[:: max(1, len(points) // _TRIED)]
    usable = torch.cat([function(pair(row)).isfinite().flatten(1).all(1)[:1] for row in some.split(1)])
    if not usable.any():
        raise DecoderError(
            f"decoder: its output is not finite at {brief(some[0])}; check the weights, and whether the points lie "
            "where the decoder was trained"
        )
    return some[usable]


def require_apart(function: RowWise, points: Float[Tensor, "N d"]) -> None:
    """Refuse a function whose rows influence each other, depend on their place or the size of the batch, or are random.

    Batches of one size are compared, in which a kernel rounds alike, then batches of one row and of many.

    Raises:
        DecoderError: With what was found and what to do.
    """
    rows = pair(points)
    near = _NEAR * spread_of(points)
    batches = [torch.cat([rows, x]) for x in (rows[:1] + near, rows[1:] - near)]
    try:
        whole, drawn = _called(function, batches[0])
    except torch.OutOfMemoryError:  # rows that never meet cannot be coupled
        return
    first = [x[:2] for x in whole]
    eps = torch.finfo(points.dtype).eps
    scale = whole[0].abs().nan_to_num(0, 0, 0).amax().clamp_min(torch.finfo(points.dtype).tiny)

    def change(x: Tensor) -> float:
        return float((x - first[0]).abs().nan_to_num(torch.inf).amax() / scale) if x.isfinite().any() else 0.0

    _require_settled(max(change(x) for x in first[1:]), drawn, 1e2 * eps)
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
    among = _among_many(function, rows, near, whole[0][0].numel())
    coupled = max(change(x) for x in (together, moved, alone, among))
    lost = bool((first[0].isfinite() & ~(alone.isfinite() & among.isfinite())).any())
    # Rounding differs between batch sizes; coupling is larger by orders of magnitude.
    if coupled > 1e4 * eps or lost:
        found = "is not finite" if lost else f"changes by {coupled:.1e} (relative)"
        raise DecoderError(
            f"decoder: a row's output {found} when the other rows of the batch change, so its rows are coupled; put "
            "batch normalization into evaluation mode with running statistics (decoder.eval(), "
            "track_running_stats=True), and take means and deviations over features, not over rows"
        )


def _called(function: RowWise, z: Float[Tensor, "N d"]) -> tuple[list[Tensor], bool]:
    """The function's values in several calls, and whether each of them has drawn random numbers."""
    values, drawn = [], True
    for _ in range(_CALLS):
        before = _random_state(z)
        values.append(function(z))
        drawn = drawn and not all(map(torch.equal, before, _random_state(z)))
    return values, drawn


def _random_state(z: Tensor) -> list[Tensor]:
    """The states of torch's own generators from which a function of z may draw."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(z.device)] if z.is_cuda else states


def _require_settled(change: float, drawn: bool, rounding: float) -> None:
    """Refuse a function whose values change from call to call, or could: a little dropout seldom shows."""
    if drawn:
        found = f"its output changes by {change:.1e} (relative) from call to call" if change > rounding else ""
        raise DecoderError(
            f"decoder: {found or 'it draws random numbers in each call'}, so it is random; put dropout and sampling "
            "layers into evaluation mode (decoder.eval()), or return the mean instead of a sample"
        )
    if change > rounding:
        raise DecoderError(
            f"decoder: its output changes by {change:.1e} (relative) from call to call, and it draws no random numbers "
            "of torch, so it is random by other means, or remembers earlier calls; let it return the same output for "
            "the same point"
        )


def _among_many(function: RowWise, rows: Float[Tensor, "2 d"], near: Float[Tensor, " d"], numbers: int) -> Tensor:
    """The function's values at rows that are the last ones of a large batch, as far as memory allows."""
    many = max(4, min(_MANY, _NUMBERS // max(numbers, 1)))
    t = torch.linspace(-1, 1, many - 2, dtype=rows.dtype, device=rows.device)[:, None]
    try:
        return function(torch.cat([rows[:1] + t * near, rows]))[-2:]
    except torch.OutOfMemoryError:
        return function(rows)


def require_full_precision(function: RowWise, points: Float[Tensor, "N d"]) -> None:
    """Refuse a function that computes with fewer digits than its points have.

    Raises:
        DecoderError: With the precision that was met.
    """
    z = pair(points).clone()
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
