"""Conjugate gradients for many linear systems at once, of which only products are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.numerics.masks import divided

__all__ = ["ConjugateGradients", "Decided", "Systems", "conjugate_gradients"]

Decided = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""From form, rest, the part of b that is left, measured as `accuracy` is, and the rows' indices, all (r,): which rows
need no more products, boolean."""


@dataclass(frozen=True)
class Systems:
    """Symmetric matrices H, a row each, of which products are known.

    Attributes:
        product: From directions, (R, ...), to H times them, row by row.
        precondition: From residuals to S^{-1} times them, S an approximation of H; None for the identity.
        narrowed: Makes the systems of some rows, by their indices, at about the price of a product with each; None
            where rows that are done cannot leave.
    """

    product: Callable[[Tensor], Tensor]
    precondition: Callable[[Tensor], Tensor] | None = None
    narrowed: Callable[[Int[Tensor, " r"]], Systems] | None = None

    def scaled(self, residual: Float[Tensor, "R *event"]) -> Float[Tensor, "R *event"]:
        """S^{-1} times residuals."""
        return residual if self.precondition is None else self.precondition(residual)


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
    systems: Systems,
    right: Float[Tensor, "R *event"],
    *,
    max_products: int,
    accuracy: Float[Tensor, " R"] | float = 0.0,
    share: Float[Tensor, " R"] | float = math.inf,
    decided: Decided | None = None,
) -> ConjugateGradients:
    """Solve H x = b for each row by itself, H symmetric, one product with H a step.

    A row ends early where it meets negative curvature: with what it has, which is a direction of descent of
    x^T H x / 2 - b^T x. In the first step that is S^{-1} b. Rows that have ended take part in products until half of
    those that are left have: then they leave, where systems can be narrowed.

    With residuals r = b - H x and the least eigenvalue lambda of S^{-1} H

        b^T H^{-1} b - b^T x = r^T H^{-1} r <= r^T S^{-1} r / lambda.

    1 / lambda is the square of the norm of L^{-1}, where L L^T is the tridiagonal matrix of the Lanczos process. It is
    estimated from below, row by row of L, so `rest` is near r^T H^{-1} r and may lie on either side of it.

    Reference:
        T. Steihaug, The Conjugate Gradient Method and Trust Regions in Large Scale Optimization, 1983.
        G. Meurant, P. Tichy, Approximating the extreme Ritz values and upper bounds for the A-norm of the error in CG,
        2019.

    Args:
        systems: H, and S for a preconditioner.
        right: b, (R, ...).
        max_products: Most products.
        accuracy: Part of the norm of b that the residual may keep, both measured with S^{-1}, for each row.
        share: Part of the form that the rest may be, for each row. A row ends where both are small enough: the rest
            alone may be underestimated in the first steps, which see stiff directions before soft ones.
        decided: Says which rows may end before that.

    Returns:
        The solutions and what is known about them.

    Example:
        >>> import torch
        >>> from geodesic.numerics.conjugate_gradients import Systems, conjugate_gradients
        >>> diagonal = torch.tensor([1.0, 2.0, 4.0])
        >>> conjugate_gradients(Systems(lambda p: diagonal * p), torch.ones(1, 3), max_products=3).solution
        tensor([[1.0000, 0.5000, 0.2500]])
    """
    axes = tuple(range(1, right.dim()))

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(axes)

    def each(x: Tensor) -> Tensor:
        return x.reshape(-1, *(1,) * (right.dim() - 1))

    scaled = systems.scaled(right)
    first = inner(right, scaled)
    zero = torch.zeros_like(first)
    found = ConjugateGradients(torch.zeros_like(right), zero, zero, torch.ones_like(first, dtype=torch.bool))
    rows = torch.arange(len(right), device=right.device)
    limits = (torch.as_tensor(x, dtype=first.dtype, device=first.device) for x in (accuracy, share))
    least, share = (x.expand_as(first) for x in limits)
    now = _Loop(*found, right, scaled, first, first > 0, first, least.square(), share, _Spectrum(*[zero] * 5))
    for step in range(max_products):
        active = int(now.active.sum())
        if not active:
            break
        if systems.narrowed is not None and 2 * active <= len(rows):
            on = divided(now.active)[0]
            found = now.written(found, rows)
            systems, rows, now = systems.narrowed(on), rows[on], now.narrowed(on)
        image = systems.product(now.search)
        curvature = inner(now.search, image)
        bent = now.active & ~(curvature > 0)
        going = now.active & ~bent
        alpha = torch.where(going, now.norm / curvature, 0)
        solution = torch.where(each(bent), now.search, now.solution) if step == 0 else now.solution
        residual = now.residual - each(alpha) * image
        scaled = systems.scaled(residual)
        new = inner(residual, scaled)
        beta = torch.where(now.norm > 0, new / now.norm, 0)
        form, norm = now.form + alpha * now.norm, torch.where(going, new, now.norm)
        now = now._replace(
            solution=solution + each(alpha) * now.search,
            form=form,
            positive=now.positive & ~bent,
            residual=residual,
            search=scaled + each(beta) * now.search,
            norm=norm,
            spectrum=now.spectrum.after(alpha, beta),
        )
        rest = torch.where(going, norm * now.spectrum.inverse, now.rest)
        left = norm / now.first
        going &= (left > now.least) | (rest > now.share * form)
        if decided is not None:
            going &= ~decided(form, rest, left.sqrt(), rows)
        now = now._replace(rest=rest, active=going)
    return now.written(found, rows)


class _Loop(NamedTuple):
    """Where the loop stands, for the rows that are left.

    Attributes:
        solution: As in `ConjugateGradients`, as are form, rest and positive.
        residual: b - H x.
        search: The next direction.
        norm: r^T S^{-1} r.
        active: Which rows go on.
        first: b^T S^{-1} b.
        least: Part of it at which a row may end.
        share: Part of the form that the rest may be.
        spectrum: What is known of S^{-1} H.
    """

    solution: Float[Tensor, "R *event"]
    form: Float[Tensor, " R"]
    rest: Float[Tensor, " R"]
    positive: Bool[Tensor, " R"]
    residual: Float[Tensor, "R *event"]
    search: Float[Tensor, "R *event"]
    norm: Float[Tensor, " R"]
    active: Bool[Tensor, " R"]
    first: Float[Tensor, " R"]
    least: Float[Tensor, " R"]
    share: Float[Tensor, " R"]
    spectrum: _Spectrum

    def narrowed(self, rows: Int[Tensor, " r"]) -> _Loop:
        """That of some rows."""
        parts = {name: x[rows] for name, x in self._asdict().items() if name != "spectrum"}
        return self._replace(**parts, spectrum=_Spectrum(*(x[rows] for x in self.spectrum)))

    def written(self, found: ConjugateGradients, rows: Int[Tensor, " R"]) -> ConjugateGradients:
        """What was found, with what is known of these rows by now."""
        mine = (self.solution, self.form, self.rest, self.positive)
        return ConjugateGradients(*(x.index_put((rows,), y) for x, y in zip(found, mine, strict=True)))


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
