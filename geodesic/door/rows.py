"""What a function may not do with the rows of a batch, and with their digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from geodesic.door.probes import pair, spread_of
from geodesic.errors import DecoderError

__all__ = ["require_apart", "require_full_precision"]

RowWise = Callable[[Tensor], Tensor]

_NEAR = 0.1  # distance of other rows from the points, in units of how far these spread
_DRAWS = 3  # comparisons of a function with itself, which show whether it is random


def require_apart(function: RowWise, points: Float[Tensor, "N d"]) -> None:
    """Refuse a function whose rows influence each other, depend on their place, or are random.

    Batches of one size are compared, in which a kernel rounds alike, then batches of one row.

    Raises:
        DecoderError: With what was found and what to do.
    """
    rows = pair(points)
    other = rows[:1] + _NEAR * spread_of(points), rows[1:] - _NEAR * spread_of(points)
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
