"""Candidates for nearest neighbors among millions of points: those that are near through the surrounding space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.distances.rounding import places_of
from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold
from geodesic.installation import require

__all__ = ["Approximate", "approximate_candidates", "candidates_of"]

_NUMBERS = 64  # of a point, that the index holds: outputs of more are projected
_AT_ONCE = 2**24  # numbers of a block of distances


@dataclass(frozen=True)
class Approximate:
    """Look for neighbors among `count` points that are near through the surrounding space, by an approximate index.

    Its recall, the share of the `count` nearest points that it finds, is measured on random queries. Outputs with more
    than 64 numbers are projected at random, so that the index takes 256 bytes a point.

    Reference:
        W. Dong, M. Charikar, K. Li, Efficient k-nearest neighbor graph construction for generic similarity measures,
        2011, as in pynndescent, extra `neighbors`.

    Args:
        count: Candidates of a query.
        sample: Queries on which the recall is measured.
        seed: Of the index, the projection and the sample.

    Raises:
        InputError: A setting cannot be used.

    Example:
        >>> from geodesic.distances import Approximate
        >>> Approximate(count=100).sample
        200
    """

    count: int = 64
    sample: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        require_integer("count", self.count, least=2)
        require_integer("sample", self.sample, least=1)
        require_integer("seed", self.seed, least=0)


def candidates_of(candidates: object, manifold: Manifold, k: int, points: int) -> Approximate | None:
    """The record of what a user said, None for exact candidates.

    Raises:
        InputError: It is neither word nor record, asks for fewer than k, or there is no surrounding space.
    """
    if candidates == "exact":
        return None
    if candidates == "approximate":
        candidates = Approximate(count=max(2, min(points, max(Approximate.count, 2 * k))))
    if not isinstance(candidates, Approximate):
        raise InputError(
            f"candidates: expected 'exact', 'approximate' or a record Approximate(...), got {candidates!r}"
        )
    if not manifold.has_embedding:
        raise InputError(
            f"candidates: approximate ones are near through the surrounding space; {type(manifold).__name__} has no "
            "embedding; leave candidates='exact'"
        )
    if candidates.count < k or candidates.count > points:
        raise InputError(f"candidates: expected count from k = {k} to the {points} points, got {candidates.count}")
    require("neighbors", "pynndescent")
    return candidates


def approximate_candidates(
    manifold: Manifold, points: Float[Tensor, "N d"], queries: Float[Tensor, "Q d"] | None, how: Approximate
) -> tuple[Int[Tensor, "Q C"], float]:
    """Which points are candidates of each query, and the recall on a sample.

    Args:
        manifold: With an embedding.
        points: To choose from.
        queries: None where they are the points: each is its own candidate.
        how: How many.

    Raises:
        InputError: Outputs are not finite at some points.
    """
    from pynndescent import NNDescent

    x = _projected(manifold, points, how.seed)
    index = NNDescent(x.numpy(), n_neighbors=how.count, random_state=how.seed)
    if queries is None:
        found = index.neighbor_graph[0]
    else:
        found = index.query(_projected(manifold, queries, how.seed).numpy(), k=how.count)[0]
    among = torch.as_tensor(found).long()
    if queries is None:
        own = torch.arange(len(points))
        lacks = (among != own[:, None]).all(1)
        among[lacks, -1] = own[lacks]
    among = among.to(points.device)
    return among, _recall(manifold, points, points if queries is None else queries, among, how)


def _projected(manifold: Manifold, z: Float[Tensor, "N d"], seed: int) -> Float[Tensor, "N n"]:
    """Places in single precision, on the CPU; of many numbers few random combinations."""
    size = places_of(manifold, z[:1]).shape[1]
    generator = torch.Generator().manual_seed(seed)
    A = None if size <= _NUMBERS else torch.randn(size, _NUMBERS, generator=generator, dtype=torch.float32)
    parts = []
    for some in z.split(max(1, _AT_ONCE // size)):
        x = places_of(manifold, some).cpu().float()
        if not bool(x.isfinite().all()):
            raise InputError("points: outputs are not finite at some of them; leave these out, or candidates='exact'")
        parts.append(x if A is None else x @ A)
    return torch.cat(parts)


def _recall(
    manifold: Manifold,
    points: Float[Tensor, "N d"],
    queries: Float[Tensor, "Q d"],
    among: Int[Tensor, "Q C"],
    how: Approximate,
) -> float:
    """The share of the nearest points through the surrounding space that are among the candidates of some queries."""
    rows = torch.randperm(len(queries), generator=torch.Generator().manual_seed(how.seed))[: how.sample]
    rows = rows.to(points.device)
    x = places_of(manifold, queries[rows])
    least = x.new_full((len(rows), 0), 0)
    which = among.new_zeros((len(rows), 0))
    begun = 0
    for some in points.split(max(1, _AT_ONCE // max(x.shape[1], len(rows)))):
        D = torch.cdist(x, places_of(manifold, some))
        least = torch.cat([least, D], 1)
        own = torch.arange(begun, begun + len(some), device=points.device).expand(len(rows), -1)
        which = torch.cat([which, own], 1)
        least, at = least.topk(min(how.count, least.shape[1]), largest=False)
        which, begun = which.gather(1, at), begun + len(some)
    return float((which[:, :, None] == among[rows][:, None]).any(2).double().mean())
