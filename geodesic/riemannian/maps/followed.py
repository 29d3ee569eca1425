"""What the answers of tools that follow geodesics have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodesic.solvers.answer import Answer

__all__ = ["Followed"]


@dataclass(frozen=True, kw_only=True)
class Followed(Answer):
    """An answer for which geodesics were followed.

    Attributes:
        method: How they were: "ode", by the geodesic equation, "discrete", by the discrete energy, or "refraction",
            from face to face; "shooting" for `shoot`.
    """

    method: str

    def arrays(self, prefix: str = "") -> dict[str, NDArray[Any]]:
        """All tensors of the record as NumPy arrays on the CPU, and `method`."""
        return super().arrays(prefix) | {prefix + "method": np.array(self.method)}

    def summary(self) -> str:
        """How many rows converged, with what error, what to do about the others, and how geodesics were followed.

        Example:
            >>> import torch, geodesic
            >>> answer = geodesic.exp_map(geodesic.surfaces.FlatTorus(), torch.zeros(2), torch.zeros(2))
            >>> print(answer.summary())
            1 of 1 rows converged, with errors of at most 0.0e+00
            geodesics followed by "ode"
        """
        return f'{super().summary()}\ngeodesics followed by "{self.method}"'
