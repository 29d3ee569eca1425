"""What a verdict says in words, and what to do."""

from __future__ import annotations

import math

from geodesic.reporting.neighbors import Neighbors
from geodesic.reporting.verdict import LARGE, MANY, NOTICEABLE, Verdict

__all__ = ["THRESHOLDS", "advice", "headline", "key_figures", "percent", "reasons"]

_FEW = 20  # pairs: of fewer the 95 % is nearly the worst

THRESHOLDS = (
    f"“Yes” means that the straight line is more than {100 * LARGE:.0f} % longer than the geodesic for half of the "
    f"pairs or more, or that geodesics give more than {100 * MANY:.0f} % of the points another nearest neighbor than "
    "straight lines in the same geometry do, beyond doubt. “For some pairs” means that the line is more than "
    f"{100 * NOTICEABLE:.0f} % longer for one pair in twenty or more. “Hardly” means neither. A difference counts only "
    "where it is larger than the estimated error of the length. The thresholds are a choice: your task may need "
    "others, and the figures below let you decide."
)


def percent(part: float) -> str:
    """A share in percent, with the digits that it has.

    Example:
        >>> from geodesic.reporting.words import percent
        >>> percent(0.0312), percent(0.26), percent(4e-6)
        ('3.1 %', '26 %', '0.0004 %')
    """
    value = 100 * part
    if not math.isfinite(value):
        return "unknown"
    if value == 0 or abs(value) >= 10:
        return f"{value:,.0f} %"
    digits = 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(digits, 6)}f}".rstrip("0").rstrip(".") + " %"


def headline(verdict: Verdict) -> str:
    """The answer to whether geodesics matter, in one sentence."""
    return {
        "yes": "Yes: geodesics matter here.",
        "some": "For some pairs: most straight lines would do, some would not.",
        "no": "Hardly: straight lines are nearly as short as geodesics here.",
        "unknown": "It cannot be said yet: the geodesics that were found do not decide it.",
    }[verdict.answer]


def reasons(verdict: Verdict) -> list[str]:
    """Why, in sentences: lengths, neighbors, and how sure that is."""
    said = []
    if verdict.measured:
        said.append(
            f"Straight latent lines are {_longer(verdict.median)} at the median, {_longer(verdict.high)} at the 95 % "
            f"quantile, and {_longer(verdict.worst)} at worst ({verdict.measured:,} pairs)."
        )
    else:
        said.append("No pair has a curve with a length, so nothing can be compared.")
    said.append(_neighbors(verdict.neighbors))
    if verdict.measured:
        said.append(
            f"The estimated error of a length is {percent(verdict.error)} at the median; for "
            f"{percent(verdict.beyond_error)} of the pairs the straight line is longer by more than that error."
        )
    if math.isfinite(verdict.most):
        said.append(
            f"No search can gain more than this: for 95 % of the pairs the straight line is at most "
            f"{percent(verdict.most - 1)} longer than the distance of the outputs, which no path is shorter than."
        )
    return said


def _neighbors(found: Neighbors | None) -> str:
    if found is None:
        return "Whether nearest neighbors change was not measured."
    loose = ""
    if found.open:
        loose = f" For {percent(found.open)} the bounds of distances leave it open, and the lengths found decide."
    return (
        f"Among {found.points:,} points, the nearest neighbor by geodesics is another one than by latent "
        "coordinates for "
        f"{percent(found.changed)}, and another one than by straight lines in the same geometry for "
        f"{percent(found.bent)}.{loose}"
    )


def _longer(ratio: float) -> str:
    excess = ratio - 1
    if abs(excess) < 5e-7:
        return "as long as geodesics"
    return f"{percent(abs(excess))} {'longer' if excess > 0 else 'shorter'}"


def key_figures(verdict: Verdict) -> list[tuple[str, str]]:
    """What the first lines say as figures: name and value."""
    lost, coarse = verdict.pairs - verdict.converged, verdict.pairs - verdict.resolved
    changed = "not measured" if verdict.neighbors is None else percent(verdict.neighbors.changed)
    rows = [
        (f"straight over geodesic length, {name}", f"{value:.3f}" if math.isfinite(value) else "unknown")
        for name, value in (("median", verdict.median), ("95 %", verdict.high), ("worst", verdict.worst))
    ]
    return [
        *rows,
        ("nearest neighbors that change from latent ones", changed),
        ("pairs not converged", f"{lost:,} of {verdict.pairs:,}"),
        ("pairs not resolved", f"{coarse:,} of {verdict.pairs:,}"),
    ]


def advice(verdict: Verdict) -> list[str]:
    """What to do, in sentences."""
    said = {
        "yes": [
            "Use geodesics for interpolation, and geodesic lengths wherever a distance is compared: neighbors, "
            "clusters, "
            "means."
        ],
        "some": [
            "Use geodesics where single pairs count. For averages over many pairs, lengths of straight lines in the "
            "decoder's geometry (straight_length) are close, and cost a fraction."
        ],
        "no": [
            "Straight lines will do for interpolation. For distances, use their lengths in the decoder's geometry "
            "(straight_length) rather than distances of latent coordinates: these two can differ even where straight "
            "lines are shortest."
        ],
        "unknown": ["Mend what is listed under certificates, then solve again: the answer may change."],
    }[verdict.answer]
    found = verdict.neighbors
    if verdict.answer != "yes" and found is not None and found.changed - found.bent > MANY:
        said.append(
            "The decoder's geometry changes neighbors, and geodesics change few of these again: for neighbors "
            "and clusters "
            'distance_matrix(method="straight") will do.'
        )
    if verdict.converged < verdict.pairs:
        said.append(
            f"{verdict.pairs - verdict.converged:,} pairs have not converged: their geodesics may be shorter than the "
            "curves found, so the figures above can only be too small. Certificates, below, has the remedy."
        )
    if verdict.resolved < verdict.converged:
        said.append(
            f"{verdict.converged - verdict.resolved:,} pairs have converged with lengths that are less exact than "
            "asked "
            "for. Certificates, below, has the remedy."
        )
    if verdict.pairs < _FEW:
        said.append(
            f"These are {verdict.pairs} pairs, so the 95 % quantile is nearly the worst: take 50 or more before you "
            "decide on it."
        )
    return said
