"""A manifold of its own for each row of points: what decoders under a condition are, where each pair has one.

A condition is a part of the manifold: what is found out about a decoder, and what its derivatives are, holds under one
condition. So rows are worked on in groups of one manifold, whatever the tool does with its rows on the way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from geodesic.arrays import TensorRecord
from geodesic.errors import InputError
from geodesic.geometry.manifold import Manifold

__all__ = ["ManifoldByRow"]

_POINTS = ("start", "end", "z", "v", "u", "a", "b", "c", "Y", "W")  # arguments of tools, (*rows, d)
_PATHS = ("path", "init")  # (*rows, T + 1, d)
_NUMBERS = ("t",)  # (*rows,)
_ANSWERS = ("path", "solution")  # may be an answer with rows
_SHARED = ("graph_points",)
_TOGETHER = ("random_walk",)  # tools whose rows share something: random numbers


@final
class ManifoldByRow:
    """One manifold for each of P rows. Functions that work row by row take it in the place of a manifold.

    Rows of one manifold are worked on together, in one call for each manifold: with K of them a call takes as long as K
    calls with fewer rows. Answers are in the order of the rows; what has no rows in them, as the plan of a solution, is
    that of the first manifold. Points are (P, d), or (d,) for all rows alike. A callback hears of each call by itself.

    Args:
        manifolds: The different ones, of points of one shape.
        which: For each row, the number of its manifold, P integers.

    Raises:
        InputError: There are no manifolds or no rows, or they do not go together.

    Example:
        >>> import torch, geodesic
        >>> plane, stretched = (geodesic.PullbackManifold(lambda z, s=s: s * z) for s in (1.0, 3.0))
        >>> manifold = geodesic.geometry.ManifoldByRow([plane, stretched], which=[0, 1, 0])
        >>> geodesic.path_length(manifold, torch.tensor([[0.0], [0.5], [1.0]])).round(decimals=4)
        tensor([1., 3., 1.])
        >>> manifold[1].metric_tensor(torch.zeros(1))
        tensor([[9.]])
    """

    def __init__(self, manifolds: Sequence[Manifold], which: Sequence[int]) -> None:
        self.manifolds, self.which = tuple(manifolds), tuple(int(k) for k in which)
        if not self.manifolds or not all(isinstance(manifold, Manifold) for manifold in self.manifolds):
            got = ", ".join(type(manifold).__name__ for manifold in self.manifolds[:3]) or "none"
            raise InputError(f"manifolds: expected manifolds such as PullbackManifold(decoder), got {got}")
        if not self.which or not all(0 <= k < len(self.manifolds) for k in self.which):
            raise InputError(
                f"which: expected for each row a number from 0 to {len(self.manifolds) - 1}, got {list(self.which)[:6]}"
            )
        shapes = {manifold.latent_shape for manifold in self.manifolds}
        if len(shapes) > 1:
            raise InputError(f"manifolds: their points differ in shape: {', '.join(map(str, shapes))}")
        (self.latent_shape,) = shapes

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, row: int) -> Manifold:
        return self.manifolds[self.which[row]]

    def each(self, tool: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """The answer of a tool for all rows.

        Args:
            tool: Its name, for messages.
            function: Takes `manifold`, and answers row by row.
            arguments: By name.

        Raises:
            InputError: The tool does not work row by row, or there are other rows than manifolds.
        """
        if tool in _TOGETHER or any(isinstance(x, Tensor) and not _is_known(name) for name, x in arguments.items()):
            raise InputError(
                f"manifold: {tool} works on all points together, and here each row has a manifold of its own; give one "
                "of them, manifold[0]"
            )
        parts, order = [], []
        for k, manifold in enumerate(self.manifolds):
            rows = [row for row, number in enumerate(self.which) if number == k]
            if rows:
                own = {name: self._of_rows(name, x, rows) for name, x in arguments.items()}
                parts.append(function(**own | {"manifold": manifold}))
                order += rows
        return _together(parts, torch.tensor(order).argsort())

    def _of_rows(self, name: str, value: Any, rows: list[int]) -> Any:
        """What of an argument belongs to some of the rows."""
        paths = getattr(value, "init", None)
        if isinstance(paths, Tensor):  # of a `Search`
            return dataclasses.replace(value, init=self._of_rows("init", paths, rows))
        if not isinstance(value, Tensor):
            return value[torch.tensor(rows)] if name in _ANSWERS else value
        if name in _SHARED:
            return value
        axes = 0 if name in _NUMBERS else (1 if self.latent_shape is None else len(self.latent_shape))
        axes += name in _PATHS
        if value.dim() == axes:
            return value.expand(len(rows), *value.shape)
        if value.dim() != axes + 1 or len(value) != len(self):
            raise InputError(
                f"{name}: there are {len(self)} rows, each with a manifold of its own, as one condition= each gives; "
                f"expected {len(self)} of them on the first of {axes + 1} axes, got shape {tuple(value.shape)}"
            )
        return value[torch.tensor(rows, device=value.device)]

    def __repr__(self) -> str:
        return f"ManifoldByRow({len(self)} rows on {len(self.manifolds)} manifolds like {self.manifolds[0]!r})"


def _is_known(name: str) -> bool:
    return name in (*_POINTS, *_PATHS, *_NUMBERS, *_SHARED)


def _together(parts: list[Any], order: Tensor) -> Any:
    """The answers for groups of rows as one, with its rows in order; what has no rows is that of the first group."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(_of_one_shape(parts))[order.to(first.device)]
    if isinstance(first, TensorRecord):
        names = [field.name for field in dataclasses.fields(first)]
        return dataclasses.replace(
            first, **{name: _together([getattr(part, name) for part in parts], order) for name in names}
        )
    if isinstance(first, tuple):
        return tuple(_together(list(entries), order) for entries in zip(*parts, strict=True))
    return first


def _of_one_shape(parts: list[Tensor]) -> list[Tensor]:
    """Nodes of paths that have different numbers of them: behind the last one it follows again."""
    if len({part.shape[1:] for part in parts}) == 1:
        return parts
    most = max(part.shape[1] for part in parts)
    return [torch.cat([x, x[:, -1:].expand(-1, most - x.shape[1], *x.shape[2:])], dim=1) for x in parts]
