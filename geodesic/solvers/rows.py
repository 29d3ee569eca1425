"""Answers of batches of one axis, put together: by groups, by rows, by the better of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from geodesic.geometry.path import refine_path
from geodesic.solvers.solution import GeodesicSolution, tensors
from geodesic.solvers.status import Status

__all__ = ["joined", "resampled", "shaped", "shorter", "with_rows"]


def joined(answers: Sequence[GeodesicSolution]) -> GeodesicSolution:
    """The answers of several groups, one after the other."""
    parts = [tensors(answer) for answer in answers]
    values: dict[str, Any] = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return replace(answers[0], **values)


def with_rows(answer: GeodesicSolution, rows: Int[Tensor, " n"], new: GeodesicSolution) -> GeodesicSolution:
    """The answer with some rows replaced by those of a new one; both have the same number of segments.

    What is said about the work is that of the new one, which took more segments and the more memory.
    """
    values: dict[str, Any] = {name: x.index_put((rows,), tensors(new)[name]) for name, x in tensors(answer).items()}
    return replace(answer, **values, solver=new.solver, memory=max(answer.memory, new.memory))


def resampled(answer: GeodesicSolution, segments: int) -> GeodesicSolution:
    """The same curves with another number of nodes."""
    if answer.path.shape[1] - 1 == segments:
        return answer
    arc = refine_path(answer.arc[..., None], segments)[..., 0]
    return replace(answer, path=refine_path(answer.path, segments), arc=arc)


def shorter(answers: Sequence[GeodesicSolution]) -> GeodesicSolution:
    """For each pair the answer of least length among those whose start could be used."""
    best = answers[0]
    for other in answers[1:]:
        T = max(best.path.shape[1], other.path.shape[1]) - 1
        best, other = resampled(best, T), resampled(other, T)
        best = _chosen(_usable_length(other) < _usable_length(best), other, best)
    return best


def shaped(answer: GeodesicSolution, batch: torch.Size, event: tuple[int, ...]) -> GeodesicSolution:
    """The answer with the axes of the endpoints in place of the one of pairs, and those of a point in place of d."""
    values: dict[str, Any] = {name: x.reshape(batch + x.shape[1:]) for name, x in tensors(answer).items()}
    return replace(answer, **values | {"path": answer.path.reshape(*batch, answer.path.shape[1], *event)})


def _chosen(first: Bool[Tensor, " P"], one: GeodesicSolution, other: GeodesicSolution) -> GeodesicSolution:
    values: dict[str, Any] = {
        name: torch.where(first.reshape(-1, *[1] * (x.dim() - 1)), tensors(one)[name], x)
        for name, x in tensors(other).items()
    }
    return replace(other, **values)


def _usable_length(answer: GeodesicSolution) -> Tensor:
    unusable = (answer.status == Status.NOT_CONNECTED) | (answer.status == Status.NOT_FINITE)
    return torch.where(unusable | answer.length.isnan(), torch.inf, answer.length)
