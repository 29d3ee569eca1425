"""Symmetric block tridiagonal matrices: what the Hessian of a path's energy is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["BlockCholesky", "BlockTridiagonal", "convex", "products_of_neighbors"]

_TOGETHER = 4  # neighbors whose columns are multiplied at once


@dataclass(frozen=True)
class BlockTridiagonal:
    """Symmetric matrices of n x n blocks that couple neighbors only.

    Attributes:
        diagonal: Blocks (i, i), symmetric, (*batch, n, d, d).
        upper: Blocks (i, i + 1), (*batch, n - 1, d, d); those below the diagonal are their transposes.
    """

    diagonal: Float[Tensor, "*batch n d d"]
    upper: Float[Tensor, "*batch n-1 d d"]

    def __mul__(self, factor: float) -> BlockTridiagonal:
        return BlockTridiagonal(self.diagonal * factor, self.upper * factor)

    def __matmul__(self, x: Float[Tensor, "*batch n d"]) -> Float[Tensor, "*batch n d"]:
        y = (self.diagonal @ x[..., None])[..., 0]
        above, below = (self.upper @ x[..., 1:, :, None])[..., 0], (self.upper.mT @ x[..., :-1, :, None])[..., 0]
        return y + torch.nn.functional.pad(above, (0, 0, 0, 1)) + torch.nn.functional.pad(below, (0, 0, 1, 0))

    def __getitem__(self, rows: Tensor) -> BlockTridiagonal:
        """The matrices of some rows of the batch."""
        return BlockTridiagonal(self.diagonal[rows], self.upper[rows])

    def plus(self, diagonal: Float[Tensor, "*batch n d d"]) -> BlockTridiagonal:
        """With blocks added to those of the diagonal."""
        return BlockTridiagonal(self.diagonal + diagonal, self.upper)

    def damped(self, share: float) -> BlockTridiagonal:
        """With a share of itself added to the diagonal: for each of the d coordinates, of its mean over the blocks.

        Coordinates of very different scales are thus treated alike.
        """
        mean = self.diagonal.diagonal(dim1=-2, dim2=-1).abs().mean(-2)
        return BlockTridiagonal(self.diagonal + share * torch.diag_embed(mean)[..., None, :, :], self.upper)

    def cholesky(self) -> BlockCholesky:
        """Factorize, also where it is not positive definite: see `BlockCholesky.positive`."""
        return BlockCholesky(self)


class BlockCholesky:
    """Cholesky factors of symmetric block tridiagonal matrices, by cyclic reduction.

    Blocks 0, 2, 4, ... do not meet each other, so all of them are eliminated at once; what is left couples blocks
    1, 3, 5, ... to their neighbors and is block tridiagonal again. This is the Cholesky factorization in another
    order of the unknowns: as stable, and it succeeds exactly where the matrix is positive definite. Work is linear
    in n as in the usual order, at log2 n steps one after the other instead of n.

    Reference:
        D. Heller, Some aspects of the cyclic reduction algorithm for block tridiagonal linear systems, 1976.

    Args:
        matrix: The matrices, with leading batch axes.
    """

    positive: Bool[Tensor, "*batch"]
    """Which matrices are positive definite; the solutions of the others are NaN."""

    def __init__(self, matrix: BlockTridiagonal) -> None:
        diagonal, upper = matrix.diagonal, matrix.upper
        self.positive = torch.ones(diagonal.shape[:-3], dtype=torch.bool, device=diagonal.device)
        # For each level: the factors L of the even blocks E, and E^{-1} times their couplings to the odd blocks
        # after (X) and before (Y) them.
        self._levels: list[tuple[Tensor, Tensor, Tensor]] = []
        while True:
            n, d = diagonal.shape[-3], diagonal.shape[-1]
            odd = n // 2
            L, failed = torch.linalg.cholesky_ex(diagonal[..., 0::2, :, :])
            self.positive &= (failed == 0).all(-1) & L.isfinite().flatten(-3).all(-1)
            after = upper[..., 0::2, :, :]  # (odd blocks): even k -> odd k
            before = upper[..., 1::2, :, :].mT  # (even blocks - 1): even k + 1 -> odd k
            X = torch.cholesky_solve(after, L[..., :odd, :, :])
            Y = torch.cholesky_solve(before, L[..., 1:, :, :])
            self._levels.append((L, X, Y))
            if odd == 0:
                return
            diagonal = diagonal[..., 1::2, :, :] - after.mT @ X
            behind = before.shape[-3]
            diagonal[..., :behind, :, :] -= before.mT @ Y
            upper = -before[..., : odd - 1, :, :].mT @ X[..., 1:, :, :]
            diagonal = (diagonal + diagonal.mT) / 2
            assert upper.shape[-3:] == (odd - 1, d, d)

    def __getitem__(self, rows: Tensor) -> BlockCholesky:
        """The factors of some rows of the batch."""
        chosen = object.__new__(BlockCholesky)
        chosen.positive = self.positive[rows]
        chosen._levels = [(L[rows], X[rows], Y[rows]) for L, X, Y in self._levels]
        return chosen

    def with_rows(self, rows: Tensor, others: BlockCholesky) -> BlockCholesky:
        """The factors, of some rows those of other matrices."""

        def put(x: Tensor, y: Tensor) -> Tensor:
            return x.index_put((rows,), y)

        changed = object.__new__(BlockCholesky)
        changed.positive = put(self.positive, others.positive)
        together = zip(self._levels, others._levels, strict=True)
        changed._levels = [(put(L, M), put(X, V), put(Y, W)) for (L, X, Y), (M, V, W) in together]
        return changed

    def solve(self, right: Float[Tensor, "*batch n d"]) -> Float[Tensor, "*batch n d"]:
        """The solution y of S y = right."""
        rest = right[..., None]
        evens = []
        for _, X, Y in self._levels:
            even, rest = rest[..., 0::2, :, :], rest[..., 1::2, :, :].clone()
            evens.append(even)
            rest -= X.mT @ even[..., : X.shape[-3], :, :]
            rest[..., : Y.shape[-3], :, :] -= Y.mT @ even[..., 1:, :, :]
        y = rest
        for (L, X, Y), even in zip(reversed(self._levels), reversed(evens), strict=True):
            odd = y
            solved = torch.cholesky_solve(even, L)
            solved[..., : X.shape[-3], :, :] -= X @ odd
            solved[..., 1:, :, :] -= Y @ odd[..., : Y.shape[-3], :, :]
            y = solved.new_empty(*solved.shape[:-3], solved.shape[-3] + odd.shape[-3], *solved.shape[-2:])
            y[..., 0::2, :, :], y[..., 1::2, :, :] = solved, odd
        return torch.where(self.positive[..., None, None], y[..., 0], torch.nan)


def products_of_neighbors(
    rows: Float[Tensor, "paths n d D"],
) -> tuple[Float[Tensor, "paths n d d"], Float[Tensor, "paths n-1 d d"]]:
    """R_i R_i^T and R_i R_{i+1}^T of wide matrices R along paths.

    By the products of all rows of a few neighbors at once, most of which are not needed: on a CPU two to four times as
    fast as one small product after the other.
    """
    paths, n, d, D = rows.shape
    count, rows = paths * n, rows.contiguous()
    g = min(_TOGETHER, count - 1)
    groups = (count - 1) // max(g, 1)
    # Overlapping by one, the ends of paths regardless; and the last ones once more, whose number may be no multiple.
    size = (g + 1) * d
    some = torch.as_strided(rows, (groups, size, D), (g * d * D, D, 1), rows.storage_offset())
    some, last = (x @ x.mT for x in (some, rows.reshape(-1, D)[-size:]))
    blocks = torch.cat([some, last[None]]).reshape(groups + 1, g + 1, d, g + 1, d)
    i, k = torch.arange(g, device=rows.device), groups * g
    diagonal, upper = (blocks[:-1, i, :, i + j].transpose(0, 1).reshape(-1, d, d) for j in (0, 1))
    i = torch.arange(g + 1 - (count - k), g + 1, device=rows.device)  # of the last ones, those that are left
    diagonal = torch.cat([diagonal, blocks[-1, i, :, i]])
    upper = torch.cat([upper, blocks[-1, i[:-1], :, i[1:]], upper.new_empty(1, d, d)])
    return diagonal.reshape(paths, n, d, d), upper.reshape(paths, n, d, d)[:, :-1]


def convex(matrix: Float[Tensor, "*batch d d"], share: float) -> Float[Tensor, "*batch d d"]:
    """Symmetric matrices with their negative eigenvalues multiplied by the share."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * torch.where(values < 0, share * values, values)[..., None, :]) @ vectors.mT
