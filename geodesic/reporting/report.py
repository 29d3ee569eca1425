"""One page that says whether geodesics matter for some pairs."""

from __future__ import annotations

import html
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import geodesic
from geodesic.arrays import with_arrays
from geodesic.checks import require_integer
from geodesic.distances.record import DistanceMatrix
from geodesic.drawing.paths import background
from geodesic.drawing.strips import pictured, require_conditions
from geodesic.errors import InputError
from geodesic.files import write_text
from geodesic.geometry.checks import require_manifold
from geodesic.geometry.decoders import Decoder, checked_shape, require_decoder
from geodesic.geometry.manifold import Manifold
from geodesic.reporting.material import Material
from geodesic.reporting.neighbors import Neighbors, evenly, latent_distances, neighbors_or_why
from geodesic.reporting.page import page
from geodesic.reporting.sections import sections_of
from geodesic.reporting.verdict import Verdict
from geodesic.reporting.words import advice, headline, key_figures, reasons
from geodesic.solvers.solution import GeodesicSolution

__all__ = ["Report", "report", "report_on", "versions"]


@dataclass(frozen=True)
class Report:
    """A page, and what it says.

    Attributes:
        html: The page, whole: it needs no other file, no network and no script.
        verdict: Whether geodesics matter, with the figures.
    """

    html: str
    verdict: Verdict

    def save(self, file: str | Path) -> Path:
        """Write the page, whole or not at all: the file."""
        write_text(Path(file), self.html)
        return Path(file)

    def __repr__(self) -> str:
        return "\n".join([headline(self.verdict), *reasons(self.verdict)])

    def _repr_html_(self) -> str:
        """The page in a notebook, in a frame: its style is its own."""
        return f'<iframe srcdoc="{html.escape(self.html)}" width="100%" height="700" sandbox=""></iframe>'


def report(
    solutions: GeodesicSolution | Mapping[str, GeodesicSolution],
    *,
    manifold: Manifold | None = None,
    decoder: Decoder | None = None,
    image_shape: tuple[int, ...] | None = None,
    points: Tensor | NDArray | None = None,
    labels: Any = None,
    neighbors: DistanceMatrix | int = 50,
) -> Report:
    """Say on one page whether geodesics matter for these pairs, and show all that bears on it.

    What is not given is left out, and the page says so.

    Args:
        solutions: The answer of `solve`; several of the same pairs as a dictionary of names: the shortest curve of each
            pair counts.
        manifold: Where they were found: for a map of the magnification, or the spectrum of the metric.
        decoder: What is drawn along the paths, as for `plot_strip`.
        image_shape: The shape of an image, for decoders that return them flat.
        points: Latent points of data, (N, d).
        labels: Their classes, (N,).
        neighbors: Of how many of the points nearest neighbors are looked for where the manifold is given, evenly
            chosen, which takes seconds or, in many dimensions, minutes; 0 for none. Or a matrix of distances between
            these points, which is shown too.

    Returns:
        The page: `report(...).save("report.html")` writes it, a notebook shows it.

    Raises:
        InputError: There are no solutions, they are of different pairs, or what is given does not go with them.
        DecoderError: The decoder cannot be used.
        MissingExtraError: jinja2 or matplotlib is not installed.

    Example:
        >>> import torch, geodesic
        >>> sphere = geodesic.surfaces.Sphere()
        >>> a, b = torch.tensor([[0.8, 0.0], [1.0, 0.2]]), torch.tensor([[0.8, 2.0], [0.4, 1.5]])
        >>> found = geodesic.report(geodesic.solve(sphere, a, b), manifold=sphere)
        >>> found.verdict.answer, round(found.verdict.worst, 3)
        ('yes', 1.107)
    """
    given = solutions if isinstance(solutions, Mapping) else {"geodesic": solutions}
    for solution in given.values():
        if not isinstance(solution, GeodesicSolution):
            raise InputError(f"solutions: expected the answer of solve, got {type(solution).__name__}")
    named = {str(name): solution for name, solution in given.items()}
    if not named:
        raise InputError("solutions: expected at least one, got an empty dictionary")
    first = next(iter(named.values()))
    batch = first.status.ndim
    event = tuple(first.path.shape[batch + 1 :])
    d, pairs = int(np.prod(event)), int(np.prod(first.status.shape))
    if manifold is not None:
        require_manifold(manifold)
    cloud, classes = background(points, labels, d)
    matrix, found, missing = _distances(neighbors, cloud, classes, manifold, first)
    draw = None if decoder is None else _drawing(decoder, image_shape, event, first, pairs)
    names = [f"pair {k}" for k in range(pairs)]
    return report_on(
        Material(
            "Geodesics",
            named,
            names,
            manifold,
            draw,
            cloud,
            classes,
            matrix,
            found,
            missing=missing,
            facts=_facts(first),
            versions=versions(),
        )
    )


