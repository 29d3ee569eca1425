"""Maps of a latent plane, or histograms over encodings: how the metric changes volumes, and how it bends."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.checks import brief
from geodesic.errors import GeodesicWarning, SettingsError
from geodesic.experiment.pairs import drawn_rows
from geodesic.experiment.run import to_numpy
from geodesic.experiment.settings.whole import Settings
from geodesic.experiment.studies.study import Findings, Study, open_study
from geodesic.geometry.points import inverse_at
from geodesic.pictures.maps import plot_histograms, plot_map
from geodesic.riemannian.curvature.magnification import anisotropy, condition_number, log_volume
from geodesic.riemannian.curvature.sectional import curvature_where_regular, gaussian_curvature
from geodesic.solvers.doubts import doubts_of, warn_of_doubts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["map_curvature"]

_LOOKED_AT = 200  # encodings, where nobody says how many
_CURVE = 100  # segments of a drawn curve


def map_curvature(
    settings: Settings, runs: str | Path = "runs", *, name: str = "curvature", overwrite: bool = False
) -> Findings:
    """Measure the volume element and the curvature over a latent plane, and at encodings of test rows.

    For d = 2 they are mapped over a grid that covers 98 % of the test encodings along either axis, and a margin, with
    the geodesics of the pairs on top. For every d sectional curvatures of random planes, orthonormal in the metric,
    condition numbers and anisotropies are measured at encodings. Where the metric is singular they are not a number,
    which is warned of.

    Args:
        settings: The experiment; its `curvature` says where to look.
        runs: Parent of all run folders.
        name: Of the results.
        overwrite: Replace them.

    Returns:
        The arrays of the file, see docs/run-folder.md, and the pictures.

    Raises:
        SettingsError: There are no data, no encoder, no lengths of curves, or only one latent dimension.
        RunFolderError: As from `open_study`.
    """
    with open_study(settings, runs, name, overwrite, "curvature") as study:
        d = study.latent_size
        if d < 2:
            raise SettingsError(f"model.latent_size: got {d}; a line has no curvature, which takes two dimensions")
        arrays = _at_encodings(study)
        figures: dict[str, Figure] = {"histograms": plot_histograms(arrays)}
        if d == 2:
            arrays |= _over_the_plane(study) | _geodesics(study)
            top: dict[str, Any] = {key: arrays.get(key) for key in ("encodings", "labels", "paths")}
            for quantity, key in (("magnification", "grid_log_volume"), ("curvature", "grid_curvature")):
                figures[quantity] = plot_map(arrays["grid"], arrays[key], quantity, **top)
        _say_what_is_flat(study, arrays)
        return study.write(arrays, figures)


def _at_encodings(study: Study) -> dict[str, NDArray]:
    chosen, d = study.settings.curvature, study.latent_size
    generator = np.random.default_rng(chosen.seed)
    rows = drawn_rows(np.arange(len(study.encodings)), chosen.points, _LOOKED_AT, generator, "curvature.points")
    z = study.encodings[torch.as_tensor(rows, device=study.encodings.device)]
    count = chosen.planes if d > 2 else 1  # a plane has one plane
    directions = torch.as_tensor(generator.normal(size=(len(z), count, d, 2))).to(z)
    with torch.no_grad():
        factor = inverse_at(study.manifold, z).factor
    # Random in an orthonormal frame, L^{-T}: planes of all directions are alike in the metric, not in coordinates.
    planes = (torch.linalg.inv(factor).mT[:, None] @ torch.linalg.qr(directions).Q).mT
    measured = {
        "log_volume": log_volume(study.manifold, z),
        "condition_number": condition_number(study.manifold, z),
        "anisotropy": anisotropy(study.manifold, z),
    }
    regular = measured["log_volume"].isfinite()
    measured = {key: torch.where(regular, values, torch.nan) for key, values in measured.items()}
    points = z[:, None].expand(-1, count, -1).flatten(0, 1)
    curvature = curvature_where_regular(study.manifold, points, *planes.flatten(0, 1).unbind(1))
    measured["curvature"] = curvature.reshape(-1, count)
    _say_where_singular(z, ~measured["curvature"].isfinite().all(-1), "encodings")
    arrays = {"rows": rows, "points": to_numpy(z), "planes": to_numpy(planes), "encodings": to_numpy(study.encodings)}
    if study.labels is not None:
        arrays["labels"] = study.labels
    return arrays | {key: to_numpy(values) for key, values in measured.items()}


def _over_the_plane(study: Study) -> dict[str, NDArray]:
    chosen = study.settings.curvature
    low, high = np.quantile(to_numpy(study.encodings), [0.01, 0.99], axis=0)
    extent = np.maximum(high - low, 1e-6)  # a collapsed coordinate has none
    low, high = low - chosen.margin * extent, high + chosen.margin * extent
    first, second = np.linspace(low, high, chosen.grid).T
    grid = np.stack(np.meshgrid(first, second), axis=-1)
    z = torch.as_tensor(grid.reshape(-1, 2)).to(study.encodings)
    volume = log_volume(study.manifold, z)
    volume = torch.where(volume.isfinite(), volume, torch.nan)
    curvature = gaussian_curvature(study.manifold, z)
    _say_where_singular(z, ~curvature.isfinite(), "points of the map")
    shape = grid.shape[:2]
    return {
        "grid": to_numpy(z).reshape(*shape, 2),
        "grid_log_volume": to_numpy(volume).reshape(shape),
        "grid_curvature": to_numpy(curvature).reshape(shape),
    }


def _geodesics(study: Study) -> dict[str, NDArray]:
    """Curves of the pairs by the first of the solvers, as they are drawn."""
    pairs = study.settings.pairs.choose(study.run)
    solution = study.run.solve(pairs.start, pairs.end)
    effect = "the curves on the map are not the shortest"
    warn_of_doubts("curvature: pairs", doubts_of(solution), effect, refined=study.run.search.refines)
    curves = solution(torch.linspace(0, 1, _CURVE + 1).to(study.encodings))
    return {"paths": to_numpy(curves), "converged": to_numpy(solution.converged)}


def _say_where_singular(z: Tensor, lost: Tensor, where: str) -> None:
    if not lost.any():
        return
    warnings.warn(
        f"curvature: at {int(lost.sum())} of {len(z)} {where} the metric is singular to rounding, first at "
        f"{brief(z[lost][0])}: they are left out; the decoder is saturated or has collapsed latent coordinates there",
        GeodesicWarning,
        stacklevel=4,
    )


def _say_what_is_flat(study: Study, arrays: dict[str, NDArray]) -> None:
    values = np.concatenate([arrays[key].ravel() for key in ("curvature", "grid_curvature") if key in arrays])
    known = values[np.isfinite(values)]
    network = getattr(study.settings.model, "network", None)
    if len(known) and not known.any():
        text = (
            "curvature: all curvatures are exactly 0: the geometry is flat, or second derivatives are zero between the "
            "kinks of the decoder (ReLU), which the curvature does not see; take model.network.activation elu, silu, "
            "softplus or tanh"
        )
    elif getattr(network, "activation", None) == "relu":
        text = (
            "curvature: model.network.activation is relu, at whose kinks there are no second derivatives: what is "
            "shown is the curvature between the kinks, which says nothing of them; take elu, silu, softplus or tanh"
        )
    else:
        return
    warnings.warn(text, GeodesicWarning, stacklevel=3)
