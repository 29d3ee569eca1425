"""One call of `distance_matrix`: what is known of the distances by now, and the file where that is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from geodesic.distances.record import DistanceMatrix, all_pairs
from geodesic.distances.rounding import places_of
from geodesic.distances.solved import Found, Solver, found_between, groups, joined
from geodesic.distances.surroundings import equal
from geodesic.distances.told import Teller
from geodesic.distances.tolerance import tolerance
from geodesic.errors import DataError, InputError
from geodesic.files import read_npz, write_npz
from geodesic.solvers.mesh import Mesh
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.status import Status

__all__ = ["Work"]

_SAVED = 30.0  # seconds after which what was found is written
_LOOKED_AT = 8  # points at which a decoder is recognized
_ALIKE = 1e-3  # how near its outputs there are, relative to their size


class Work:
    """Points and what is known between them; of points among themselves every pair is known from both sides.

    Args:
        solver: Looks for geodesics.
        points: (N, d).
        others: (M, d); None where the points are measured among themselves.
        teller: Of progress.
    """

    def __init__(
        self,
        solver: Solver,
        points: Float[Tensor, "N d"],
        others: Float[Tensor, "M d"] | None,
        teller: Teller,
    ) -> None:
        self.solver, self.points, self.teller = solver, points, teller
        self.symmetric = others is None
        self.others = points if others is None else others
        nothing = points.new_full((len(self.points), len(self.others)), torch.nan)
        ended = torch.full_like(nothing, Status.RUNNING, dtype=torch.long)
        self.known = Found(
            length=nothing.clone(),
            lower=torch.zeros_like(nothing),
            upper=torch.full_like(nothing, torch.inf),
            straight_length=nothing.clone(),
            error=torch.full_like(nothing, torch.inf),
            status=ended,
            segments=torch.zeros_like(ended),
        )
        self._file: Path | None = None
        self._of: dict[str, NDArray[Any]] = {}
        self._saved = time.monotonic()
        self._same_points()
        self.teller.pairs = len(self.open(*self.pairs))

    def _same_points(self) -> None:
        """Equal points are at distance zero, without work."""
        i, j = equal(self.points, self.others).nonzero(as_tuple=True)
        for name, value in (("length", 0), ("upper", 0), ("straight_length", 0), ("error", 0)):
            getattr(self.known, name)[i, j] = value
        self.known.status[i, j] = Status.CONVERGED

    @property
    def pairs(self) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
        """Rows and columns of all pairs, each once, (P,)."""
        return all_pairs(self.known.length, self.symmetric)

    @property
    def nodes(self) -> tuple[Float[Tensor, "nodes d"], Int[Tensor, " N"], Int[Tensor, " M"]]:
        """All points, (nodes, d), with the others behind the points; which of them are rows, and which are columns."""
        N, M = self.known.length.shape
        rows = torch.arange(N, device=self.points.device)
        if self.symmetric:
            return self.points, rows, rows
        return torch.cat([self.points, self.others]), rows, torch.arange(N, N + M, device=rows.device)

    def open(self, rows: Int[Tensor, " P"], columns: Int[Tensor, " P"]) -> Int[Tensor, " n"]:
        """Of which pairs nothing is known yet: their places, (n,)."""
        return (self.known.status[rows, columns] == Status.RUNNING).nonzero(as_tuple=True)[0]

    def put(self, rows: Int[Tensor, " P"], columns: Int[Tensor, " P"], found: Found) -> None:
        """Note what was found of pairs."""
        for field in fields(Found):
            matrix, values = getattr(self.known, field.name), getattr(found, field.name)
            matrix[rows, columns] = values
            if self.symmetric:
                matrix[columns, rows] = values

    def offer(self, rows: Int[Tensor, " P"], columns: Int[Tensor, " P"], found: Found) -> None:
        """Note what was found of pairs, where it is better than what is known: never a longer curve.

        A geodesic takes the place of another curve that is no shorter than `length_rtol`.
        """
        known = self.known.at(rows, columns)
        bar = torch.where(known.status == Status.NOT_SOUGHT, 1 + self.solver.search.rtol, 1.0) * known.length
        better = (known.status == Status.RUNNING) | known.length.isnan() | (found.length <= bar)
        upper = found.upper.minimum(known.upper).maximum(found.length.nan_to_num(nan=0.0))
        self.put(rows[better], columns[better], replace(found, upper=upper)[better])

    def fill(self, length: Float[Tensor, "N M"], upper: Float[Tensor, "N M"], lower: Float[Tensor, "N M"]) -> None:
        """Note curves that are no geodesics, infinite where there are none: for all pairs of which nothing is known.

        Others are shortened, where they are longer.
        """
        i, j = self.pairs
        self.shorten(i, j, length[i, j], upper[i, j], Status.NOT_SOUGHT)
        open_ = self.open(i, j)
        i, j = i[open_], j[open_]
        ways, least = length[i, j], lower[i, j].nan_to_num(posinf=0.0)
        nothing = torch.full_like(ways, torch.nan)
        found = Found(
            length=torch.where(ways.isfinite(), ways.maximum(least), torch.nan),
            lower=least,
            upper=upper[i, j].maximum(least),
            straight_length=nothing,
            error=torch.full_like(ways, torch.inf),
            status=torch.full_like(i, Status.NOT_SOUGHT),
            segments=torch.zeros_like(i),
        )
        self.put(i, j, found)

    def shorten(
        self,
        rows: Int[Tensor, " P"],
        columns: Int[Tensor, " P"],
        length: Float[Tensor, " P"],
        upper: Float[Tensor, " P"],
        status: Status,
    ) -> None:
        """Note ways of pairs that are shorter than what is known of them, by more than `length_rtol`.

        Args:
            rows: Of the points.
            columns: Of the others.
            length: Of the ways.
            upper: Their upper bounds.
            status: Of what is shortened.
        """
        known = self.known.at(rows, columns)
        sought = known.status != Status.RUNNING
        longest = (1 - self.solver.search.rtol) * known.length.nan_to_num(nan=torch.inf)
        (shorter,) = (sought & (length < longest)).nonzero(as_tuple=True)
        known = known[shorter]
        ways = length[shorter].maximum(known.lower)
        found = replace(
            known,
            length=ways,
            upper=known.upper.minimum(upper[shorter]).maximum(ways),
            error=torch.full_like(known.error, torch.inf),
            status=torch.full_like(known.status, status),
        )
        self.put(rows[shorter], columns[shorter], found)

    def sought(self, rows: Int[Tensor, " P"], columns: Int[Tensor, " P"]) -> Int[Tensor, " n"]:
        """For which pairs a geodesic is to be looked for: their places, (n,)."""
        status = self.known.status[rows, columns]
        return ((status == Status.RUNNING) | (status == Status.NOT_SOUGHT)).nonzero(as_tuple=True)[0]

    def between(self, i: Int[Tensor, " P"], j: Int[Tensor, " P"], z: Float[Tensor, "nodes d"]) -> Found:
        """What geodesics say of pairs of nodes; those of pairs of the matrix are solved for once, and noted.

        Args:
            i: First nodes.
            j: Last nodes.
            z: The nodes: the points, then, of a matrix that is not symmetric, the others, then any more.
        """
        N, M = self.known.length.shape
        inside = (i < N) & (j < N) if self.symmetric else (i < N) & (j >= N) & (j < N + M)
        (own,), (foreign,) = inside.nonzero(as_tuple=True), (~inside).nonzero(as_tuple=True)
        rows, columns = i[own], j[own] - (0 if self.symmetric else N)
        todo = self.sought(rows, columns)
        self.teller.pairs += len(foreign) + len(todo)
        self.solve(rows[todo], columns[todo])
        known = self.known.at(rows, columns)
        if not len(foreign):
            return known
        others = found_between(self.solver, z[i[foreign]], z[j[foreign]], self.teller)
        return joined([known, others])[torch.cat([own, foreign]).argsort()]

    def solve(
        self,
        rows: Int[Tensor, " P"],
        columns: Int[Tensor, " P"],
        start: Callable[[Int[Tensor, " n"]], Mesh | None] = lambda _: None,
        found: Callable[[Int[Tensor, " n"], GeodesicSolution], None] = lambda *_: None,
    ) -> None:
        """Solve for the geodesics of pairs, group by group, and note what is better than what is known.

        Args:
            rows: Of the points.
            columns: Of the others.
            start: The curves to begin with, by the places of the pairs.
            found: Told of every answer, by the places of the pairs.
        """

        def each(some: Int[Tensor, " n"]) -> None:
            i, j = rows[some], columns[some]
            solution = self.solver.solve(self.points[i], self.others[j], start(some))
            self.offer(i, j, Found.of(self.solver.manifold, solution))
            found(some, solution)

        before = 0
        for done in groups(torch.arange(len(rows), device=rows.device), each, self.solver.at_once(self.points)):
            self.teller.tell(done - before)
            before = done
            if time.monotonic() - self._saved > _SAVED:
                self.save()

    def keep(self, file: Path, settings: str) -> None:
        """Keep what is found in a file, and go on from what is there.

        Args:
            file: Need not exist, nor its folder.
            settings: What else the answers depend on, in words.

        Raises:
            DataError: The file is of other points, another decoder, or other settings.
            InputError: It cannot be written.
        """
        some = places_of(self.solver.manifold, self.points[:_LOOKED_AT]).double()
        of = {"points": self.points, "others": self.others, "outputs": some}
        self._file, self._of = file, {name: x.cpu().numpy() for name, x in of.items()}
        self._of["settings"] = np.asarray(settings)
        if file.exists():
            return self._restore(read_npz(file))
        try:  # before the work, not after it
            file.parent.mkdir(parents=True, exist_ok=True)
            self.save()
        except OSError as error:
            self._file = None
            raise InputError(f"resume: {file} cannot be written ({error.strerror}); choose another") from None

    def _restore(self, stored: dict[str, NDArray[Any]]) -> None:
        file, names = self._file, [field.name for field in fields(Found)]
        if missing := [name for name in (*self._of, *names) if name not in stored]:
            raise DataError(f"resume: {file} is no file of `resume=`; it lacks {', '.join(missing)}; choose another")
        shape = self.known.length.shape
        for name, here in self._of.items():
            there = stored[name]
            if not _same(here, there, about=name == "outputs"):
                said = f", {there} there and {here} here" if name == "settings" else ""
                raise DataError(
                    f"resume: {file} is of other {'decoder outputs' if name == 'outputs' else name}{said}; give the "
                    "same, or choose another file"
                )
        if stored["length"].shape != shape:
            raise DataError(f"resume: {file} has {stored['length'].shape} distances, expected {tuple(shape)}")
        for name in names:
            matrix = getattr(self.known, name)
            matrix.copy_(torch.as_tensor(stored[name]))
        self.teller.known(self.teller.pairs - len(self.open(*self.pairs)))

    def save(self) -> None:
        """Write what is known by now, if it is kept in a file."""
        if self._file is not None:
            known = {field.name: getattr(self.known, field.name).cpu().numpy() for field in fields(Found)}
            write_npz(self._file, self._of | known)
        self._saved = time.monotonic()

    def matrix(self, method: str, **more: Any) -> DistanceMatrix:
        """The answer."""
        known = {field.name: getattr(self.known, field.name) for field in fields(Found)}
        search = self.solver.search
        tol = tolerance(self.solver.manifold, search, self.points)
        return DistanceMatrix(
            **known, **more, method=method, symmetric=self.symmetric, tol=tol, length_rtol=search.rtol
        )


def _same(here: NDArray[Any], there: NDArray[Any], about: bool) -> bool:
    """Whether arrays are equal, or about so: outputs of a decoder depend on how many rows are evaluated together."""
    if here.shape != there.shape or here.dtype != there.dtype:
        return False
    if not about:
        return np.array_equal(here, there)
    size = float(np.nanmax(np.abs(here), initial=0))
    return np.allclose(here, there, rtol=_ALIKE, atol=_ALIKE * max(size, 1e-30), equal_nan=True)
