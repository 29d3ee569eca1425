"""What the answers of `solve` and of all tools have in common."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from geodesic.arrays import TensorRecord, takes_arrays
from geodesic.solvers.status import remedies, with_names

__all__ = ["Answer"]


@dataclass(frozen=True, kw_only=True)
class Answer(TensorRecord):
    """A frozen record of tensors, whose leading axes are those of the points given; row by row it says how it ended.

    Attributes:
        converged: Whether the row can be relied on, (*batch,), boolean; where it is False, `status` says why.
        status: Why the row ended, a `Status` as integer, (*batch,).
        iterations: Iterations of the tool's own loop, (*batch,).
        error: Estimated error of the row without unit, (*batch,): where the tool has a `tol`, what this bounds. NaN
            where it was not measured.
        rank_deficiency: Latent directions that the decoder ignores at the points given, (*batch,), integer: answers
            have no part along them, or one that is arbitrary.
    """

    converged: Bool[Tensor, "*batch"]
    status: Int[Tensor, "*batch"]
    iterations: Int[Tensor, "*batch"]
    error: Float[Tensor, "*batch"]
    rank_deficiency: Int[Tensor, "*batch"]

    @takes_arrays
    def arrays(self, prefix: str = "") -> dict[str, NDArray[Any]]:
        """All tensors of the record as NumPy arrays on the CPU, to write to a file.

        A field that is no tensor is left out: a `GeodesicSolution` has its own `save`.

        Args:
            prefix: What to put before the names of the fields.

        Returns:
            The arrays by the names of the fields, and `status_name`, the names of the statuses.

        Example:
            >>> import torch, geodesic
            >>> answer = geodesic.exp_map(geodesic.surfaces.Sphere(), torch.ones(2), torch.ones(2))
            >>> answer.arrays("ball_")["ball_path"].shape
            (33, 2)
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {prefix + name: x.detach().cpu().numpy() for name, x in values.items() if isinstance(x, Tensor)}
        return with_names(arrays)

    @takes_arrays
    def summary(self) -> str:
        """How many rows converged, with what error, and what to do about the others.

        Example:
            >>> import torch, geodesic
            >>> points = torch.tensor([[-1.0, 0.5], [1.0, 1.0], [0.0, 3.0]])
            >>> once = geodesic.Stop(max_iterations=1)
            >>> mean = geodesic.frechet_mean(geodesic.surfaces.HyperbolicPlane(), points, stop=once)
            >>> print(mean.summary().partition(":")[0])
            0 of 1 rows converged
            1 max_iterations
        """
        converged, error = self.converged.reshape(-1), self.error.reshape(-1)
        known = error[converged & ~error.isnan()]
        largest = f", with errors of at most {float(known.max()):.1e}" if len(known) else ""
        first = f"{int(converged.sum())} of {len(converged)} rows converged{largest}"
        deficiency, ignored = self.rank_deficiency.reshape(-1), []
        if flat := int((deficiency > 0).sum()):
            most = int(deficiency.max())
            ignored = [
                f"{flat} where the decoder ignores up to {most} of the latent directions: answers say nothing of them"
            ]
        return "\n".join([first, *remedies(self.status.reshape(-1).tolist()), *ignored])
