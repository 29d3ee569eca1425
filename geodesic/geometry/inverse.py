"""Division by metric tensors, which refuses what is singular."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.checks import brief
from geodesic.errors import SingularMetricError
from geodesic.numerics.kernel import on_kernel, rank

__all__ = ["MetricInverse", "require_regular"]


class MetricInverse:
    """G^{-1}, by Cholesky factors of the metric in coordinates that are scaled alike.

    Scaled so that its diagonal is one, a metric of latent coordinates with very different units keeps all its
    digits. Where it is singular to rounding all the same, results are NaN.

    Args:
        G: Metric tensors, (*batch, d, d).

    Attributes:
        regular: Where G can be inverted, (*batch,), boolean.
        deficiency: Directions that G ignores and that it was completed along, (*batch,), integer: see `on_range`.
        factor: Lower triangular L with L L^T = G, (*batch, d, d); NaN where G is singular.
    """

    def __init__(self, G: Float[Tensor, "*batch d d"]) -> None:
        diagonal = G.diagonal(dim1=-2, dim2=-1)
        positive = (diagonal > 0).all(-1) & diagonal.isfinite().all(-1)
        scale = torch.where(positive[..., None], diagonal, 1).sqrt()
        even = G / (scale[..., :, None] * scale[..., None, :])
        d, eps = G.shape[-1], torch.finfo(G.dtype).eps
        eye = torch.eye(d, dtype=G.dtype, device=G.device)
        finite = even.isfinite().flatten(-2).all(-1) & positive
        even = torch.where(finite[..., None, None], even, eye)
        # Also with a little taken away, which a matrix that is singular up to rounding does not survive.
        lost = torch.linalg.cholesky_ex(even - 10 * d * eps * eye).info > 0
        L, failed = torch.linalg.cholesky_ex(even)
        self.regular: Bool[Tensor, "*batch"] = finite & ~lost & (failed == 0)
        self.deficiency: Int[Tensor, "*batch"] = torch.zeros_like(failed, dtype=torch.int64)
        self.factor = (scale[..., None] * L).masked_fill(~self.regular[..., None, None], torch.nan)

    @classmethod
    def on_range(cls, G: Float[Tensor, "*batch d d"], even: Bool[Tensor, "*batch"]) -> MetricInverse:
        """The inverse, on the range of G where it is singular and `even`: where its rank is the same all around.

        G is completed along its kernel, see `geodesic.numerics.kernel.on_kernel`: G^{-1} p is then the vector of least
        norm, in coordinates scaled alike, that G takes to p. Where G is zero there is no range, and no inverse.
        """
        filled = even & (rank(G) > 0)
        G0 = torch.where(filled[..., None, None], G, torch.eye(G.shape[-1], dtype=G.dtype, device=G.device))
        R = on_kernel(G0, torch.zeros_like(G0), 0.0)
        inverse = cls(torch.where(filled[..., None, None], G0 + R, G))
        inverse.deficiency = torch.where(filled, G.shape[-1] - rank(G), 0)
        return inverse

    def __call__(self, v: Tensor) -> Tensor:
        """G^{-1} v, for covectors v, (*batch, d), or matrices of them by columns, (*batch, d, k)."""
        columns = v[..., None] if v.dim() < self.factor.dim() else v
        raised = torch.cholesky_solve(columns, self.factor)
        return raised.reshape(v.shape)


def require_regular(z: Float[Tensor, "*batch d"], inverse: MetricInverse | Tensor, argument: str = "z") -> None:
    """Raise `SingularMetricError` for the first of the points, (*batch, d), at which the metric is singular.

    Or at which it is not regular, by a mask, (*batch,).
    """
    singular = ~(inverse if isinstance(inverse, Tensor) else inverse.regular)
    if singular.any():
        raise SingularMetricError(
            f"{argument}: the metric is singular at {brief(z[singular][0])}, so vectors there cannot be told apart by "
            "their lengths; the decoder's Jacobian has deficient rank (a dead or saturated unit, a latent "
            "coordinate without effect, a pole of the coordinates): move the point, use float64, or a decoder without "
            "that coordinate"
        )
