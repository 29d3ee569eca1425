"""Conjugate gradients for many linear systems at once, of which only products are known."""

from __future__ import annotations

import math
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
        rest: About how much it will still grow, (R,), as estimated below. Zero before the first step.
        positive: Whether no direction of negative curvature was met, (R,), boolean.
    """

    solution: Float[Tensor, "R *event"]
    form: Float[Tensor, " R"]
    rest: Float[Tensor, " R"]
    positive: Bool[Tensor, " R"]


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    right: Float[Tensor, "R *event"],
    *,
    max_products: int,
    accuracy: Float[Tensor, " R"] | float = 0.0,
    share: Float[Tensor, " R"] | float = math.inf,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> ConjugateGradients:
    """Solve H x = b for each row by itself, H symmetric, one product with H a step.

    A row ends early where it meets negative curvature: with what it has, which is a direction of descent of
    x^T H x / 2 - b^T x. In the first step that is S^{-1} b.

    With residuals r = b - H x and the least eigenvalue lambda of S^{-1} H

        b^T H^{-1} b - b^T x = r^T H^{-1} r <= r^T S^{-1} r / lambda.

    1 / lambda is the square of the norm of L^{-1}, where L L^T is the tridiagonal matrix of the Lanczos process. It is
    estimated from below, row by row of L, so `rest` is near r^T H^{-1} r and may lie on either side of it.

    Reference:
        T. Steihaug, The Conjugate Gradient Method and Trust Regions in Large Scale Optimization, 1983.
        G. Meurant, P. Tichy, Approximating the extreme Ritz values and upper bounds for the A-norm of the error in CG,
        2019.

    Args:
        product: From directions, (R, ...), to H times them, row by row.
        right: b, (R, ...).
        max_products: Most products.
        accuracy: Part of the norm of b that the residual may keep, both measured with S^{-1}, for each row.
        share: Part of the form that the rest may be, for each row. A row ends where both are small enough: the rest
            alone may be underestimated in the first steps, which see stiff directions before soft ones.
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
    rest = torch.zeros_like(norm)
    spectrum = _Spectrum(*[rest] * 5)
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
        beta = torch.where(norm > 0, new / norm, 0)
        search = scaled + each(beta) * search
        norm = torch.where(active, new, norm)
        spectrum = spectrum.after(alpha, beta)
        rest = torch.where(active, norm * spectrum.inverse, rest)
        active &= (norm > target) | (rest > share * form)
    return ConjugateGradients(solution, form, rest, positive)


class _Spectrum(NamedTuple):
    """The least eigenvalue lambda of S^{-1} H by what the steps of conjugate gradients tell, for each row.

    L has 1 / sqrt(alpha_k) on its diagonal and sqrt(beta_k / alpha_k) below it.

    Attributes:
        inverse: |w^T L^{-1}|^2 for a vector w of length 1 that nearly makes it largest: about 1 / lambda, from below.
        coupling: <w^T L^{-1}, last row of L^{-1}>.
        last: Square of the last row of L^{-1}.
        alpha: Of the latest step; zero before the first.
        beta: Of the latest step.
    """

    inverse: Float[Tensor, " R"]
    coupling: Float[Tensor, " R"]
    last: Float[Tensor, " R"]
    alpha: Float[Tensor, " R"]
    beta: Float[Tensor, " R"]

    def after(self, alpha: Float[Tensor, " R"], beta: Float[Tensor, " R"]) -> _Spectrum:
        """One step further: w becomes (s w, c), of all s^2 + c^2 = 1 the best."""
        ratio = torch.where(self.alpha > 0, self.beta * alpha / self.alpha, 0)
        last, across = ratio * self.last + alpha, -ratio.sqrt() * self.coupling
        # (s, c) belongs to the larger eigenvalue of [[inverse, across], [across, last]].
        half = (self.inverse - last) / 2
        root = torch.hypot(half, across)
        angle = torch.atan2(across, half + root)
        inverse = (self.inverse + last) / 2 + root
        return _Spectrum(inverse, angle.cos() * across + angle.sin() * last, last, alpha, beta)
