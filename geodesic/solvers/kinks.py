"""Answers on decoders with kinks: what a smooth method found, made taut, measured piece by piece and certified.

A smooth method sees a decoder with kinks as it is between them: its gradient vanishes nowhere near a shortest path, or
vanishes on a path that could be shorter. Where the decoder shows its faces, each answer is tightened from there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geodesic.door.faces import Faces, faces_of
from geodesic.geometry.manifold import Manifold
from geodesic.geometry.strip_lengths import by_halves, by_quadrature
from geodesic.geometry.strips import Strips, on_face, rounding_of
from geodesic.solvers.bumps import BUMPS, with_bumps
from geodesic.solvers.rows import sampled, uncertified, with_rows
from geodesic.solvers.search import MOST_SEGMENTS, SEGMENTS, Search
from geodesic.solvers.shakes import SHAKES, with_shakes
from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.status import Status
from geodesic.solvers.taut import Effort, Polygons, Taut, crossing, tighten

__all__ = ["Kinks", "kinks_of"]

_PART = 0.8  # of `length_rtol`, that may be left of the energy where no `tol` is given
_FEW = 64  # faces, up to which steps cost next to nothing
_SEARCHES = 3  # rounds of bumps, as long as they lead to shorter paths
_ANGLES = 2  # latent coordinates, up to which angles tell whether a corner is a shortest way
_CONFIRMATIONS = 8  # times that certified answers are shaken, as long as they lead to shorter ones
_TRIED = 256  # faces, up to which certificates are tried: across more that took thirty times what all else did
_QUIET = 3  # times that they led nowhere, though some stopped where they might have become shorter
_BESIDE = 0.1  # of the distance of the ends: how far beside a face that a path runs along others begin
_LINES = 4  # pairs, by which it is seen whether pieces are flat
_CLOSE = 0.9  # of the straight line's length, as a smooth method measures it: below it paths are surely shorter
_SHORT = 1e-6  # of a path: a part that may run along a face without a word
_ROUNDED = 32  # times the heights that are zero up to rounding: the same in a coarse dtype
_FULLY = Effort(tol=0.0, most=60)  # of what is sought, where few faces are crossed
_ROUGHLY = Effort(tol=0.1, most=30)  # a tenth of `length_rtol`, while polygons have too few nodes to be worth more
_LOOSELY = Effort(tol=1.6, believed=10.0, in_parts=False)  # times `tol`, where many faces are crossed
_FURTHER = Effort(tol=0.1, believed=100.0, most=60)  # the same where certificates are tried
_THOROUGH = Effort(tol=0.01, believed=1000.0)  # the same where steps lead on
_EASY = 2  # steps, after which polygons are taut where steps do not lead on: or all of them together gain little
_PLANAR = 4  # latent coordinates: with more, corners of many faces only have bounds
_FLAT = 1e-9  # of a length: what pieces bend less is flat
_ROUNDS = 5  # in which segments are halved that bend too much
_NUMBERS = 2**27  # heights at once, about
_ROUNDINGS = 10  # of a length: no error below is known
_FAR = (Status.NOT_CONNECTED, Status.NOT_FINITE, Status.JUMP)


@dataclass(frozen=True)
class _Measured:
    """Polygons with what quadrature says: of segments, which are the rows before each node, (R,), and in all, (P,)."""

    strips: Strips
    arcs: Float[Tensor, " R"]
    chords: Float[Tensor, " R"]
    length: Float[Tensor, " P"]
    bent: Float[Tensor, " P"]  # by how much curves exceed their chords


@dataclass(frozen=True)
class Kinks:
    """How answers are tightened.

    Attributes:
        manifold: With an embedding.
        faces: Of its decoder.
        tol: Largest relative excess energy.
        rtol: Largest relative error of a resolved length.
        sought: The relative excess energy that steps lead to: less than `tol` where they are cheap.
        flat: Whether pieces seem to be flat, so that polygons need nodes on faces alone.
        many: Whether polygons cross many faces.
        further: Whether these are to be made tauter than lengths need: where certificates are tried.
    """

    manifold: Manifold
    faces: Faces
    tol: float
    rtol: float
    sought: float
    flat: bool
    many: bool = False
    further: bool = False

    @torch.no_grad()
    def tightened(self, answer: GeodesicSolution) -> GeodesicSolution:
        """The answers, with those that cross faces, not too many of them, made taut."""
        answer = replace(answer, tol=self.tol)
        status, path = answer.status, answer.mesh
        usable = answer.length.isfinite() & (answer.length > 0) & (answer.lower_bound >= 0)
        for bad in _FAR:
            usable &= status != bad
        (rows,) = usable.nonzero(as_tuple=True)
        if not len(rows):
            return answer
        for some in rows.split(self._at_once(path)):
            count = self._crossings(path[some])
            usable = ((count > 0) | self._in_face(path[some])) & (count <= MOST_SEGMENTS)
            if len(group := some[usable & (count <= _FEW)]):
                answer = self._group(answer, group)
            for part in self._in_parts(path, some[usable & (count > _FEW)], count):
                answer = replace(self, many=True)._group(answer, part)
        return answer

    @torch.no_grad()
    def searched(self, answer: GeodesicSolution) -> GeodesicSolution:
        """The answers, or shorter ones to which curves lead that make bumps beside them.

        Where pieces meet at sharp angles there is a local minimum on either side of many of their corners. To make a
        curve taut costs little beside a search by a smooth method, and the curve stays where it began.
        """
        usable = answer.length.isfinite() & (answer.length > 0)
        for bad in _FAR:
            usable &= answer.status != bad
        (rows,) = usable.nonzero(as_tuple=True)
        for _ in range(_SEARCHES):
            if not len(rows):
                break
            gained = []
            for some in rows.split(self._at_once(answer.mesh)):
                # On an MNIST VAE, with hundreds of faces, bumps took six times what all else did, and gained nothing.
                if len(group := some[self._crossings(answer.mesh[some]) <= _FEW]):
                    paths = with_bumps(sampled(answer[group], SEGMENTS).path, BUMPS)
                    if paths.shape[1]:
                        margin = torch.full_like(answer.length[group], self.sought)
                        old = answer.length[group]
                        answer, _ = self._beyond(answer, group, paths, margin)
                        gained.append(group[answer.length[group] < (1 - margin) * old])
            rows = torch.cat(gained) if gained else rows[:0]
        return answer

    @torch.no_grad()
    def confirmed(self, answer: GeodesicSolution) -> GeodesicSolution:
        """The answers, or shorter ones that were found from their polygons with nodes moved a little.

        With three and more coordinates a polygon may be held beside corners where no step, and no way around a corner,
        is seen to gain. What is certified is therefore shaken, and goes on from what is found, until nothing is: what
        leads on to shorter ones all the time may do so once more.
        """
        (rows,) = (answer.polygon & answer.converged).nonzero(as_tuple=True)
        if answer.mesh.shape[2] <= _ANGLES or not len(rows):
            return answer
        gained, quiet = torch.zeros_like(answer.length), torch.zeros_like(answer.segments)
        for turn in range(_CONFIRMATIONS):
            for some in rows.split(max(1, self._at_once(answer.mesh) // len(SHAKES))):
                count = self._crossings(answer.mesh[some]) // 2  # from a node on a face each counts twice
                quiet[some[count > _TRIED]] = _QUIET
                few, many = some[count <= _FEW], some[(count > _FEW) & (count <= _TRIED)]
                # Steps of many nodes are ended early: where more of them lead on, there is no need for shakes.
                further = replace(self, many=True, further=True)
                parts = [(further, part) for part in self._in_parts(answer.mesh, many, count)]
                for kinks, group in [(self, few), *parts] if len(few) else parts:
                    old = answer[group]
                    paths = old.mesh[:, None] if kinks.further else with_shakes(old.mesh, SHAKES, turn)
                    answer, least = kinks._beyond(answer, group, paths, old.error)
                    gained[group] = 1 - answer.length[group] / old.length
                    led = gained[group] > old.error
                    doubtful = least < (1 - old.error) * old.length
                    quiet[group] = torch.where(led, 0, torch.where(doubtful, quiet[group] + 1, _QUIET))
            rows = rows[quiet[rows] < _QUIET]
            if not len(rows):
                return answer
        rows = rows[quiet[rows] == 0]
        return uncertified(answer, rows, 2 * gained[rows])

    def _beyond(
        self,
        answer: GeodesicSolution,
        rows: Int[Tensor, " n"],
        paths: Float[Tensor, "n B nodes d"],
        margin: Float[Tensor, " n"],
    ) -> tuple[GeodesicSolution, Float[Tensor, " n"]]:
        """The answers, or shorter ones made from paths, and the least that any of these may be long by what it states.

        A certificate is not given up for less than a margin, relative to the length.
        """
        tries = rows.repeat_interleave(paths.shape[1])
        new = self._answer(answer[tries], *self._from(paths.flatten(0, 1)))
        left = new.relative_excess_energy.nan_to_num(torch.inf).clamp_min(0) / 2
        least = (new.length * (1 - left)).nan_to_num(torch.inf).unflatten(0, (len(rows), -1)).amin(1)
        best = new.length.unflatten(0, (len(rows), -1)).nan_to_num(torch.inf).argmin(1)
        new, old = new[best + paths.shape[1] * torch.arange(len(rows), device=rows.device)], answer[rows]
        worth = torch.where(new.resolved | ~old.resolved, 1, 1 - margin) * old.length
        (shorter,) = (new.length < worth).nonzero(as_tuple=True)
        return with_rows(answer, rows[shorter], new[shorter]), least

    def _at_once(self, path: Float[Tensor, "P n d"]) -> int:
        units = self.faces.heights(path[:1, :1].flatten(0, 1)).shape[1]
        return max(1, _NUMBERS // (8 * units * path.shape[1]))

    def _in_parts(
        self, path: Float[Tensor, "P n d"], rows: Int[Tensor, " some"], count: Int[Tensor, " any"]
    ) -> tuple[Int[Tensor, " part"], ...]:
        """Rows in groups whose Jacobians fit at once: of so many nodes each, at most."""
        size = self.manifold.observe(path[:1, 0]).numel() * path.shape[2] * int(count.max())
        return rows.split(max(1, _NUMBERS // size)) if len(rows) else ()

    def _crossings(self, path: Float[Tensor, "P n d"]) -> Int[Tensor, " P"]:
        """How often units change sign from node to node."""
        heights = self.faces.heights(path.flatten(0, 1))
        signs = on_face(heights, heights.abs().amax(0)).unflatten(0, path.shape[:2])
        return (signs[:, 1:] != signs[:, :-1]).flatten(1).sum(1)

    def _group(self, answer: GeodesicSolution, rows: Int[Tensor, " n"]) -> GeodesicSolution:
        old = answer[rows]
        start, end = old.mesh[:, 0], old.mesh[:, -1]
        lines = torch.stack([start, (start + end) / 2, end], dim=1)
        new = self._answer(old, *self._from(old.mesh))
        straight = old.straight_length.clone()
        (close,) = (~(new.length <= _CLOSE * straight) | self.flat).nonzero(as_tuple=True)
        if len(close):
            straight[close] = self._crossed(lines[close])[1]
        longer = new.length > straight * (1 + _FLAT)  # from the straight line none is longer than that
        starts = [(longer, lines)]
        (ridge,) = self._in_face(old.mesh).nonzero(as_tuple=True)
        if len(ridge):
            in_face = torch.zeros_like(longer).index_fill(0, ridge, True)
            starts += [(in_face, side) for side in self._beside(old.mesh)]
        for which, path in starts:
            (some,) = which.nonzero(as_tuple=True)
            if len(some):
                other = self._answer(old[some], *self._from(path[some]))
                (shorter,) = (other.length < new.length[some]).nonzero(as_tuple=True)
                new = with_rows(new, some[shorter], other[shorter])
        if self.flat:
            new = replace(new, straight_length=straight)
        return with_rows(answer, rows, new)

    def _in_face(self, path: Float[Tensor, "P n d"]) -> Bool[Tensor, " P"]:
        """Which paths run along a face: where pieces are curved, no node tells what they are like beside it."""
        middle = (path[:, 1:] + path[:, :-1]) / 2
        size = path.diff(dim=1).norm(dim=2)
        heights = self.faces.heights(torch.cat([path, middle], dim=1).flatten(0, 1)).unflatten(0, (len(path), -1))
        signs = on_face(heights, heights.abs().amax(1, keepdim=True))
        nodes, between = signs.split([path.shape[1], middle.shape[1]], dim=1)
        within = (nodes[:, 1:] == 0) & (nodes[:, :-1] == 0) & (between == 0) & (size > 0)[..., None]
        pairs, segments, units = within.nonzero(as_tuple=True)
        along = torch.zeros_like(size)
        if len(pairs):  # where a height is zero all around, as of two numbers that a ReLU made zero, there is no face
            slope = self.faces.normals(middle[pairs, segments], units).norm(dim=1)
            pairs, segments = pairs[slope > 0], segments[slope > 0]
            along[pairs, segments] = size[pairs, segments]
        # Between two faces that meet a segment may be so short that rounding lets it lie on either.
        short = max(_SHORT, _ROUNDED * rounding_of(path.dtype))
        return along.sum(1) > short * size.sum(1)

    def _beside(self, path: Float[Tensor, "P n d"]) -> list[Tensor]:
        """Paths that leave those that run along faces to both sides."""
        middle = path[:, path.shape[1] // 2]
        heights = self.faces.heights(middle)
        normal = self.faces.normals(middle, heights.abs().argmin(1))
        size = _BESIDE * (path[:, -1] - path[:, 0]).norm(dim=1, keepdim=True)
        normal = size * normal / normal.norm(dim=1, keepdim=True).clamp_min(torch.finfo(path.dtype).tiny)
        t = torch.linspace(0, 1, path.shape[1], dtype=path.dtype, device=path.device)[:, None]
        return [path + side * 4 * t * (1 - t) * normal[:, None] for side in (1, -1)]

    def _crossed(self, path: Float[Tensor, "P n d"]) -> tuple[Strips, Float[Tensor, " P"]]:
        """Polygons as they are, with the faces that they cross, and their lengths."""
        return crossing(self.manifold, self.faces, Polygons.along(path, self._within(path)), curved=not self.flat)

    def _within(self, path: Float[Tensor, "P n d"]) -> Bool[Tensor, "P n"]:
        return torch.full_like(path[..., 0], not self.flat, dtype=torch.bool)

    def _from(self, path: Float[Tensor, "P n d"]) -> tuple[Taut, _Measured]:
        """Polygons made taut, with as many nodes within pieces as their bends need."""
        taut = self._tight(Polygons.along(path, self._within(path)))
        found = self._measured(taut.strips)
        coarse = found.bent > self.rtol / 4 * found.length
        for _ in range(_ROUNDS if bool(coarse.any()) else 0):
            taut = self._tight(self._halved(found, coarse), roughly=True)
            found = self._measured(taut.strips)
            coarse = found.bent > self.rtol / 4 * found.length
            if not bool(coarse.any()):
                break
        if not self.many and bool((taut.excess > self.sought).any()):
            taut = self._tight(Polygons.again(taut.strips))
            found = self._measured(taut.strips)
        return taut, found

    def _tight(self, polygons: Polygons, roughly: bool = False) -> Taut:
        """Polygons made taut: roughly while they have too few nodes, where they cross few faces."""
        curved = bool(polygons.within.any())

        def sought(polygons: Polygons, effort: Effort) -> Taut:
            return tighten(self.manifold, self.faces, polygons, effort, curved=curved, many=self.many)

        if not self.many:
            few = replace(_ROUGHLY, tol=max(self.sought, _ROUGHLY.tol * self.rtol))
            return sought(polygons, few if roughly else replace(_FULLY, tol=self.sought))
        if self.further:
            return sought(polygons, replace(_FURTHER, tol=_FURTHER.tol * self.tol))
        taut = sought(polygons, replace(_LOOSELY, tol=_LOOSELY.tol * self.tol))
        # Where pieces meet at sharp angles one minimum leads to the next, each little below the last.
        led = (taut.steps > _EASY) & (taut.gained > self.tol)
        (rough,) = (led & (polygons.nodes.shape[1] <= _PLANAR)).nonzero(as_tuple=True)
        if len(rough):
            some = taut.strips.of(torch.zeros_like(taut.minimum).index_fill(0, rough, True))
            more = sought(Polygons.again(some), replace(_THOROUGH, tol=_THOROUGH.tol * self.tol))
            taut = taut.with_rows(rough, replace(more, steps=more.steps + taut.steps[rough]))
        return taut

    def _measured(self, strips: Strips) -> _Measured:
        measure = by_halves if self.many else by_quadrature
        arcs, chords = measure(self.manifold, strips)
        arcs = arcs.maximum(chords)
        nothing = arcs.new_zeros(int(strips.pair[-1]) + 1)
        total, bent = (nothing.index_add(0, strips.pair, part) for part in (arcs, arcs - chords))
        return _Measured(strips, arcs, chords, total, bent)

    def _halved(self, found: _Measured, coarse: Bool[Tensor, " P"]) -> Polygons:
        """Polygons with a node in the middle of the segments that bend most, where they bend too much."""
        strips = found.strips
        count = strips.pair.bincount()[strips.pair]
        share = self.rtol / 8 * found.length[strips.pair] / count
        (rows,) = (coarse[strips.pair] & ~strips.first & (found.arcs - found.chords > share)).nonzero(as_tuple=True)
        index = torch.arange(len(count), device=count.device).to(strips.nodes)
        order = torch.cat([index, rows - 0.5]).argsort()
        middle = (strips.nodes[rows] + strips.nodes[rows - 1]) / 2
        nodes = torch.cat([strips.nodes, middle])[order]
        within = torch.cat([strips.within, torch.ones_like(rows, dtype=torch.bool)])[order]
        return Polygons(nodes, torch.cat([strips.pair, strips.pair[rows]])[order], within)

    def _answer(self, old: GeodesicSolution, taut: Taut, found: _Measured) -> GeodesicSolution:
        strips, length = found.strips, found.length
        mesh, arcs, chords = strips.padded(), strips.padded(found.arcs), strips.padded(found.chords)
        segments = strips.pair.bincount() - 1
        behind = torch.arange(mesh.shape[1], device=mesh.device) > segments[:, None]
        arcs, chords = torch.where(behind, 0, arcs), torch.where(behind, 0, chords)
        share = arcs.cumsum(1) / length[:, None]
        share = torch.where(torch.arange(mesh.shape[1], device=mesh.device) >= segments[:, None], 1, share)
        steps = arcs / length[:, None]
        energy = torch.where(arcs > 0, chords.square() / steps.clamp_min(torch.finfo(arcs.dtype).tiny), 0).sum(1) / 2
        excess = taut.excess
        if self.many:
            excess = excess.maximum(torch.full_like(excess, self.tol))  # models are right as far as the next faces
        if not self.flat:
            excess = torch.where(self._in_face(mesh), torch.nan, excess)
        eps = torch.finfo(length.dtype).eps
        error = found.bent / length + excess.clamp_min(0)  # twice what is left of the length: models are local
        error = error.nan_to_num(nan=torch.inf).clamp_min(_ROUNDINGS * eps)
        converged = excess <= self.tol
        bends = (24 * (arcs - chords).clamp_min(0) / arcs.clamp_min(eps)).sqrt() / arcs.clamp_min(eps)
        rounded = arcs - chords <= _ROUNDINGS * eps * length[:, None]
        residual = torch.where(rounded, 0, bends).amax(1) * length
        return replace(
            old,
            path=mesh,
            mesh=mesh,
            times=share,
            arc=share,
            energy=energy,
            length=length,
            relative_excess_energy=excess,
            gradient_norm=taut.slope * length,
            converged=converged,
            minimum=taut.minimum & converged,
            resolved=converged & (error <= self.rtol),
            error=error,
            decoder_residual=residual,
            speed_variation=torch.zeros_like(length),
            speed_allowance=torch.zeros_like(length),
            status=torch.where(converged, Status.CONVERGED, Status.STALLED),
            iterations=old.iterations + taut.steps,
            segments=segments,
            lower_bound=old.lower_bound.minimum(length),
            polygon=torch.ones_like(converged),
        )


def kinks_of(
    manifold: Manifold, start: Float[Tensor, "P d"], end: Float[Tensor, "P d"], search: Search
) -> Kinks | None:
    """How answers of a manifold are tightened; None where its decoder shows no kinks."""
    if not (manifold.has_embedding and manifold.has_length) or manifold.door is None:
        return None
    faces = faces_of(manifold.embed, start)
    if faces is None:
        return None
    tol = search.exactness(start.dtype)
    # All of it counts in the stated error of a length: more is not asked of steps than of lengths.
    enough = max(tol, search.rtol * _PART) if search.tol is None else tol
    kinks = Kinks(manifold, faces, enough, search.rtol, tol, flat=False)
    across = kinks._measured(kinks._crossed(_about(start[:_LINES], end[:_LINES]))[0])
    return replace(kinks, flat=bool((across.bent <= _FLAT * across.length).all()))


def _about(start: Float[Tensor, "n d"], end: Float[Tensor, "n d"]) -> Float[Tensor, "m 3 d"]:
    """Lines from start to end that pass each other by, halfway as far as they are long."""
    generator = torch.Generator().manual_seed(0)
    side = torch.nn.functional.normalize(torch.randn(start.shape, generator=generator).to(start), dim=1)
    side = side * (end - start).norm(dim=1, keepdim=True) / 2
    middle = (start + end) / 2
    return torch.cat([torch.stack([start, middle + share * side, end], dim=1) for share in (-1, 0, 1)])
