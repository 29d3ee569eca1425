"""What all answers of the Riemannian tools have in common."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from geodesic.solvers.status import with_names

__all__ = ["Answer"]


@dataclass(frozen=True)
class Answer:
    """A frozen record of tensors, whose leading axes are those of the points that were given."""

    def arrays(self, prefix: str = "") -> dict[str, NDArray[Any]]:
        """All tensors of the record as NumPy arrays on the CPU, to write to a file.

        A field that is no tensor is left out: a `GeodesicSolution` has its own `save`.

        Args:
            prefix: What to put before the names of the fields.

        Returns:
            The arrays by the names of the fields, and `status_name`, the names of the statuses.

        Example:
            >>> import torch, geodesic
            >>> answer = geodesic.exp_map(geodesic.Sphere(), torch.ones(2), torch.ones(2), segments=4)
            >>> answer.arrays("ball_")["ball_path"].shape
            (5, 2)
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {prefix + name: x.detach().cpu().numpy() for name, x in values.items() if isinstance(x, Tensor)}
        return with_names(arrays)
