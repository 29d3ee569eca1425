"""Division by metric tensors, which refuses what is singular."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.checks import brief
from geodesic.errors import SingularMetricError
from geodesic.numerics.kernel import frames, on_kernel, rank

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
        largest: The largest entry of G in size, (*batch,).
        factor: Lower triangular L with L L^T = G, (*batch, d, d); NaN where G is singular.
        coframe: E with E^T E = G, (*batch, d, d): L^T, or on the range of G one with as many zero rows, the last ones,
            as G ignores directions. |E v| is the Riemannian norm.
        frame: Its (pseudo)inverse, (*batch, d, d): orthonormal columns, and zeros in place of what G ignores.
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
        self.largest: Float[Tensor, "*batch"] = G.abs().amax((-2, -1))
        self.regular: Bool[Tensor, "*batch"] = finite & ~lost & (failed == 0) & _normal(self.largest)
        self.deficiency: Int[Tensor, "*batch"] = torch.zeros_like(failed, dtype=torch.int64)
        self.factor = (scale[..., None] * L).masked_fill(~self.regular[..., None, None], torch.nan)
        self._G = G

    @classmethod
    def on_range(cls, G: Float[Tensor, "*batch d d"], even: Bool[Tensor, "*batch"]) -> MetricInverse:
        """The inverse, on the range of G where it is singular and `even`: where its rank is the same all around.

        G is completed along its kernel, see `geodesic.numerics.kernel.on_kernel`: G^{-1} p is then the vector of least
        norm, in coordinates scaled alike, that G takes to p. Where G is zero there is no range, and no inverse.
        """
        filled = even & (rank(G) > 0) & _normal(G.abs().amax((-2, -1)))
        G0 = torch.where(filled[..., None, None], G, torch.eye(G.shape[-1], dtype=G.dtype, device=G.device))
        R = on_kernel(G0, torch.zeros_like(G0), 0.0)
        inverse = cls(torch.where(filled[..., None, None], G0 + R, G))
        inverse.deficiency = torch.where(filled, G.shape[-1] - rank(G), 0)
        inverse._G = G0
        return inverse

    @classmethod
    def wherever_finite(cls, G: Float[Tensor, "*batch d d"]) -> MetricInverse:
        """The same where G is finite: for callers who know, or whose callers do, that its rank is the same around."""
        inverse = cls(G)
        return inverse if bool(inverse.regular.all()) else cls.on_range(G, G.isfinite().flatten(-2).all(-1))

    @property
    def coframe(self) -> Float[Tensor, "*batch d d"]:
        return self._frames()[0]

    @property
    def frame(self) -> Float[Tensor, "*batch d d"]:
        return self._frames()[1]

    def seen(self, v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """G^{-1} G v: v without its part along what G ignores, and v itself where that is nothing."""
        deficient = self.deficiency > 0
        if not bool(deficient.any()):
            return v
        return torch.where(deficient[..., None], self((self._G @ v[..., None])[..., 0]), v)

    def _frames(self) -> tuple[Tensor, Tensor]:
        E, deficient = self.factor.mT, self.deficiency > 0
        eye = torch.eye(E.shape[-1], dtype=E.dtype, device=E.device).expand_as(E)
        F = torch.linalg.solve_triangular(E, eye, upper=True)
        if not bool(deficient.any()):
            return E, F
        lost = ~deficient[..., None, None]
        on_range = frames(torch.where(lost, eye, self._G))
        return torch.where(lost, E, on_range[0]), torch.where(lost, F, on_range[1])

    def __call__(self, v: Tensor) -> Tensor:
        """G^{-1} v, for covectors v, (*batch, d), or matrices of them by columns, (*batch, d, k)."""
        columns = v[..., None] if v.dim() < self.factor.dim() else v
        raised = torch.cholesky_solve(columns, self.factor)
        return raised.reshape(v.shape)


def _normal(size: Tensor) -> Bool[Tensor, "*batch"]:
    """Where numbers are large enough to have all their digits."""
    return size >= torch.finfo(size.dtype).tiny


def require_regular(z: Float[Tensor, "*batch d"], inverse: MetricInverse | Tensor, argument: str = "z") -> None:
    """Raise `SingularMetricError` for the first of the points, (*batch, d), at which the metric is singular.

    Or at which it is not regular, by a mask, (*batch,).
    """
    singular = ~(inverse if isinstance(inverse, Tensor) else inverse.regular)
    if not singular.any():
        return
    point = brief(z[singular][0])
    # Not a number, where an entry of the metric is not.
    size = 1.0 if isinstance(inverse, Tensor) else float(inverse.largest[singular][0])
    if not torch.finfo(z.dtype).tiny <= size < torch.inf:
        found = "zero to" if size < 1 else "too large for"
        raise SingularMetricError(
            f"{argument}: the metric is singular at {point}, where it is {found} {z.dtype}: a constant decoder, or one "
            "whose outputs are too small or too large to be squared; multiply them by a constant, with which lengths "
            "scale, or use float64"
        )
    raise SingularMetricError(
        f"{argument}: the metric is singular at {point}, so vectors there cannot be told apart by "
        "their lengths; the decoder's Jacobian has deficient rank (a dead or saturated unit, a latent "
        "coordinate without effect, a pole of the coordinates): move the point, use float64, or a decoder without "
        "that coordinate"
    )
