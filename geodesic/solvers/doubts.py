"""What a tool that builds on geodesics says of those that cannot be relied on: one warning, in one wording."""

from __future__ import annotations

from collections import Counter

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from geodesic.checks import warn
from geodesic.solvers.search import MOST_SEGMENTS
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.status import Status

__all__ = ["doubts_of", "found", "of_all", "warn_of_doubts"]


def doubts_of(solution: GeodesicSolution) -> Int[Tensor, "*batch"]:
    """The status of each geodesic, and `Status.NOT_RESOLVED` where it has converged and is too coarse."""
    return torch.where(solution.converged & ~solution.resolved, Status.NOT_RESOLVED, solution.status)


def found(doubts: Int[Tensor, "*batch"]) -> Bool[Tensor, "*batch"]:
    """Whether geodesics have converged, with few segments or many."""
    return (doubts == Status.CONVERGED) | (doubts == Status.NOT_RESOLVED)


def of_all(doubts: Int[Tensor, "*batch N"]) -> Int[Tensor, "*batch"]:
    """The status of an answer that builds on N geodesics each: whether all were found, and why not.

    Example:
        >>> import torch, geodesic
        >>> from geodesic.solvers.doubts import of_all
        >>> [geodesic.Status(k).name for k in of_all(torch.tensor([[1, 13], [1, 2], [2, 14]])).tolist()]
        ['CONVERGED', 'NO_GEODESIC', 'JUMP']
    """
    status = torch.where(found(doubts).all(-1), Status.CONVERGED, Status.NO_GEODESIC)
    return torch.where((doubts == Status.JUMP).any(-1), Status.JUMP, status)


def warn_of_doubts(tool: str, doubts: Int[Tensor, "*batch"], effect: str, *, refined: bool = False) -> None:
    """Warn of geodesics that were not found, or are too coarse, with their number and what to do.

    Args:
        tool: What builds on them.
        doubts: As by `doubts_of`.
        effect: What they do to its answer.
        refined: Whether pairs had as many segments as they needed, see `Search.refines`: more are not to be had.
    """
    counts = Counter(doubts.reshape(-1).tolist())
    coarse = counts[Status.NOT_RESOLVED]
    lost = [(n, Status(k)) for k, n in counts.most_common() if k not in (Status.CONVERGED, Status.NOT_RESOLVED)]
    said, remedies = [], []
    if lost:
        kinds = ", ".join(f"{n} {status.name.lower()}" for n, status in lost)
        said.append(f"{sum(n for n, _ in lost)} did not converge ({kinds})")
        remedies.append(lost[0][1].remedy)
    if coarse:
        said.append(f"{coarse} {'is' if coarse == 1 else 'are'} not resolved")
        remedies.append(
            f"up to {MOST_SEGMENTS:,} segments did not resolve them: raise length_rtol, or look from other "
            'starts, init="best"'
            if refined
            else "too few segments: raise them in search=Search(segments=...)"
        )
    if said:
        warn(f"{tool}: of {doubts.numel()} geodesics {' and '.join(said)}, so {effect}; {'; '.join(remedies)}")
