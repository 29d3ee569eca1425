"""A manifold that never works on more points at once than memory has room for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from geodesic.door.door import Door
from geodesic.geometry.costs import LEAST, Meter
from geodesic.geometry.manifold import Deviation, Expansion, Manifold, Traveled, weighted
from geodesic.geometry.memory import comfortable, grouped, halving, rows_within
from geodesic.geometry.passed import Along, middles
from geodesic.numerics.block_tridiagonal import BlockTridiagonal

__all__ = ["InPieces", "pieced"]

Answer = TypeVar("Answer")


class _Piece(NamedTuple):
    """Nodes of a path that are worked on together, and which of what is found there is kept."""

    nodes: slice
    segments: slice
    kept: slice  # of the interior nodes of the piece


@final
class InPieces(Manifold):
    """The same manifold, whose points and paths are worked on in pieces of as many nodes as fit into memory.

    What a node adds to the squared chords, their gradient and their Hessian depends on its neighbors alone: pieces
    overlap by these, and the answers are those of whole paths, up to rounding. Jacobians are there for the nodes of one
    piece only. Each kind of work has its own size, from what it takes on a node or two; where a GPU runs out of memory
    none the less, pieces are halved.

    Args:
        manifold: The manifold.
        memory: Bytes that the work may hold at once: what does not fit is not done.
        meter: Of what it takes.
        piece: Bytes that pieces hold at once, where they fit: by default all of the memory.
    """

    def __init__(self, manifold: Manifold, memory: float, meter: Meter, piece: float = math.inf) -> None:
        self.latent_shape, self.has_length = manifold.latent_shape, manifold.has_length
        self.has_embedding, self.has_chords = manifold.has_embedding, manifold.has_chords
        self.period, self.lengths_by_values = manifold.period, manifold.lengths_by_values
        self.manifold, self.memory, self.piece = manifold, memory, min(memory, piece)
        self.meter = meter
        self._sizes: dict[str, int] = {}

    @property
    def forms_metric(self) -> bool:
        return self.bytes_of("metric_tensor") <= self.memory

    @property
    def forms_hessian(self) -> bool:
        least = LEAST["expansion"]
        return self.forms_metric and least * self.bytes_of("metric_tensor") <= self.memory >= self.bytes_of("expansion")

    def bytes_of(self, work: str) -> float:
        """What the least piece takes in some kind of work, in bytes."""
        return LEAST.get(work, 1) * self.meter.bytes_a_node(work)

    def size_of(self, work: str) -> int:
        """Most points that are worked on at once, in some kind of work."""
        if work not in self._sizes:
            self._sizes[work] = max(LEAST.get(work, 1), rows_within(self.meter.bytes_a_node(work), self.piece))
        return self._sizes[work]

    @property
    def door(self) -> Door | None:
        return self.manifold.door

    def require_usable(self) -> None:
        self.manifold.require_usable()

    def examine(self, z: Float[Tensor, "N d"], given: Tensor | None = None) -> None:
        self.manifold.examine(z, given)

    def embed(self, z: Tensor) -> Tensor:
        return self._by_points("embed", self.manifold.embed, z)

    def observe(self, z: Float[Tensor, "*batch d"]) -> Tensor:
        return self._by_points("observe", self.manifold.observe, z)

    def metric_tensor(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d"]:
        if self.has_embedding and self.bytes_of("metric_tensor") > self.piece:
            return torch.stack([self._by_directions(point) for point in z.reshape(-1, z.shape[-1])]).reshape(
                *z.shape, z.shape[-1]
            )
        return self._by_points("metric_tensor", self.manifold.metric_tensor, z)

    def squared_norm(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        return self._by_points("squared_norm", self.manifold.squared_norm, z, v)

    def lowered(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return self._by_points("lowered", self.manifold.lowered, z, v)

    def lowered_acceleration(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], w: Float[Tensor, "*batch d"]
    ) -> Float[Tensor, "*batch d"]:
        return self._by_points("lowered_acceleration", self.manifold.lowered_acceleration, z, v, w)

    def metric_and_acceleration(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], w: Float[Tensor, "*batch d"]
    ) -> tuple[Float[Tensor, "*batch d d"], Float[Tensor, "*batch d"]]:
        if self.bytes_of("metric_and_acceleration") > self.piece:
            return super().metric_and_acceleration(z, v, w)
        G, u = self._by_points("metric_and_acceleration", self.manifold.metric_and_acceleration, z, v, w)
        return G, u

    def lowered_connection(
        self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]
    ) -> Float[Tensor, "*batch d d"]:
        return self._by_points("lowered_connection", self.manifold.lowered_connection, z, v)

    def deviation(self, z: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"]) -> Deviation:
        def parts(z: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            found = self.manifold.deviation(z, v)
            return found.metric, found.connection, found.curvature

        return Deviation(*self._by_points("deviation", parts, z, v))

    def riemann(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d d d d"]:
        return self._by_points("riemann", self.manifold.riemann, z)

    def lower_bound(self, start: Float[Tensor, "*batch d"], end: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        d = start.shape[-1]
        pairs = start.reshape(-1, d), end.reshape(-1, d)
        size = max(1, self.size_of("observe") // 2)
        return grouped(self.manifold.lower_bound, size, *pairs).reshape(start.shape[:-1])

    def apart(self, x: Float[Tensor, "P *outputs"], y: Float[Tensor, "P *outputs"]) -> Float[Tensor, " P"]:
        return self.manifold.apart(x, y)

    def squared_chords(self, path: Float[Tensor, "*batch nodes d"]) -> Float[Tensor, "*batch nodes-1"]:
        def in_pieces(paths: Tensor, size: int) -> Tensor:
            n, step = paths.shape[1], size - 1
            cuts = [(i, min(i + step, n - 1)) for i in range(0, n - 1, step)]
            return torch.cat([self.manifold.squared_chords(paths[:, i : j + 1]) for i, j in cuts], dim=1)

        paths = path.reshape(-1, *path.shape[-2:])
        found = self._by_paths("squared_chords", in_pieces, paths)
        return torch.cat(found).reshape(*path.shape[:-2], -1)

    def chords_of_one_and_two(
        self, path: Float[Tensor, "*batch nodes d"]
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Float[Tensor, "*batch nodes-2"]]:
        whole = 2 * path.shape[:-1].numel() <= self.size_of("squared_chords")  # a second difference for each node
        return self.manifold.chords_of_one_and_two(path) if whole else super().chords_of_one_and_two(path)

    def traveled(
        self,
        path: Float[Tensor, "P nodes d"],
        z: Float[Tensor, "P T Q d"],
        v: Float[Tensor, "P T Q d"],
        weights: Float[Tensor, " Q"],
        velocity: Float[Tensor, "P nodes d"] | None = None,
    ) -> Traveled:
        if z.shape[:-1].numel() <= (size := self.size_of("squared_norm")):
            return self.manifold.traveled(path, z, v, weights, velocity)
        at_nodes = [path] if velocity is None else [path, velocity]

        def of_paths(z: Tensor, v: Tensor, path: Tensor, *slopes: Tensor) -> Traveled:
            return self.manifold.traveled(path, z, v, weights, *slopes)

        if (each := z.shape[1:3].numel() + path.shape[1]) <= size:
            return Traveled._make(grouped(of_paths, size // each, z, v, *at_nodes))

        # Neighbors of all paths as paths of one segment, in groups: their ends are evaluated twice.
        def of_segments(z: Tensor, v: Tensor, *ends: Tensor) -> Traveled:
            return of_paths(z[:, None], v[:, None], *ends)

        ends = (torch.stack([x[:, :-1], x[:, 1:]], dim=2).flatten(0, 1) for x in at_nodes)
        found = grouped(of_segments, max(1, size // (2 + len(weights))), z.flatten(0, 1), v.flatten(0, 1), *ends)
        *whole, _ = (x[:, 0].unflatten(0, z.shape[:2]) if x.shape[1] else x for x in found)
        found = Traveled._make([*whole, self.chords_of_one_and_two(path)[1]])
        return found._replace(bent=found.bent + self._bent_at_nodes(z, v)) if self.has_embedding else found

    def passed(self, z: Float[Tensor, "P nodes d"], v: Float[Tensor, "P nodes d"], every: int = 0) -> Along:
        """As of a manifold; without metrics where those of one path do not fit."""
        size, each = self.size_of("squared_norm"), z.shape[1]
        if each <= size:
            paths = size // each
            if every:
                with_metrics = self.size_of("metric_tensor") // len(range(each)[middles(every)])
                every, paths = (every, min(paths, with_metrics)) if with_metrics else (0, paths)
            return Along._make(grouped(partial(self.manifold.passed, every=every), paths, z, v))
        segments = (x.unfold(1, 3, 2).mT.flatten(0, 1) for x in (z, v))
        *whole, _ = grouped(self.manifold.passed, max(1, size // 3), *segments)
        whole = [x.unflatten(0, (len(z), -1)).flatten(1, 2) for x in whole]
        return Along._make([*whole, self.chords_of_one_and_two(z[:, ::2])[1]])

    def _bent_at_nodes(self, z: Float[Tensor, "P T Q d"], v: Float[Tensor, "P T Q d"]) -> Float[Tensor, "P T"]:
        """By how much J c' changes from the points of quadrature of each segment to those of its neighbors."""

        def across(z: Tensor, v: Tensor) -> Tensor:
            return self.manifold.traveled(z, z[:, None], v[:, None], torch.full_like(z[0, :, 0], 0.5)).bent[:, 0]

        z, v = (torch.stack([x[:, :-1, -1], x[:, 1:, 0]], dim=2) for x in (z, v))
        if not z.shape[1]:
            return z.new_zeros(len(z), 1)
        bent = grouped(across, max(1, self.size_of("squared_norm") // 4), z.flatten(0, 1), v.flatten(0, 1))
        bent = torch.nn.functional.pad(bent.unflatten(0, z.shape[:2]), (1, 1))
        return bent[:, :-1] + bent[:, 1:]

    def arcs(
        self, path: Float[Tensor, "P nodes d"], velocity: Float[Tensor, "P nodes d"]
    ) -> tuple[Float[Tensor, "P T"], Float[Tensor, "P T"]]:
        if path.shape[:-1].numel() <= (size := self.size_of("squared_norm")):
            return self.manifold.arcs(path, velocity)
        ends, slopes = (torch.stack([x[:, :-1], x[:, 1:]], dim=2).flatten(0, 1) for x in (path, velocity))
        found = grouped(self.manifold.arcs, max(1, size // 2), ends, slopes)
        return tuple(x[:, 0].unflatten(0, (len(path), -1)) for x in found)

    def chords_and_pullback(
        self, path: Float[Tensor, "*batch nodes d"], weights: Float[Tensor, "*batch nodes-1"] | None = None
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Callable[[], Tensor]]:
        if whole := self._whole("gradient", self.manifold.chords_and_pullback, path, weights):
            return whole

        def in_pieces(paths: Tensor, weights: Tensor, size: int) -> Tensor:
            parts = []
            for piece in _pieces(paths.shape[1], size - 2, before=0, after=0):
                _, pull = self.manifold.chords_and_pullback(paths[:, piece.nodes], weights[:, piece.segments])
                parts.append(pull())
            return torch.cat(parts, dim=1)

        def pull() -> Tensor:
            # Evaluated anew: what a backward pass needs would not be held for all pieces.
            found = torch.cat(self._by_paths("gradient", in_pieces, *_flat(path, weights)))
            return found.reshape(*path.shape[:-2], *found.shape[1:])

        with torch.no_grad():
            chords = weighted(self.squared_chords(path), weights)
        return chords, pull

    def gradient_and_product(
        self, path: Float[Tensor, "*batch nodes d"], weights: Float[Tensor, "*batch nodes-1"] | None = None
    ) -> tuple[Float[Tensor, "*batch nodes-1"], Tensor, Callable[[Tensor], Tensor]]:
        if whole := self._whole("product", self.manifold.gradient_and_product, path, weights):
            return whole
        paths, rates = _flat(path, weights)

        def product(direction: Tensor) -> Tensor:
            u = direction.reshape(-1, *direction.shape[-2:])

            def in_pieces(both: Tensor, rates: Tensor, size: int) -> Tensor:
                some, u, parts = both[..., 0], both[:, 1:-1, :, 1], []
                for piece in _pieces(some.shape[1], size - 4, before=1, after=1):
                    product = self.manifold.gradient_and_product(some[:, piece.nodes], rates[:, piece.segments])[2]
                    parts.append(product(u[:, piece.nodes.start : piece.nodes.stop - 2])[:, piece.kept])
                return torch.cat(parts, dim=1)

            both = torch.stack([paths, torch.nn.functional.pad(u, (0, 0, 1, 1))], dim=-1)
            return torch.cat(self._by_paths("product", in_pieces, both, rates)).reshape(direction.shape)

        chords, pull = self.chords_and_pullback(path, weights)
        return chords, pull(), product

    def expansion(
        self, path: Float[Tensor, "paths nodes d"], weights: Float[Tensor, "paths nodes-1"] | None = None
    ) -> Expansion:
        def in_pieces(paths: Tensor, weights: Tensor, size: int) -> Expansion:
            pieces = list(_pieces(paths.shape[1], size - 3, before=0, after=1))
            found = [self.manifold.expansion(paths[:, piece.nodes], weights[:, piece.segments]) for piece in pieces]
            return _end_to_end(found, pieces)

        return _side_by_side(self._by_paths("expansion", in_pieces, *_flat(path, weights)))

    def __repr__(self) -> str:
        return repr(self.manifold)

    def _whole(
        self, work: str, compute: Callable[[Tensor, Tensor | None], Answer], path: Tensor, weights: Tensor | None
    ) -> Answer | None:
        """`compute` of paths that fit as they are; None for others."""
        nodes = path.shape[:-1].numel()
        if nodes > self.size_of(work):
            return None
        try:
            return compute(path, weights)
        except torch.OutOfMemoryError:
            self._sizes[work] = max(LEAST[work], nodes // 2)
            return None

    def _by_directions(self, point: Float[Tensor, " d"]) -> Float[Tensor, "d d"]:
        """The metric of one point from products with some unit vectors at once: of their tangents only images stay."""
        x, way, units = self.door or self.manifold.embed, self.way(point[None]), torch.eye(len(point)).to(point)

        def images(some: Tensor) -> Tensor:
            return way.push(x, point.expand(len(some), -1), some).flatten(1)

        J = grouped(images, self.size_of("squared_norm"), units)  # transposed
        return J @ J.mT

    def _by_points(self, work: str, compute: Callable[..., Any], *tensors: Tensor) -> Any:
        """`compute` of points and vectors, (*batch, d), in groups: a tensor, or each of several."""
        batch, d = tensors[0].shape[:-1], tensors[0].shape[-1]
        found = grouped(compute, self.size_of(work), *(x.reshape(-1, d) for x in tensors))
        if isinstance(found, Tensor):
            return found.reshape(batch + found.shape[1:])
        return tuple(x.reshape(batch + x.shape[1:]) for x in found)

    def _by_paths(self, work: str, compute: Callable[..., Answer], paths: Tensor, *others: Tensor) -> list[Answer]:
        """`compute` of groups of paths, (P, nodes, ...), of what else has a row for each, and of the number of nodes
        of each path that it may work on.
        """

        def in_groups(size: int) -> list[Answer]:
            self._sizes[work] = size
            groups = zip(*(x.split(max(1, size // paths.shape[1])) for x in (paths, *others)), strict=True)
            return [compute(*some, max(LEAST[work], min(size // len(some[0]), paths.shape[1]))) for some in groups]

        return halving(in_groups, self.size_of(work), LEAST[work])


def pieced(manifold: Manifold, like: Float[Tensor, "*batch d"]) -> Manifold:
    """The manifold in pieces that fit into the memory that is free, for points like these."""
    rows = like.reshape(-1, like.shape[-1])
    return InPieces(manifold, comfortable(rows.device), Meter(manifold, rows[:1])) if len(rows) else manifold


def _flat(path: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Paths and the weights of their segments with one leading axis, (P, T + 1, d) and (P, T)."""
    paths = path.reshape(-1, *path.shape[-2:])
    if weights is None:
        return paths, torch.ones_like(paths[:, 1:, 0])
    return paths, weights.reshape(-1, weights.shape[-1])


def _pieces(nodes: int, size: int, *, before: int, after: int) -> Iterator[_Piece]:
    """The interior nodes of a path in pieces of a size, each with one node more at both ends, and some beyond these."""
    for first in range(1, nodes - 1, size):
        last = min(first + size, nodes - 1) - 1
        low, high = max(first - before, 1), min(last + after, nodes - 2)
        yield _Piece(slice(low - 1, high + 2), slice(low - 1, high + 1), slice(first - low, last - low + 1))


def _end_to_end(parts: list[Expansion], pieces: list[_Piece]) -> Expansion:
    """The expansion of paths from those of their pieces, one after the other."""

    def joined(hessians: list[BlockTridiagonal]) -> BlockTridiagonal:
        # A piece also holds the node after those that are kept, so that the block between the two is there.
        together = list(zip(hessians, pieces, strict=True))
        diagonal = torch.cat([H.diagonal[:, piece.kept] for H, piece in together], dim=1)
        return BlockTridiagonal(diagonal, torch.cat([H.upper[:, piece.kept] for H, piece in together], dim=1))

    together = list(zip(parts, pieces, strict=True))
    chords = [part.squared_chords[:, piece.kept] for part, piece in together[:-1]]
    return Expansion(
        torch.cat([*chords, parts[-1].squared_chords], dim=1),
        torch.cat([part.gradient[:, piece.kept] for part, piece in together], dim=1),
        joined([part.hessian for part in parts]),
        lambda rows, share: joined([part.convexified(rows, share) for part in parts]),
    )


def _side_by_side(groups: list[Expansion]) -> Expansion:
    """The expansion of a batch of paths from those of groups of them."""
    lengths = [len(group.gradient) for group in groups]
    H = BlockTridiagonal(*(torch.cat([getattr(g.hessian, x) for g in groups]) for x in ("diagonal", "upper")))

    def convexified(rows: Tensor, share: float) -> BlockTridiagonal:
        diagonal, upper, first = H.diagonal[rows], H.upper[rows], 0
        for group, length in zip(groups, lengths, strict=True):
            here = (rows >= first) & (rows < first + length)
            if bool(here.any()):
                part = group.convexified(rows[here] - first, share)
                diagonal[here], upper[here] = part.diagonal, part.upper
            first += length
        return BlockTridiagonal(diagonal, upper)

    gradient = torch.cat([group.gradient for group in groups])
    return Expansion(torch.cat([group.squared_chords for group in groups]), gradient, H, convexified)
