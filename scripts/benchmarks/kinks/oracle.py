"""Small networks of ReLUs with affine pieces: answers beside exact shortest paths."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import geodesic
from scripts.benchmarks.kinks.measure import chord_length, curve, solved
from tests import windows
from tests.polyhedral import Polyhedron

__all__ = ["rows"]

SIZES = ((2, 8), (8, 8), (8, 4))
WEIGHTS = 2.0
SIZE = 4.0  # half the side of the square that is cut into pieces
ASIDE = 1e-7  # of the way, by which a curve passes its own vertices
EXACT = 1e-6  # relative
SEARCHES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "best": {"init": "best"},
}


def network(seed: int) -> nn.Sequential | None:
    """A random decoder 2-8-8-4 of ReLUs; none where a piece is of rank below 2, which has no polygon."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, second, last = (nn.Linear(*size, dtype=torch.float64) for size in SIZES)
    decoder = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last).requires_grad_(False)
    with torch.no_grad():
        for layer in (first, second, last):
            layer.weight.mul_(WEIGHTS)
    pieces = Polyhedron(decoder, SIZE).cells
    return decoder if all(np.linalg.cond(cell.A) < 1e6 for cell in pieces) else None


class Small:
    """A network, a pair, and its exact shortest path within the square."""

    def __init__(self, decoder: nn.Sequential, ends: Tensor) -> None:
        self.manifold = geodesic.PullbackManifold(decoder)
        self.surface = Polyhedron(decoder, SIZE)
        self.start, self.end = ends
        self.shortest = windows.distance(self.surface, *ends.numpy())

    def local(self, path: np.ndarray) -> tuple[float, float]:
        """Lengths of the taut string in the strip of pieces that a curve crosses, and of that after corners have gone
        round their vertices by the other side as long as this makes them shorter: a local minimum.

        A curve through vertices has a strip on either side of it: the shorter string counts.
        """
        t = np.linspace(0, np.pi, len(path))[:, None]
        aside = ASIDE * np.sin(t) * np.array([[-1.0, 1.0]]) * (path[-1:] - path[:1])[:, ::-1]
        return min(self._local(path + sign * aside) for sign in (1, -1))

    def _local(self, path: np.ndarray) -> tuple[float, float]:
        ends = self.start.numpy(), self.end.numpy()
        strip = self.surface.strip(path)
        own, corners = self.surface.taut_string(*ends, strip)
        least = own
        improved = True
        while improved:
            improved = False
            for vertex in corners:
                other = around(self.surface, strip, vertex)
                length, bends = self.surface.taut_string(*ends, other) if other else (least, corners)
                if length < least * (1 - 1e-12):
                    strip, least, corners, improved = other, length, bends, True
                    break
        return own, least


def around(surface: Polyhedron, strip: list[int], vertex: int) -> list[int]:
    """The strip with the pieces around a vertex passed on the other side; none at the border of the square."""
    at = [k for k, cell in enumerate(strip) if vertex in surface.cells[cell].vertices]
    first, last = strip[at[0]], strip[at[-1]]
    inside = set(strip[at[0] : at[-1] + 1])
    for step in (1, -1):  # the two ways round
        turn = [first]
        while turn[-1] != last:
            following = _next(surface, turn[-1], vertex, step)
            if following is None or following in turn:
                break
            turn.append(following)
        if turn[-1] == last and set(turn) != inside:
            return [*strip[: at[0]], *turn, *strip[at[-1] + 1 :]]
    return []


def _next(surface: Polyhedron, cell: int, vertex: int, step: int) -> int | None:
    """The piece beside one at a vertex, on one side of it or the other."""
    edge = next(edge for edge in surface.cells[cell].edges if edge[0 if step > 0 else 1] == vertex)
    return surface.left_of.get(edge[::-1])


def rows(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """For each search: how many answers are exact in their own strip, how many shortest of all, what is certified
    falsely.
    """
    cases, seed = [], 0
    generator = torch.Generator().manual_seed(2)
    while len(cases) < options.small:
        decoder, ends = network(seed), 3 * torch.rand(2, 2, generator=generator, dtype=torch.float64) - 1.5
        seed += 1
        if decoder is not None:
            cases.append(Small(decoder, ends))
    for name, search in SEARCHES.items():
        yield name, _row(cases, search) | {"drawn": seed}


def _row(cases: list[Small], search: dict[str, Any]) -> dict[str, Any]:
    seconds, certified = 0.0, 0
    own_off, local_off, global_off, stated = [], [], [], []
    for case in cases:
        points = 1.5 * torch.randn(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        start, end = case.start[None], case.end[None]
        solution, taken = solved(case.manifold, start, end, **search, graph_points=points if "init" in search else None)
        seconds += taken
        if bool((solution.converged & solution.resolved)[0]):
            certified += 1
        path = curve(solution, 0)
        length = float(chord_length(case.manifold, path))
        own, least = case.local(path.numpy())
        own_off.append(length / own - 1)
        local_off.append(length / least - 1)
        global_off.append(length / case.shortest - 1)
        stated.append(float(solution.error[0]) if bool(solution.resolved[0]) else np.inf)
    own, local, shortest, error = (np.array(x) for x in (own_off, local_off, global_off, stated))
    allowed = np.maximum(3 * error, EXACT)
    return {
        "networks": len(cases),
        "certified": certified,
        "own strip": int((np.abs(own) <= EXACT).sum()),
        "worst, own": float(own.max()),
        "local minimum": int((local <= EXACT).sum()),
        "shortest of all": int((shortest <= EXACT).sum()),
        "to 0.1 %": int((shortest <= 1e-3).sum()),
        "false": int((local > allowed).sum()),
        "s": seconds,
    }
