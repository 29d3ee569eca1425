"""The parts of a report below its first lines."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from geodesic.pictures.distances import cluster_order, plot_distances
from geodesic.pictures.outputs import plot_strip
from geodesic.pictures.worth import plot_divergences, plot_ratios
from geodesic.reporting.latent import latent_section
from geodesic.reporting.markup import as_drawing, as_picture
from geodesic.reporting.material import Material
from geodesic.reporting.page import Picture, Rows, Section
from geodesic.reporting.verdict import LARGE, NOTICEABLE
from geodesic.reporting.words import THRESHOLDS, percent

__all__ = ["sections_of"]

_STRIPS = 10  # pairs that differ most
_FRAMES = 11  # of a strip
_METHODS = 12  # that have a line of their own
_WORST = 20  # pairs that are named for what they lack


def sections_of(material: Material) -> Iterator[Section]:
    """All parts, in the order in which they are read."""
    yield _lengths(material)
    yield Section("model", "Model and data", **_facts(material))
    yield latent_section(material)
    yield _strips(material)
    yield _collapse(material)
    yield _certificates(material)
    yield _matrix(material)
    yield _again(material)


def _lengths(material: Material) -> Section:
    ratio = material.best.ratio
    ratio = ratio[np.isfinite(ratio)]
    if not len(ratio):
        return Section("lengths", "How much longer straight lines are", ["No pair has a curve with a length."])
    caption = (
        "The share of pairs whose straight line is at most so many times as long as the geodesic. Both lengths are "
        "measured in the decoder's geometry."
    )
    figure = plot_ratios(ratio, (1 + NOTICEABLE, 1 + LARGE))
    return Section(
        "lengths",
        "How much longer straight lines are",
        [THRESHOLDS],
        [Picture(as_drawing(figure, "ratios", caption), caption)],
    )


def _facts(material: Material) -> dict[str, list]:
    if not material.facts:
        return {"text": [material.missing.get("model", "Nothing is known of the model.")]}
    return {"tables": [Rows(("", ""), [(name, text) for name, text in material.facts.items()])]}


def _strips(material: Material) -> Section:
    title = "The pairs that differ most"
    if material.pictured is None:
        why = material.missing.get("images", "no decoder was given.")
        return Section("strips", title, [f"What the decoder makes of the paths is not shown: {why}"])
    best = material.best
    ratio, pairs = best.ratio, best.most_different(_STRIPS)
    frames = slice(None, None, (best.curve.shape[1] - 1) // (_FRAMES - 1))
    outputs = [material.pictured(curve[pairs][:, frames], pairs) for curve in (best.straight, best.curve)]
    measured = [x[pairs] for x in (best.straight_length, best.length, best.converged)]
    pictures = []
    for k, pair in enumerate(pairs):
        figure = plot_strip(*(x[k : k + 1] for x in (*outputs, *measured)))
        times = f"straight over geodesic length {ratio[pair]:.3f}" if ratio[pair] > 0 else "no length is known"
        caption = f"{material.names[pair]}: {times}."
        pictures.append(
            Picture(as_picture(figure, f"{caption} Outputs along the straight line, above those of the path"), caption)
        )
    many = f"The {len(pairs)} of {len(ratio):,} pairs" if len(ratio) > len(pairs) else f"All {len(pairs)} pairs"
    text = (
        f"{many}, the most different first. Above: what the decoder makes of the straight line at equal times. "
        "Below: of "
        "the geodesic, run through at constant speed."
    )
    return Section("strips", title, [text], pictures)


def _collapse(material: Material) -> Section:
    text, pictures = [], []
    if material.divergences is None:
        why = material.missing.get("divergences", "no encoder was trained here.")
        text.append(f"The KL of each latent dimension is not known: {why}")
    else:
        d = len(material.divergences)
        collapsed = np.flatnonzero(material.divergences < material.collapsed)
        named = ", ".join(map(str, collapsed[:20])) + (" and more" if len(collapsed) > 20 else "")
        one = len(collapsed) == 1
        text.append(
            f"{len(collapsed)} of {d} latent dimensions {'has' if one else 'have'} collapsed ({named}): "
            f"{'its' if one else 'their'} KL on the validation rows is below {material.collapsed:g} nats, so "
            f"{'it says' if one else 'they say'} nothing about the data. Distances along {'it' if one else 'them'} "
            "mean nothing either. A smaller latent size, or a smaller weight of the KL, would do."
            if len(collapsed)
            else f"None of {d} latent dimensions has collapsed: each has a KL of at least {material.collapsed:g} nats."
        )
        caption = "The KL divergence of each latent dimension on the validation rows, for the weights that were kept."
        figure = plot_divergences(material.divergences, material.collapsed)
        pictures.append(Picture(as_drawing(figure, "divergences", caption), caption))
    ignored = material.best.rank_deficiency
    if (ignored > 0).any():
        text.append(
            f"On {int((ignored > 0).sum()):,} of {len(ignored):,} paths the decoder ignores up to "
            f"{int(ignored.max())} latent "
            "directions somewhere: lengths hold, positions along those directions are arbitrary."
        )
    else:
        text.append("On no path was a latent direction found that the decoder ignores.")
    return Section("collapsed", "Collapsed dimensions", text, pictures)


def _certificates(material: Material) -> Section:
    best, P = material.best, len(material.best.length)
    error = best.error[best.converged & np.isfinite(best.error)]
    rows = [
        (
            "converged",
            f"{int(best.converged.sum()):,} of {P:,}",
            "the path is stationary: what is left to gain is at most tol",
        ),
        ("resolved", f"{int(best.resolved.sum()):,} of {P:,}", "and its segments are enough for its length"),
        (
            "strict minimum",
            f"{int((best.converged & best.minimum).sum()):,} of {P:,}",
            "no path nearby is shorter; another one far away may be",
        ),
        (
            "error of a length",
            f"median {percent(float(np.median(error)))}, at most {percent(float(error.max()))}"
            if len(error)
            else "unknown",
            "estimated, relative, of those converged",
        ),
    ]
    text = []
    lost = np.flatnonzero(~best.resolved)
    if len(lost):
        named = ", ".join(material.names[k] for k in lost[:_WORST])
        more = f", and {len(lost) - _WORST:,} more" if len(lost) > _WORST else ""
        text.append(f"Not converged or not resolved: {named}{more}.")
    some = list(material.solutions.items())[:_METHODS]
    if len(material.solutions) > len(some):
        text.append(f"The first {len(some)} of {len(material.solutions):,} solvers are listed; all of them count.")
    said = [f"{name}: {solution.summary()}" for name, solution in some]
    return Section(
        "certificates", "Certificates", text, tables=[Rows(("", "pairs", "meaning"), rows)], verbatim=["\n".join(said)]
    )


def _spread_of(error: NDArray) -> str:
    if not len(error):
        return "unknown"
    return f"median {percent(float(np.median(error)))}, at most {percent(float(error.max()))}"


def _matrix(material: Material) -> Section:
    title = "All distances between some points"
    if material.distances is None:
        return Section("matrix", title, [material.missing.get("distances", "No matrix of distances was given.")])
    arrays = material.distances
    order = arrays["order"] if "order" in arrays else cluster_order(arrays["length"])
    caption = f"Geodesic lengths between {len(order):,} points, ordered so that clusters stand together."
    figure = plot_distances(arrays["length"], order, arrays.get("labels"))
    rows = []
    for row in material.distance_rows:
        counted = row["quantity"] == "pairs not resolved"
        within = "" if np.isnan(row["low"]) else f" ({row['low']:+.3f} to {row['high']:+.3f})"
        rows.append((row["quantity"], f"{row['value']:{',.0f' if counted else '.3f'}}{within}", row["of"]))
    return Section(
        "matrix",
        title,
        pictures=[Picture(as_drawing(figure, "matrix", caption), caption)],
        tables=[Rows(("quantity", "value", "of"), rows)],
    )


def _again(material: Material) -> Section:
    tables, text = [], []
    if material.versions:
        tables.append(Rows(("made with", "version"), list(material.versions.items())))
    verbatim = ["\n".join(material.commands)] if material.commands else []
    if verbatim:
        text.append("These commands repeat it; the settings are below.")
    if material.settings is None:
        text.append(material.missing.get("settings", "The settings are those that solve was called with."))
    else:
        verbatim.append(material.settings)
    plans = [f"{name}\n{solution.plan}" for name, solution in list(material.solutions.items())[:_METHODS]]
    return Section(
        "again", "Settings, versions, commands", text, tables=tables, verbatim=[*verbatim, "\n\n".join(plans)]
    )
