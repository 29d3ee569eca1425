"""How latent points of any number of coordinates are laid out on paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["View"]

_BEYOND = 1.04  # times the end: where points that have no time are drawn


@dataclass(frozen=True)
class View:
    """What is seen of a latent space: a plane of it, or against time the only coordinate that there is.

    Attributes:
        names: What is drawn to the right and upwards.
        origin: The latent point in the middle, (d,).
        directions: Orthonormal, (2, d), to the right and upwards; (1, 1) where there is one coordinate.
    """

    names: tuple[str, str]
    origin: NDArray
    directions: NDArray

    @classmethod
    def of(cls, curves: Sequence[NDArray], what: str = "the paths") -> View:
        """The view that shows paths best: of two coordinates as they are, of more in their principal directions.

        Args:
            curves: Paths, (P, nodes, d) each, or points, (N, d). What is not finite has no say.
            what: What they are called in the names of the directions.

        Example:
            >>> import numpy as np
            >>> from geodesic.pictures.view import View
            >>> View.of([np.linspace([[0.0] * 3, [0.0] * 3], [[3.0, 4.0, 0.0], [3.0, 4.0, 1.0]], 9, axis=1)]).names
            ('principal direction 1 of the paths (97 %)', 'principal direction 2 of the paths (3 %)')
        """
        d = curves[0].shape[-1]
        if d == 1:
            return cls(("time $t$ along the path", "$z$"), np.zeros(1), np.eye(1))
        if d == 2:
            return cls(("$z_1$", "$z_2$"), np.zeros(2), np.eye(2))
        nodes = np.concatenate([curve.reshape(-1, d) for curve in curves])
        nodes = nodes[np.isfinite(nodes).all(1)]
        origin = nodes.mean(0) if len(nodes) else np.zeros(d)
        _, sizes, directions = np.linalg.svd(np.vstack([nodes - origin, np.zeros((2, d))]), full_matrices=False)
        # Of the largest coordinate the first is positive: otherwise the sign would be an accident.
        largest = np.abs(directions[:2]).argmax(1)
        directions = directions[:2] * np.sign(directions[[0, 1], largest])[:, None]
        share = 100 * sizes**2 / max(float((sizes**2).sum()), np.finfo(float).tiny)
        names = [f"principal direction {k + 1} of {what} ({share[k]:.0f} %)" for k in range(2)]
        return cls((names[0], names[1]), origin, directions)

    @property
    def even(self) -> bool:
        """Whether both axes have one unit."""
        return len(self.directions) == 2

    def curve(self, path: NDArray) -> NDArray:
        """A path at equal times, (nodes, d), as it is drawn, (nodes, 2)."""
        seen = (path - self.origin) @ self.directions.T
        return seen if self.even else np.column_stack([np.linspace(0, 1, len(path)), seen])

    def points(self, z: NDArray) -> NDArray:
        """Latent points, (N, d), as they are drawn, (N, 2): those on a line beside the end of the paths."""
        seen = (z - self.origin) @ self.directions.T
        return seen if self.even else np.column_stack([np.full(len(z), _BEYOND), seen])
