"""Answers of batches of one axis, put together: by groups, by rows, by the better of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.solvers.solution import GeodesicSolution, tensors
from geodesic.solvers.status import Status

__all__ = ["chosen", "in_order", "joined", "padded", "sampled", "shaped", "shorter", "uncertified", "with_rows"]


def joined(answers: Sequence[GeodesicSolution]) -> GeodesicSolution:
    """The answers of several groups, one after the other."""
    parts = [tensors(answer) for answer in answers]
    values: dict[str, Any] = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return replace(answers[0], **values)


def in_order(groups: Sequence[tuple[Int[Tensor, " _"], GeodesicSolution]]) -> GeodesicSolution:
    """The answers of groups, each with the places of its pairs among all."""
    nodes = max(answer.times.shape[1] for _, answer in groups)
    places = torch.cat([rows for rows, _ in groups])
    return joined([padded(answer, nodes) for _, answer in groups])[places.argsort()]


def sampled(answer: GeodesicSolution, segments: int) -> GeodesicSolution:
    """The answer with its path at equal times, of so many segments."""
    times = torch.linspace(0, 1, segments + 1, dtype=answer.times.dtype, device=answer.times.device)
    path = torch.cat([answer.mesh[:, :1], answer(times)[:, 1:-1], answer.mesh[:, -1:]], dim=1)
    solved = ((answer.segments == segments) & ~answer.polygon)[:, None, None]  # with nodes at these times
    return replace(answer, path=torch.where(solved, answer.mesh[:, : segments + 1], path))


def with_rows(answer: GeodesicSolution, rows: Int[Tensor, " n"], new: GeodesicSolution) -> GeodesicSolution:
    """The answer with some rows replaced by those of a new one."""
    nodes = max(answer.times.shape[1], new.times.shape[1])
    answer, new = padded(answer, nodes), padded(new, nodes)
    values: dict[str, Any] = {name: x.index_put((rows,), tensors(new)[name]) for name, x in tensors(answer).items()}
    return replace(answer, **values)


def uncertified(answer: GeodesicSolution, rows: Int[Tensor, " n"], excess: Float[Tensor, " n"]) -> GeodesicSolution:
    """The answer without the certificates of some rows, of whose energy at least so much is left."""
    last = answer[rows]
    no = torch.zeros_like(last.converged)
    excess = last.relative_excess_energy.maximum(excess)
    new = replace(
        last,
        relative_excess_energy=excess,
        error=last.error.maximum(excess),
        converged=no,
        minimum=no,
        resolved=no,
        status=torch.full_like(last.status, Status.STALLED),
    )
    return with_rows(answer, rows, new)


def padded(answer: GeodesicSolution, nodes: int) -> GeodesicSolution:
    """The answer with room for more nodes: behind the last node of a path follows that node again."""
    missing = nodes - answer.times.shape[1]
    if not missing:
        return answer
    last = answer.mesh[:, -1:].expand(-1, missing, -1)
    times, arc = (torch.cat([x, x[:, -1:].expand(-1, missing)], dim=1) for x in (answer.times, answer.arc))
    mesh = torch.cat([answer.mesh, last], dim=1)
    return replace(answer, path=mesh, mesh=mesh, times=times, arc=arc)


def shorter(answers: Sequence[GeodesicSolution]) -> GeodesicSolution:
    """For each pair the answer of least length among those whose start could be used."""
    best = answers[0]
    for other in answers[1:]:
        best = chosen(_usable_length(other) < _usable_length(best), other, best)
    return best


def shaped(answer: GeodesicSolution, batch: torch.Size, event: tuple[int, ...]) -> GeodesicSolution:
    """The answer with the axes of the endpoints in place of the one of pairs, and those of a point in place of d."""
    values: dict[str, Any] = {name: x.reshape(batch + x.shape[1:]) for name, x in tensors(answer).items()}
    nodes = {name: x.reshape(*batch, x.shape[1], *event) for name, x in (("path", answer.path), ("mesh", answer.mesh))}
    return replace(answer, **values | nodes | {"winding": answer.winding.reshape(*batch, *event)})


def chosen(first: Bool[Tensor, " P"], one: GeodesicSolution, other: GeodesicSolution) -> GeodesicSolution:
    """For each pair one of two answers."""
    nodes = max(one.times.shape[1], other.times.shape[1])
    one, other = padded(one, nodes), padded(other, nodes)
    values: dict[str, Any] = {
        name: torch.where(first.reshape(-1, *[1] * (x.dim() - 1)), tensors(one)[name], x)
        for name, x in tensors(other).items()
    }
    return replace(other, **values)


def _usable_length(answer: GeodesicSolution) -> Tensor:
    unusable = (answer.status == Status.NOT_CONNECTED) | (answer.status == Status.NOT_FINITE)
    return torch.where(unusable | answer.length.isnan(), torch.inf, answer.length)
