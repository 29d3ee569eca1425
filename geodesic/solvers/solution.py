"""The answer: the paths, what was measured on them, and for each pair whether and why it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.arrays import takes_arrays
from geodesic.errors import DataError, InputError
from geodesic.files import read_npz, write_npz
from geodesic.numerics.spline import constant_speed_at, polygon_at
from geodesic.solvers.answer import Answer
from geodesic.solvers.plan import Plan
from geodesic.solvers.search import MOST_SEGMENTS
from geodesic.solvers.status import remedies

__all__ = ["GeodesicSolution", "tensors"]


@dataclass(frozen=True)
class GeodesicSolution(Answer):
    """Geodesics between pairs of points, with a certificate for each. Leading axes are those of the endpoints.

    Two words have a threshold each. *Converged*: the discrete path is at a stationary point of the energy, its relative
    excess energy is at most `tol`. *Resolved*: it is, and its segments were enough, the estimated relative error of the
    length is at most `length_rtol`, by default 1e-3. Neither says that no other path is shorter.

    Attributes:
        path: Points of the geodesics at equal times, (*batch, N + 1, d), with N the `segments` asked for, or 32.
        mesh: The nodes that were solved for, (*batch, M + 1, d), more of them where the outputs bend; with `segments`
            of a pair below M, its last node fills what is left. The same as `path` where `segments` was given alone.
        times: When the geodesics pass these nodes, (*batch, M + 1), from 0 to 1.
        energy: E = 1/2 sum |x_{i+1} - x_i|^2 / (t_{i+1} - t_i) of the mesh, (*batch,).
        initial_energy: E of the straight line at equal latent steps, (*batch,).
        length: Riemannian length of the spline through the nodes, (*batch,).
        straight_length: Riemannian length of the straight line to the same copy of the end, (*batch,).
        lower_bound: Distance of the ends through the surrounding space, no path is shorter, (*batch,).
        relative_excess_energy: The Newton decrement over the energy, an estimate of the part of E still to gain,
            (*batch,).
        gradient_norm: |dE/dz|, (*batch,).
        converged: Whether the relative excess energy is at most `tol`, (*batch,), boolean.
        minimum: Whether the Hessian of the energy is positive definite: a strict local minimum, (*batch,), boolean;
            but for directions that the outputs ignore, which change no length. From more than 32 latent coordinates
            on: whether no direction of negative curvature was met.
        resolved: Whether the pair has converged and `error` is at most `length_rtol`, by default 1e-3, (*batch,),
            boolean.
        error: Estimated relative error of the length as that of a geodesic, (*batch,): what the spline loses,
            from the lengths through all and through every second node; what the nodes lose, from its geodesic
            curvature between them; and half of the excess energy.
        quadrature_error: Estimated relative error of the length as that of the curve itself, which bounds the distance
            from above, (*batch,): how far two rules of quadrature are apart. Of a polygon that of the spline before it.
        decoder_residual: Largest geodesic curvature times the length, on the spline between the nodes, (*batch,):
            from 16 segments on, in every second one; above 32 latent coordinates by an estimate, from 32 segments on in
            every fourth one.
            It falls with 1/T^2 only where the decoder has three derivatives: ELU's second one jumps.
        speed_variation: Largest minus smallest speed of the segments, their lengths over their times, relative to the
            mean, (*batch,).
        speed_allowance: What of it the discretization explains, (*batch,): of order 1/T^2, the square of the largest
            angle between neighboring chords.
        rank_deficiency: Latent directions that the outputs ignore somewhere on the path, (*batch,), integer: d minus
            the least rank of the metric halfway between nodes, where `decoder_residual` is taken; above 32 latent
            coordinates at one of them, above 64 not looked for, 0. Lengths are right; along these directions the path
            may lie anywhere.
        status: Why the pair ended, a `Status` as integer, (*batch,).
        iterations: Steps taken by the solver, (*batch,).
        segments: Segments that the pair was solved with, (*batch,).
        arc: Share of the length up to each node of the mesh, (*batch, M + 1).
        polygon: Whether the geodesic is the polygon through the nodes of the mesh and not the spline, (*batch,),
            boolean: on a decoder with kinks, with a node on each face between its smooth pieces that the geodesic
            crosses. Its `error` is by how much its segments exceed their chords, and the excess energy.
        winding: How many periods to add to each coordinate of the given end to have the copy of it at which the path
            ends, integers, (*batch, d); zeros where nothing is periodic.
        tol: The tolerance that `converged` refers to: on a decoder with kinks, where none was given, eight tenths of
            `length_rtol`.
        plan: How they were found: which solver, why, how it certified, what it cost, how much was worked on at once.
            `solve(..., plan=solution.plan)` repeats it.
    """

    path: Float[Tensor, "*path"]
    mesh: Float[Tensor, "*mesh"]
    times: Float[Tensor, "*batch nodes"]
    energy: Float[Tensor, "*batch"]
    initial_energy: Float[Tensor, "*batch"]
    length: Float[Tensor, "*batch"]
    straight_length: Float[Tensor, "*batch"]
    lower_bound: Float[Tensor, "*batch"]
    relative_excess_energy: Float[Tensor, "*batch"]
    gradient_norm: Float[Tensor, "*batch"]
    minimum: Bool[Tensor, "*batch"]
    resolved: Bool[Tensor, "*batch"]
    quadrature_error: Float[Tensor, "*batch"]
    decoder_residual: Float[Tensor, "*batch"]
    speed_variation: Float[Tensor, "*batch"]
    speed_allowance: Float[Tensor, "*batch"]
    segments: Int[Tensor, "*batch"]
    arc: Float[Tensor, "*batch nodes"]
    polygon: Bool[Tensor, "*batch"]
    winding: Int[Tensor, "*point"]
    tol: float
    plan: Plan

    @property
    @takes_arrays
    def length_ratio(self) -> Float[Tensor, "*batch"]:
        """Geodesic over straight length, (*batch,); 1 between equal ends."""
        return torch.where(self.straight_length > 0, self.length / self.straight_length, 1)

    @takes_arrays
    def __call__(self, t: Tensor | float) -> Tensor:
        """The geodesic at times t in [0, 1], run through at constant speed: points, (*batch, *times, d).

        Example:
            >>> import torch, geodesic
            >>> plane = geodesic.PullbackManifold(lambda z: z)
            >>> solution = geodesic.solve(plane, torch.zeros(2), torch.tensor([1.0, 2.0]))
            >>> solution(0.25)
            tensor([0.2500, 0.5000])
        """
        return self._at(t, derivative=False)

    @takes_arrays
    def velocity(self, t: Tensor | float) -> Tensor:
        """The derivative of the constant-speed curve in t, (*batch, *times, d): of Riemannian norm `length`.

        Of second order in 1/T, where positions are better.
        """
        return self._at(t, derivative=True)

    def _at(self, t: Tensor | float, derivative: bool) -> Tensor:
        batch = self.arc.shape[:-1]
        time = torch.as_tensor(t, dtype=self.path.dtype, device=self.path.device)
        if not bool(((time >= 0) & (time <= 1)).all()):
            raise InputError("t: expected times between 0 and 1")
        arc = self.arc.reshape(-1, self.arc.shape[-1])
        mesh = self.mesh.reshape(*arc.shape, -1)
        values = mesh.new_empty(len(arc), time.numel(), mesh.shape[-1])
        segments = self.segments.reshape(-1)
        polygon = self.polygon.reshape(-1)
        (rows,) = polygon.nonzero(as_tuple=True)
        if len(rows):
            values[rows] = polygon_at(mesh[rows], arc[rows], time.reshape(-1))[int(derivative)]
        for T in segments[~polygon].unique().tolist():
            (rows,) = ((segments == T) & ~polygon).nonzero(as_tuple=True)
            found = constant_speed_at(mesh[rows, : T + 1], arc[rows, : T + 1], time.reshape(-1))
            values[rows] = found[int(derivative)]
        return values.reshape(*batch, *time.shape, *self.path.shape[len(batch) + 1 :])

    def save(self, path: str | Path) -> None:
        """Write all fields to an .npz file, which needs nothing but NumPy to read.

        Example:
            >>> import pathlib, tempfile, torch, geodesic
            >>> plane = geodesic.PullbackManifold(lambda z: z)
            >>> solution = geodesic.solve(plane, torch.zeros(2), torch.ones(2))
            >>> file = pathlib.Path(tempfile.mkdtemp()) / "solution.npz"
            >>> solution.save(file)
            >>> bool(geodesic.GeodesicSolution.load(file).converged)
            True
        """
        write_npz(Path(path), self.arrays())

    def arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """All fields as NumPy arrays by name, `tol` and the text of the plan too, and the names of the statuses."""
        plain = {"tol": self.tol, "plan": self.plan.to_json()}
        return super().arrays(prefix) | {prefix + name: np.array(value) for name, value in plain.items()}

    @classmethod
    def load(cls, path: str | Path) -> GeodesicSolution:
        """Read what `save` wrote, onto the CPU.

        Raises:
            DataError: The file cannot be read or lacks a field.
        """
        arrays = read_npz(Path(path))
        try:
            return cls.from_arrays(arrays)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str = "") -> GeodesicSolution:
        """The solution that `arrays` was made from, on the CPU: its inverse.

        Args:
            arrays: Fields as NumPy arrays by name, with others among them or not.
            prefix: What the names begin with: "auto/" for the results of one solver in the file of a run.

        Raises:
            DataError: A field is missing.

        Example:
            >>> import torch, geodesic
            >>> plane = geodesic.PullbackManifold(lambda z: z)
            >>> solution = geodesic.solve(plane, torch.zeros(2), torch.ones(2))
            >>> print(f"{float(geodesic.GeodesicSolution.from_arrays(solution.arrays()).length):.4f}")
            1.4142
        """
        names = [field.name for field in fields(cls)]
        if missing := [prefix + name for name in names if prefix + name not in arrays]:
            raise DataError(f"expected the fields of a solution; it lacks {', '.join(sorted(missing))}")
        values = {name: torch.as_tensor(arrays[prefix + name]) for name in _TENSORS}
        return cls(**values, tol=float(arrays[prefix + "tol"]), plan=Plan.from_json(str(arrays[prefix + "plan"])))

    @takes_arrays
    def __getitem__(self, rows: Any) -> GeodesicSolution:
        """The answers of some pairs: `rows` is any index of a tensor of shape (*batch,).

        Example:
            >>> import torch, geodesic
            >>> plane = geodesic.PullbackManifold(lambda z: z)
            >>> solution = geodesic.solve(plane, torch.zeros(3, 2), torch.eye(3, 2))
            >>> solution[solution.length > 0].path.shape
            torch.Size([2, 33, 2])
        """
        batch = self.length.shape
        chosen = torch.arange(batch.numel(), device=self.length.device).reshape(batch)[rows]
        rows = {name: x.reshape(-1, *x.shape[len(batch) :])[chosen] for name, x in tensors(self).items()}
        return replace(self, **rows)

    def __repr__(self) -> str:
        return (
            f"<GeodesicSolution of shape {tuple(self.status.shape)}: path {tuple(self.path.shape)}\n{self.summary()}>"
        )

    @takes_arrays
    def summary(self) -> str:
        """How many pairs converged and were resolved, how much shorter they became, what to do about the others.

        And which solver it was, and why.

        Example:
            >>> import torch, geodesic
            >>> plane = geodesic.PullbackManifold(lambda z: z)
            >>> print(geodesic.solve(plane, torch.zeros(3, 2), torch.ones(3, 2)).summary())
            3 of 3 pairs converged (tol 0.0001), 3 resolved; median length 1.0000 of the straight line's
            by Newton: d = 2 is at most 4, where exact Hessians cost next to nothing
        """
        converged, ratio = self.converged.reshape(-1), self.length_ratio.reshape(-1)
        lines = [
            f"{int(converged.sum())} of {converged.numel()} pairs converged (tol {self.tol:g}), "
            f"{int(self.resolved.sum())} resolved; median length {float(ratio.nanmedian()):.4f} "
            "of the straight line's"
        ]
        lines += remedies(self.status.reshape(-1).tolist())
        unknown = self.converged & self.error.isinf()
        lines += self._unresolved(self.converged & ~self.resolved & ~unknown)
        if bound := int(unknown.sum()):
            lines.append(
                f"{bound} converged with lengths that hold for these segments alone: there are fewer than 4, or chords "
                "that do not vanish with the step"
            )
        deficiency = self.rank_deficiency.reshape(-1)
        if flat := int((deficiency > 0).sum()):
            lines.append(
                f"{flat} where the outputs ignore up to {int(deficiency.max())} of the latent directions: lengths "
                "hold, positions along those are arbitrary"
            )
        if still := int((self.converged & (self.length == 0)).sum()):
            lines.append(f"{still} of length 0: the outputs do not change between the ends")
        if saddles := int((self.converged & ~self.minimum).sum()):
            lines.append(f'{saddles} converged to no strict minimum: other starts may end lower, try init="best"')
        return "\n".join([*lines, f"by {self.plan.words}"])

    def _unresolved(self, coarse: Bool[Tensor, "*batch"]) -> list[str]:
        """What to do about pairs that have converged with too few segments: they had these, or as many as helped."""
        full = coarse & (self.segments >= MOST_SEGMENTS)
        fixed = (coarse & ~full) if self.mesh.shape == self.path.shape else torch.zeros_like(coarse)
        kinds = (
            (fixed, ": leave segments out, or set length_rtol, which also adds them to paths of your own"),
            (full, f" by {MOST_SEGMENTS:,} segments, the most there are: raise length_rtol"),
            (
                coarse & ~full & ~fixed,
                ", and more segments did not help: raise length_rtol, use float64 if this was float32, or set "
                'init="best"',
            ),
        )
        return [f"{int(rows.sum())} converged but not resolved{said}" for rows, said in kinds if bool(rows.any())]


def tensors(solution: GeodesicSolution) -> dict[str, Tensor]:
    """The fields that have a row for each pair, by name."""
    return {name: getattr(solution, name) for name in _TENSORS}


_TENSORS = [field.name for field in fields(GeodesicSolution) if "Tensor" in field.type]
