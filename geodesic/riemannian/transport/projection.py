"""Tangent spaces in the space of outputs, and parallel transport by projecting from one onto the next."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.geometry.encoder import Encoder
from geodesic.geometry.inverse import require_regular
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.points import inverse_at

__all__ = ["TangentSpaces", "along_projection"]


class TangentSpaces:
    """Bases of tangent spaces of an embedding, from the thin singular value decomposition J = U S V^T.

    Thin: the full one has a square U, U U^T would be the identity, and nothing would be projected. The columns of J
    are scaled to one length before, so that the units of the latent coordinates do not matter.

    Args:
        manifold: Gives J.
        z: Points, (N, d).

    Attributes:
        regular: Where J has full rank, or the same rank all around, (N,), boolean.
        deficiency: Directions that J ignores, (N,), integer.
        J: (N, D, d), the event shape of the outputs flattened to D.
        basis: U, orthonormal columns, (N, D, k), k the smaller of d and D; those beyond the rank of J are zero. NaN
            where it is not regular.
    """

    def __init__(self, manifold: Manifold, z: Float[Tensor, "N d"]) -> None:
        self.J = manifold.jacobian(z).detach()
        D, d = self.J.shape[-2:]
        eps = torch.finfo(z.dtype).eps
        length = torch.linalg.vector_norm(self.J, dim=-2, keepdim=True)
        length = torch.where(length > eps * length.amax(-1, keepdim=True), length, torch.inf)
        finite: Bool[Tensor, " N"] = self.J.isfinite().flatten(1).all(-1)
        even = torch.where(finite[:, None, None], self.J / length, torch.eye(D, d, dtype=z.dtype, device=z.device))
        U, S, Vt = torch.linalg.svd(even, full_matrices=False)
        seen = 10 * D * eps * S[:, :1] < S
        self.deficiency: Int[Tensor, " N"] = torch.where(finite, d - seen.sum(-1), 0)
        self.regular = finite & (self.deficiency == 0)
        (rows,) = (finite & ~self.regular).nonzero(as_tuple=True)
        if len(rows):
            self.regular = self.regular.index_put((rows,), inverse_at(manifold, z[rows], on_range=True).regular)
        lost = ~self.regular[:, None, None]
        self.basis = torch.where(seen[:, None, :], U, 0).masked_fill(lost, torch.nan)
        self._inverse = torch.where(seen[:, None, :], Vt.mT / S[:, None, :], 0) / length.mT
        self._inverse = self._inverse.masked_fill(lost, torch.nan)

    def latent(self, a: Float[Tensor, "N k"]) -> Float[Tensor, "N d"]:
        """V S^{-1} a: the latent vectors of U a."""
        return (self._inverse @ a[..., None])[..., 0]

    def coefficients(self, u: Float[Tensor, "N D"]) -> Float[Tensor, "N k"]:
        """U^T u: the projections of vectors onto the tangent spaces, in the bases."""
        return (self.basis.mT @ u[..., None])[..., 0]

    def of_latent(self, v: Float[Tensor, "N d"]) -> Float[Tensor, "N k"]:
        """U^T J v: latent vectors in the bases."""
        return self.coefficients((self.J @ v[..., None])[..., 0])


def along_projection(
    manifold: Manifold,
    path: Float[Tensor, "N nodes d"],
    v: Float[Tensor, "N d"],
    encoder: Encoder | None,
    size: int,
) -> tuple[Float[Tensor, "N nodes d"], Float[Tensor, " N"]]:
    """Vectors at all nodes by Shao, Kumar and Fletcher's algorithm 2.

    u_0 = J v,   u_{i+1} = U U^T u_i |u_i| / |U U^T u_i|,   v_i = V S^{-1} U^T u_i   with J = U S V^T at node i

    In the bases of the tangent spaces, a_i = U_i^T u_i, only the small matrices U_{i+1}^T U_i are multiplied in turn.

    Args:
        manifold: The embedding.
        path: Nodes.
        v: Vectors at the first of them.
        encoder: h, whose Jacobian takes the last vector back where it is given: v_T = J_h u_T.
        size: For how many points to take derivatives at once.

    Returns:
        The vectors at all nodes, and how far the last ones lie, over their norm, from those that only every second
        tangent space was asked for: the error of a method of order 1.

    Raises:
        SingularMetricError: J has not full rank at a node, nor the same all around.
    """
    nodes, d = path.shape[1:]
    every_second = [*range(0, nodes - 1, 2), nodes - 1]
    parts, errors = [], []
    for z, v_rows in zip(path.split(max(1, size // nodes)), v.split(max(1, size // nodes)), strict=True):
        tangent = TangentSpaces(manifold, z.flatten(0, 1))
        require_regular(z.flatten(0, 1), tangent.regular, "path")
        U = tangent.basis.unflatten(0, (-1, nodes))
        first = (tangent.J.unflatten(0, (-1, nodes))[:, 0] @ v_rows[..., None])[..., 0]
        a = _carried(U, first)
        coarse = _carried(U[:, every_second], first)
        norm = _norm(a[:, -1])
        errors.append((_norm(a[:, -1] - coarse[:, -1]) / torch.where(norm > 0, norm, 1))[:, 0])
        vectors = tangent.latent(a.flatten(0, 1)).reshape(-1, nodes, d)
        vectors = torch.cat([v_rows[:, None], vectors[:, 1:]], dim=1)
        if encoder is not None:
            x = manifold.embed(z[:, -1])
            u = (U[:, -1] @ a[:, -1, :, None]).reshape(x.shape)
            vectors[:, -1] = encoder.push(x, u, d, "forward")
        parts.append(vectors)
    return torch.cat(parts), torch.cat(errors)


def _carried(U: Float[Tensor, "N nodes D k"], u: Float[Tensor, "N D"]) -> Float[Tensor, "N nodes k"]:
    """Projected from each tangent space onto the next and scaled back to the length of the first, in their bases."""
    turn = U[:, 1:].mT @ U[:, :-1]
    a = [(U[:, 0].mT @ u[..., None])[..., 0]]
    norm = _norm(a[0])
    for i in range(turn.shape[1]):
        projected = (turn[:, i] @ a[-1][..., None])[..., 0]
        a.append(torch.where(norm > 0, projected * (norm / _norm(projected)), 0))
    return torch.stack(a, dim=1)


def _norm(a: Float[Tensor, "N k"]) -> Float[Tensor, "N 1"]:
    return torch.linalg.vector_norm(a, dim=-1, keepdim=True)
