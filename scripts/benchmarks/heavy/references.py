"""The energies that excess is measured against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scripts.benchmarks.heavy.runs import Outcome


def last_energies(outcome: Outcome) -> Tensor:
    """The last energy that is known of each pair, (P,); NaN where there is none."""
    energies = outcome.trace.energies
    known = ~energies.isnan()
    latest = len(energies) - 1 - known.flip(0).int().argmax(0)
    return torch.where(known.any(0), energies.gather(0, latest[None])[0], torch.nan)


def minima(polished: Sequence[Outcome], pairs: int) -> Tensor:
    """Energies of the polished paths that are certified, (K, P), K at least 1; NaN where a path is not."""
    nothing = torch.full((1, pairs), torch.nan, dtype=torch.float64)
    return torch.cat([nothing, *(last_energies(o).where(o.converged, torch.nan)[None] for o in polished)])


def lowest_energies(outcomes: Sequence[Outcome], pairs: int) -> Tensor:
    """The lowest energy of each pair that any of these knows, (P,); each has the first ones of the pairs."""
    lowest = torch.full((pairs,), torch.inf, dtype=torch.float64)
    for outcome in outcomes:
        energies = last_energies(outcome)
        lowest[: len(energies)] = torch.fmin(lowest[: len(energies)], energies)
    return lowest


def reference_energies(final: Tensor, certified: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The energy of the minimum in whose basin each path lies, as far as that is known.

    That is the highest of the certified minima that are not above the path itself, and where there is none the lowest
    energy that any method knows.

    Args:
        final: Energies where the paths ended, (P,).
        certified: Of certified minima, (K, P), NaN where there is none.
        known: The lowest energy of each pair that any method knows, (P,).

    Returns:
        The energies, (P,), and which of them are those of certified minima, (P,).
    """
    highest = certified.where(certified <= final, -torch.inf).amax(0)
    found = highest.isfinite()
    return torch.where(found, highest, known), found