def report_on(material: Material) -> Report:
    """The report of what is at hand."""
    verdict = material.verdict
    text = page(
        material.title,
        headline(verdict),
        reasons(verdict),
        key_figures(verdict),
        advice(verdict),
        list(sections_of(material)),
    )
    return Report(text, verdict)


def versions() -> dict[str, str]:
    """What a report is made with, here."""
    return {
        "geodesic": geodesic.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def _facts(solution: GeodesicSolution) -> dict[str, str]:
    made_for = solution.plan.made_for
    return {
        "geometry": made_for.geometry,
        "latent coordinates": f"{made_for.latent_size:,}",
        "outputs": f"{made_for.output_size:,} numbers, as the geometry measures them",
        "precision": f"{made_for.dtype} on {made_for.device}",
    }


def _drawing(
    decoder: Decoder, image_shape: tuple[int, ...] | None, event: tuple[int, ...], like: GeodesicSolution, pairs: int
) -> Any:
    require_decoder(decoder)
    require_conditions(decoder, pairs)
    shape, path = checked_shape(image_shape, "image_shape"), torch.as_tensor(like.path)

    def draw(z: NDArray, which: NDArray) -> NDArray:
        return pictured(decoder, torch.as_tensor(z).to(path), which.tolist(), event, shape)

    return draw


def _distances(
    neighbors: DistanceMatrix | int,
    points: NDArray | None,
    labels: NDArray | None,
    manifold: Manifold | None,
    like: GeodesicSolution,
) -> tuple[dict[str, NDArray] | None, Neighbors | None, dict[str, str]]:
    """A matrix with what it lacks, or neighbors that were looked for; or why there are none."""
    if not isinstance(neighbors, int):
        return _with_latent(neighbors, points, labels, manifold), None, {}
    require_integer("neighbors", neighbors, least=0)
    if manifold is None or points is None or not neighbors:
        return None, None, {}
    z = torch.as_tensor(evenly(points, neighbors)).to(torch.as_tensor(like.path))
    return None, *neighbors_or_why(manifold, z)


def _with_latent(
    distances: Any, points: NDArray | None, labels: NDArray | None, manifold: Manifold | None
) -> dict[str, NDArray]:
    """The arrays of a matrix with the latent distances of its points, and their labels."""
    if not isinstance(distances, DistanceMatrix):
        raise InputError(
            f"neighbors: expected the answer of distance_matrix, or of how many points, got {type(distances).__name__}"
        )
    shape = tuple(distances.length.shape)
    if points is None or shape != (len(points), len(points)):
        got = "no points" if points is None else f"{len(points)} points"
        raise InputError(f"neighbors: distances of shape {shape}, and {got}; give the points that they are between")
    if not distances.symmetric:
        raise InputError("neighbors: distances from points to others; give those of distance_matrix(manifold, points)")
    latent = latent_distances(manifold, torch.as_tensor(points))
    arrays = with_arrays(distances).arrays() | {"latent_distance": latent}
    return arrays if labels is None else arrays | {"labels": labels}
