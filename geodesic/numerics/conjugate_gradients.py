"""Conjugate gradients for many linear systems at once, of which only products are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["ConjugateGradients", "conjugate_gradients"]


class ConjugateGradients(NamedTuple):
    """What conjugate gradients found for H x = b, for each row.

    Attributes:
        solution: x, (R, ...), as far as it got.
        form: b^T x, (R,): it grows from step to step towards b^T H^{-1} b.
        positive: Whether no direction of negative curvature was met, (R,), boolean.
    """

    solution: Float[Tensor, "R *event"]
    form: Float[Tensor, " R"]
    positive: Bool[Tensor, " R"]


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    right: Float[Tensor, "R *event"],
    *,
    max_products: int,
    accuracy: Float[Tensor, " R"] | float = 0.0,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> ConjugateGradients:
    """Solve H x = b for each row by itself, H symmetric, one product with H a step.

    A row ends early where it meets negative curvature: with what it has, which is a direction of descent of
    x^T H x / 2 - b^T x. In the first step that is S^{-1} b.

    Reference:
        T. Steihaug, The Conjugate Gradient Method and Trust Regions in Large Scale Optimization, 1983.

    Args:
        product: From directions, (R, ...), to H times them, row by row.
        right: b, (R, ...).
        max_products: Most products.
        accuracy: Part of the norm of b that the residual may keep, both measured with S^{-1}, for each row.
        precondition: From residuals to S^{-1} times them, S an approximation of H; the identity by default.

    Returns:
        The solutions and what is known about them.

    Example:
        >>> import torch
        >>> from geodesic.numerics.conjugate_gradients import conjugate_gradients
        >>> diagonal = torch.tensor([1.0, 2.0, 4.0])
        >>> conjugate_gradients(lambda p: diagonal * p, torch.ones(1, 3), max_products=3).solution
        tensor([[1.0000, 0.5000, 0.2500]])
    """
    event = (1,) * (right.dim() - 1)
    axes = tuple(range(1, right.dim()))

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(axes)

    def each(x: Tensor) -> Tensor:
        return x.reshape(-1, *event)

    solution, residual = torch.zeros_like(right), right
    scaled = right if precondition is None else precondition(right)
    search, norm = scaled, inner(residual, scaled)
    target = accuracy**2 * norm
    form, positive, active = torch.zeros_like(norm), torch.ones_like(norm, dtype=torch.bool), norm > 0
    for step in range(max_products):
        if not bool(active.any()):
            break
        image = product(search)
        curvature = inner(search, image)
        bent = active & ~(curvature > 0)
        positive &= ~bent
        if step == 0:
            solution = torch.where(each(bent), scaled, solution)
        active = active & ~bent
        alpha = torch.where(active, norm / curvature, 0)
        solution = solution + each(alpha) * search
        residual = residual - each(alpha) * image
        form = form + alpha * norm
        scaled = residual if precondition is None else precondition(residual)
        new = inner(residual, scaled)
        search = scaled + each(torch.where(norm > 0, new / norm, 0)) * search
        norm = torch.where(active, new, norm)
        active &= norm > target
    return ConjugateGradients(solution, form, positive)
