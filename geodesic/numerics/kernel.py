"""The kernel of symmetric positive semidefinite matrices, to rounding, whatever the units of their coordinates."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["kernel", "on_kernel", "rank"]


def kernel(
    G: Float[Tensor, "*batch d d"],
) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch d d"], Bool[Tensor, "*batch d"]]:
    """Scales s and orthonormal columns u of which the marked ones span the kernel of G: G (u / s) = 0.

    G is scaled to a diagonal of ones first, G_ij / (s_i s_j). Its eigenvalues are then zero to rounding where they are
    at most 10 d eps. A coordinate without any effect, of diagonal zero, is in the kernel itself.

    Args:
        G: Symmetric positive semidefinite matrices, (*batch, d, d), finite.

    Returns:
        s, (*batch, d); columns u, (*batch, d, d); which of them belong to the kernel, (*batch, d).
    """
    diagonal = G.diagonal(dim1=-2, dim2=-1)
    eps, largest = torch.finfo(G.dtype).eps, diagonal.amax(-1, keepdim=True)
    seen = diagonal > eps**2 * largest
    scale = torch.where(seen, diagonal, torch.where(largest > 0, largest, 1)).sqrt()
    even = torch.where(seen[..., :, None] & seen[..., None, :], G / (scale[..., :, None] * scale[..., None, :]), 0)
    values, columns = torch.linalg.eigh(even)
    return scale, columns, values <= 10 * G.shape[-1] * eps


def on_kernel(
    G: Float[Tensor, "*batch d d"], H: Float[Tensor, "*batch d d"], least: float
) -> Float[Tensor, "*batch d d"]:
    """The matrix R that is positive on the part of the kernel of G that H does not see either, and zero on the rest.

    With y^T H y <= `least` for y in that part, scaled as in `kernel`. For g without a component along it, the solution
    of (H + R) y = g is that of H y = g with the least norm in the scaled coordinates.
    """
    scale, columns, ignored = kernel(G)
    along = torch.einsum("...ik,...ij,...jk->...k", columns / scale[..., None], H, columns / scale[..., None])
    chosen = (columns * scale[..., None]) * (ignored & (along.abs() <= least))[..., None, :]
    return chosen @ chosen.mT


def rank(G: Float[Tensor, "*batch d d"]) -> Int[Tensor, "*batch"]:
    """The number of directions that G sees, (*batch,), see `kernel`; 0 where it is not finite.

    Example:
        >>> import torch
        >>> from geodesic.numerics.kernel import rank
        >>> rank(torch.tensor([[[1.0, 0.0], [0.0, 1e-9]], [[4.0, 2.0], [2.0, 1.0]]]))
        tensor([2, 1])
    """
    finite = G.isfinite().flatten(-2).all(-1)
    _, _, ignored = kernel(torch.where(finite[..., None, None], G, 0))
    return (~ignored).sum(-1)
