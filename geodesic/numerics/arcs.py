"""Lengths of arcs from values and velocities at a few points of each: those of the polynomials that have them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from geodesic.numerics.spline import on_interval

__all__ = ["SIMPSON", "cubic_rates", "halves_rates", "inner_products", "lengths_of", "quintic_rates"]

Rates = tuple[NDArray[np.float64], NDArray[np.float64]]

SIMPSON = np.array([1, 4, 1]) / 3
"""Weights of the speeds per half segment, at both ends and halfway between, in the length of a segment."""


@lru_cache(maxsize=1)
def cubic_rates() -> Rates:
    """The velocity of the cubic with given velocities at both ends, as shares of its step and of these, (Q, 3).

    Returns:
        The shares at the Gauss-Legendre points of the segment, and the weights of these, (Q,).
    """
    u, weights = on_interval()
    return np.stack([6 * u * (1 - u), (1 - u) * (1 - 3 * u), u * (3 * u - 2)], axis=1), weights


@lru_cache(maxsize=1)
def halves_rates() -> Rates:
    """The same of two cubics, one on each half: shares of both steps and of three velocities per half, (2 Q, 5)."""
    (step, left, right), weights = cubic_rates()[0].T, cubic_rates()[1]
    nothing = np.zeros_like(step)
    halves = [[step, nothing, left, right, nothing], [nothing, step, nothing, left, right]]
    return np.concatenate([np.stack(half, axis=1) for half in halves]), np.concatenate([weights, weights])


@lru_cache(maxsize=1)
def quintic_rates() -> Rates:
    """The same of the quintic on both halves: of order 6 where a curve has as many derivatives."""
    u, weights = on_interval()
    at, powers = np.array([-1.0, 0.0, 1.0])[:, None], np.arange(6)
    s = np.concatenate([u - 1, u])[:, None]  # in half segments, from the middle
    conditions = np.concatenate([at**powers, powers * at ** (powers - 1).clip(0)])
    shares = powers * s ** (powers - 1).clip(0) @ np.linalg.inv(conditions)
    # Three values count by their two differences alone.
    return np.concatenate([-shares[:, :1], shares[:, 2:]], axis=1), np.concatenate([weights, weights])


def inner_products(*vectors: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch n n"]:
    """Of all pairs of n vectors."""
    rows = [[(a * b).sum(-1) for b in vectors[: i + 1]] for i, a in enumerate(vectors)]
    n = range(len(vectors))
    return torch.stack([torch.stack([rows[max(i, j)][min(i, j)] for j in n], dim=-1) for i in n], dim=-2)


def lengths_of(
    products: Float[Tensor, "*batch n n"], shares: Float[Tensor, "Q n"], weights: Float[Tensor, " Q"]
) -> Float[Tensor, "*batch"]:
    """Lengths of curves whose velocities at points of quadrature are sums of n vectors.

    Args:
        products: Inner products of the vectors.
        shares: Of the vectors in the velocities.
        weights: Of the points.
    """
    squares = torch.einsum("qa,...ab,qb->...q", shares, products, shares)
    return squares.clamp_min(0).sqrt() @ weights
