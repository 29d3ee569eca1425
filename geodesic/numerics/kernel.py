"""The kernel of symmetric positive semidefinite matrices, to rounding, whatever the units of their coordinates."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["frames", "independent", "kernel", "on_kernel", "rank"]


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


def frames(G: Float[Tensor, "*batch d d"]) -> tuple[Float[Tensor, "*batch d d"], Float[Tensor, "*batch d d"]]:
    """E with E^T E = G, whose last rows are zero where G has a kernel, and its pseudoinverse F in coordinates of G.

    Columns of F are orthonormal under G and have no part along the kernel, measured in coordinates scaled as in
    `kernel`; as many of the last ones are zero. F E v is so the vector of least norm that G takes to G v.

    Args:
        G: Symmetric positive semidefinite matrices, (*batch, d, d), finite.

    Returns:
        E and F, (*batch, d, d) each.
    """
    scale, columns, ignored = kernel(G)
    seen = ((columns / scale[..., None]).mT @ G @ (columns / scale[..., None])).diagonal(dim1=-2, dim2=-1)
    root = torch.where(ignored, 1, seen.clamp_min(0)).sqrt()
    root = torch.where(root > 0, root, 1)
    E = torch.where(ignored, 0, root)[..., :, None] * columns.mT * scale[..., None, :]
    F = columns / scale[..., None] * torch.where(ignored, 0, 1 / root)[..., None, :]
    return E.flip(-2), F.flip(-1)


def independent(G: Float[Tensor, "*batch d d"]) -> Bool[Tensor, "*batch d"]:
    """A choice of as many coordinates as G has rank, on which G is regular: pivots of Cholesky's method.

    Example:
        >>> import torch
        >>> from geodesic.numerics.kernel import independent
        >>> independent(torch.tensor([[4.0, 0.0, 2.0], [0.0, 0.0, 0.0], [2.0, 0.0, 1.0]]))
        tensor([ True, False, False])
    """
    scale, left = kernel(G)[0], rank(G)
    A = G / (scale[..., :, None] * scale[..., None, :])
    chosen = torch.zeros_like(scale, dtype=torch.bool)
    for k in range(G.shape[-1]):
        size = A.diagonal(dim1=-2, dim2=-1).masked_fill(chosen, -torch.inf)
        pivot = torch.nn.functional.one_hot(size.argmax(-1), G.shape[-1]).bool() & (k < left)[..., None]
        column = torch.where(pivot[..., None, :], A, 0).sum(-1)
        largest = torch.where(pivot, size, 1).amax(-1)
        A = A - column[..., :, None] * column[..., None, :] / torch.where(largest > 0, largest, 1)[..., None, None]
        chosen = chosen | pivot
    return chosen


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
