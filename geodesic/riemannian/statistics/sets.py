"""Sets of points that are clustered one after the other."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.checks import require_integer
from geodesic.errors import InputError
from geodesic.geometry.points import Rows

__all__ = ["sets_of_points", "stacked"]


def sets_of_points(manifold: Any, points: Any, clusters: Any) -> tuple[Float[Tensor, "B N d"], Rows]:
    """The sets of points, and the points as given."""
    given = Rows(manifold, points=points)
    if not given.batch:
        raise InputError(f"points: expected (*batch, N, d), got {tuple(points.shape)}")
    N = given.batch[-1]
    require_integer("clusters", clusters, least=1, most=N, note="the number of points")
    (x,) = given.rows
    return x.reshape(-1, N, x.shape[-1]), given


def stacked(rows: list[dict[str, Tensor]], given: Rows) -> dict[str, Tensor]:
    """The answers for all sets of points, with their leading axes and those of a point."""
    batch = given.batch[:-1]
    found = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    found = {name: x.reshape(batch + x.shape[1:]) for name, x in found.items()}
    centers = found["centers"]
    return found | {"centers": centers.reshape(*centers.shape[:-1], *given.event)}
