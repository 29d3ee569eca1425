"""Preconditioners for directions along a path: what makes steps independent of T, and of latent scales."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.manifold import Manifold, weighted
from geodesic.numerics.masks import divided
from geodesic.solvers.stiffness import Laplacian, separable, stiffness, stiffness_of

__all__ = ["Preconditioner", "precondition", "preconditioned_by", "price_of_metric", "reconsidered", "with_metric"]

_DAMPING = 1e-3  # of the mean diagonal entry of the metric: latent coordinates that the decoder ignores stay put
_LARGEST_BLOCKS = 16  # latent coordinates up to which S has blocks of its own at each node from the beginning
_LARGEST_LATER = 64  # and up to which it has them later on: solving with larger ones may cost more than the decoder
_LARGEST_METRIC = 512  # and up to which it has the metric at all
_FEW = 2  # samples above `_LARGEST_LATER`, whose mean is taken
_LESS_DAMPING = 1e-4  # for certificates: soft directions need their own scale, and lead nowhere far


@runtime_checkable
class Preconditioner(Protocol):
    """An approximation S of the Hessian of half the weighted squared chords that is easy to invert."""

    positive: Bool[Tensor, " P"]
    """Whether S is positive definite, for each pair."""

    def __getitem__(self, rows: Tensor) -> Preconditioner:
        """That of some pairs."""

    def solve(self, right: Float[Tensor, "P interior d"]) -> Float[Tensor, "P interior d"]:
        """S^{-1} right."""


def precondition(
    manifold: Manifold,
    path: Float[Tensor, "P nodes d"],
    weights: Float[Tensor, "P T"],
    squared_chords: Float[Tensor, "P T"],
    samples: int,
) -> Preconditioner:
    """The preconditioner to begin with: the stiffness matrix of a few samples of the metric, or a Laplacian.

    Args:
        manifold: Where to measure.
        path: Nodes, (P, T + 1, d).
        weights: Of their segments, (P, T).
        squared_chords: Times their weights, which scale the Laplacian.
        samples: Points along a path at which to take the metric; 0 for a multiple of the Laplacian in time, which is
            also what there is above 16 latent coordinates.
    """
    T, d = squared_chords.shape[1], path.shape[2]
    if _has_blocks(samples, d, manifold.forms_metric):
        return stiffness(manifold, path, weights, min(samples, T), _DAMPING).cholesky()
    return Laplacian(squared_chords.sum(1) / weighted(path.diff(dim=1).square(), weights).sum((1, 2)), weights)


def preconditioned_by(samples: int, d: int, forms_metric: bool) -> str:
    """What `precondition` and `reconsidered` do, in words.

    Args:
        samples: As there.
        d: Latent coordinates.
        forms_metric: Whether memory suffices for the metric tensor of a point.
    """
    if _has_blocks(samples, d, forms_metric):
        return f"the metric at {samples} points of a path"
    if samples and d <= _LARGEST_METRIC and forms_metric:
        return f"the Laplacian in time, then also the metric at {_later(samples, d)} points of a path"
    return "the Laplacian in time"


def _has_blocks(samples: int, d: int, forms_metric: bool) -> bool:
    return bool(samples) and d <= _LARGEST_BLOCKS and forms_metric


def _later(samples: int, d: int) -> int:
    """Samples of the metric that are taken later on, of d > 16 latent coordinates.

    More of blocks than at the start: where few coordinates matter, paths lead far away, and the metric changes.
    """
    return 2 * samples if d <= _LARGEST_LATER else min(samples, _FEW)


def reconsidered(
    manifold: Manifold,
    path: Float[Tensor, "P nodes d"],
    weights: Float[Tensor, "P T"],
    samples: int,
    since: Int[Tensor, " P"],
) -> Preconditioner | None:
    """One with the metric at paths that took so many steps; None where it is not the time for it.

    Many decoders of many latent coordinates stretch them about alike: a Laplacian is as good for them as anything. Of
    others only a few coordinates matter, and without the metric hundreds of steps are taken. Which it is shows: the
    metric is taken after as many steps as it costs, so that no more than twice the work of the better choice is done;
    and again, where the path is by then, after 4 and 16 times as many.
    """
    price = None if path.shape[2] <= _LARGEST_BLOCKS else price_of_metric(manifold, path, samples)
    # The steps so far are the same for all paths; they are asked for only here, since a device makes the host wait.
    if price is None or int(since[0]) not in (price, 4 * price, 16 * price):
        return None
    return with_metric(manifold, path, weights, samples, _DAMPING)


def price_of_metric(manifold: Manifold, path: Float[Tensor, "P nodes d"], samples: int) -> int | None:
    """How many steps cost as much as what `with_metric` takes, at least one; None where it takes nothing."""
    nodes, d = path.shape[1:]
    if not samples or d > _LARGEST_METRIC or not manifold.forms_metric:
        return None
    return -(-_later(samples, d) * d // nodes)


def with_metric(
    manifold: Manifold,
    path: Float[Tensor, "P nodes d"],
    weights: Float[Tensor, "P T"],
    samples: int = 4,
    damping: float = _LESS_DAMPING,
) -> Preconditioner | None:
    """A few samples of the metric, d products each; None where there are too many coordinates.

    Up to 64 coordinates that is a stiffness matrix, with the identity where the metric is not finite, and above that
    their mean beside the Laplacian in time.
    """
    T, d = path.shape[1] - 1, path.shape[2]
    if d > _LARGEST_METRIC or not manifold.forms_metric:
        return None
    taken = min(_later(samples, d), T)
    if d > _LARGEST_LATER:
        return separable(manifold, path, weights, taken, _LESS_DAMPING)
    S = stiffness(manifold, path, weights, taken, damping).cholesky()
    lost, _ = divided(~S.positive)
    return S.with_rows(lost, stiffness_of(torch.eye(d).to(path), weights[lost]).cholesky()) if len(lost) else S
