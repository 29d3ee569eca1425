"""Distances between many points, with what bounds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from geodesic.arrays import TensorRecord, takes_arrays
from geodesic.distances.symmetry import require_symmetric
from geodesic.errors import DataError, InputError
from geodesic.files import read_npz, write_npz
from geodesic.solvers.status import Status, remedies, with_names

__all__ = ["DistanceMatrix", "all_pairs"]

_SYMMETRIC = ("length", "lower", "upper")
_BETWEEN = ("length", "lower", "upper", "straight_length", "error", "status", "segments")


@dataclass(frozen=True, kw_only=True)
class DistanceMatrix(TensorRecord):
    """Geodesic distances between N points and M others, or between all N of them: M = N, symmetric, zero diagonal.

    One of your own is refused, with an `InputError`, where it is `symmetric` and its numbers are not.

    A distance lies between `lower` and `upper`, as far as floating point and quadrature go: both are estimates of
    numbers that bound it. No search is believed for that: `lower` is the distance through the surrounding space, and
    `upper` is the length of a curve, which bounds the distance from above whether or not it is the shortest.

    Attributes:
        length: Of the shortest curves found, (N, M); NaN where there is none.
        lower: Distance through the surrounding space, (N, M): that between the outputs under an embedded geometry,
            less what their rounding may have added, and zero where there is none.
        upper: Lengths of the curves with the estimated error of their quadrature and rounding added, (N, M), or by the
            triangle inequality from such; infinite where no curve has a length.
        straight_length: Lengths of straight latent lines, (N, M); NaN where they were not measured.
        error: Estimated relative error of a length as that of a geodesic, (N, M), as in `GeodesicSolution`; infinite
            where it is not known.
        status: `Status` as integer, (N, M): CONVERGED where a geodesic was found and resolved, NOT_RESOLVED where it
            was found with too few segments, NOT_SOUGHT where `length` is that of another curve, NOT_SHORTER also where
            it is that of the way by a third point.
        segments: Of the geodesics, (N, M); 0 where none was sought.
        estimate: A guess of the distance that bounds nothing, (N, M), by `Landmarks` alone; else None.
        sample: By `Graph` alone, (S, 2): `length` over that of the geodesic, and that ratio's estimated error, of pairs
            drawn at random whose geodesics were found; else None.
        method: How they were found: "exact", "straight", "graph" or "landmarks".
        symmetric: Whether points were measured among themselves.
        tol: Largest relative excess energy of a geodesic that counts as converged.
        length_rtol: Largest estimated relative error of a resolved length.
    """

    length: Float[Tensor, "N M"]
    lower: Float[Tensor, "N M"]
    upper: Float[Tensor, "N M"]
    straight_length: Float[Tensor, "N M"]
    error: Float[Tensor, "N M"]
    status: Int[Tensor, "N M"]
    segments: Int[Tensor, "N M"]
    estimate: Float[Tensor, "N M"] | None = None
    sample: Float[Tensor, "S 2"] | None = None
    method: str
    symmetric: bool
    tol: float
    length_rtol: float

    def __post_init__(self) -> None:
        _require_one_shape({name: getattr(self, name) for name in _BETWEEN})
        if not self.symmetric:
            return
        N, M = self.length.shape
        if N != M:
            raise InputError(f"length: expected (N, N) between all points, got {(N, M)}; set symmetric=False")
        for name in _SYMMETRIC:
            values = getattr(self, name)  # where they are, whatever the default device
            require_symmetric(name, torch.as_tensor(values, device=getattr(values, "device", "cpu")))

    @property
    @takes_arrays
    def resolved(self) -> Bool[Tensor, "N M"]:
        """Whether a geodesic was found, with enough segments, (N, M)."""
        return self.status == Status.CONVERGED

    @property
    @takes_arrays
    def pairs(self) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
        """Rows and columns of all pairs, each once, (P,): of a symmetric matrix those above the diagonal."""
        return all_pairs(self.length, self.symmetric)

    @takes_arrays
    def summary(self) -> str:
        """How many pairs there are, how many were resolved, how far apart the bounds are, what to do about the others.

        Example:
            >>> import torch, geodesic
            >>> points = torch.tensor([[1.0, 0.0], [1.2, 0.1], [6.0, 0.0]], dtype=torch.float64)
            >>> print(geodesic.distance_matrix(geodesic.surfaces.SwissRoll(), points).summary())
            3 pairs by "exact": 3 geodesics resolved (length_rtol 0.001)
            upper over lower bound: median 3.0003, at most 3.1652
        """
        i, j = self.pairs
        status, lower, upper = self.status[i, j], self.lower[i, j], self.upper[i, j]
        sought = status != Status.NOT_SOUGHT
        resolved = int((status == Status.CONVERGED).sum())
        of = f" of {int(sought.sum()):,}" if resolved < int(sought.sum()) else ""
        found = f"{resolved:,}{of} geodesics resolved (length_rtol {self.length_rtol:g})"
        lines = [f'{len(i):,} pairs by "{self.method}": {found if bool(sought.any()) else "no geodesics sought"}']
        known = (lower > 0) & upper.isfinite()
        if bool(known.any()):
            ratio = (upper[known] / lower[known]).double()
            lines.append(
                f"upper over lower bound: median {float(ratio.median()):.4f}, at most {float(ratio.max()):.4f}"
            )
        if self.sample is not None and len(self.sample):
            excess = (self.sample[:, 0] - 1).double()
            lines.append(
                f"longer than the geodesics of {len(excess)} random pairs by {float(excess.median()):.2%} in the "
                f"median, {float(excess.quantile(0.95)):.2%} for 95 %"
            )
        return "\n".join([*lines, *remedies(status[sought].tolist())])

    @takes_arrays
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that is in it as NumPy arrays on the CPU, and `status_name`, the names of the statuses."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {
            name: x.cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
            for name, x in values.items()
            if x is not None
        }
        return with_names(arrays)

    def save(self, path: Path | str) -> None:
        """Write it to an .npz without pickle, whole or not at all.

        Example:
            >>> import tempfile, torch, geodesic
            >>> from pathlib import Path
            >>> matrix = geodesic.distance_matrix(geodesic.surfaces.Sphere(), torch.rand(3, 2) + 1)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     matrix.save(Path(folder) / "distances.npz")
            ...     again = geodesic.distances.DistanceMatrix.load(Path(folder) / "distances.npz")
            >>> torch.equal(matrix.length, again.length)
            True
        """
        write_npz(Path(path), self.arrays())

    @classmethod
    def load(cls, path: Path | str) -> DistanceMatrix:
        """The matrix that `save` wrote, on the CPU.

        Raises:
            DataError: The file cannot be read, lacks a field, or its matrices have different shapes or are not
                symmetric where they should be.
        """
        arrays = read_npz(Path(path))
        try:
            return cls.from_arrays(arrays)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> DistanceMatrix:
        """What `arrays` was made from: its inverse.

        Raises:
            DataError: A field is missing, or the matrices have different shapes or are not symmetric where they should
                be.
        """
        needed = (*_BETWEEN, "method", "symmetric", "tol", "length_rtol")
        if missing := [name for name in needed if name not in arrays]:
            raise DataError(f"expected the fields of a distance matrix; it lacks {', '.join(missing)}")
        values: dict[str, Any] = {name: torch.as_tensor(arrays[name]) for name in _BETWEEN}
        values |= {name: torch.as_tensor(arrays[name]) for name in ("estimate", "sample") if name in arrays}
        try:
            _require_one_shape({name: values[name] for name in _BETWEEN})
            return cls(
                **values,
                method=str(arrays["method"]),
                symmetric=bool(arrays["symmetric"]),
                tol=float(arrays["tol"]),
                length_rtol=float(arrays["length_rtol"]),
            )
        except InputError as error:
            raise DataError(str(error)) from None


def _require_one_shape(matrices: Mapping[str, Any]) -> None:
    shapes = {name: tuple(x.shape) for name, x in matrices.items()}
    if len(set(shapes.values())) > 1:
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"expected matrices of one shape, got {got}")


def all_pairs(matrix: Float[Tensor, "N M"], symmetric: bool) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
    """Rows and columns of all pairs of a matrix, each once."""
    N, M = matrix.shape
    if symmetric:
        i, j = torch.triu_indices(N, N, offset=1, device=matrix.device)
        return i, j
    both = torch.arange(N * M, device=matrix.device)
    return both // M, both % M
