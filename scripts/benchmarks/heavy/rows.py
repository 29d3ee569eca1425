"""What is read off a run, and the tables of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from torch import Tensor

from scripts.benchmarks.heavy.references import last_energies, reference_energies
from scripts.benchmarks.heavy.runs import Outcome, Spec
from scripts.benchmarks.solvers.excess import cost_to, excess_energy, groups_of, whole_of
from scripts.benchmarks.tables import counts, make_table

LEVELS = (1e-2, 1e-3, 1e-4)
CLAIM, TRUE = 1e-6, 2e-6  # what a pair claims that has converged at this `tol`, and the excess up to which that holds


def row_of(spec: Spec, outcome: Outcome, unit: int, certified: Tensor, known: Tensor) -> dict[str, Any]:
    """The figures of one run.

    Args:
        spec: What was run.
        outcome: What came of it.
        unit: Operations of one forward and backward pass of the energy of a pair.
        certified: Energies of certified minima, (K, P), of these pairs and perhaps of more.
        known: The lowest energies that are known, (P,), likewise.
    """
    trace, final, pairs = outcome.trace, last_energies(outcome), len(outcome.converged)
    reference, over_minima = reference_energies(final, certified[:, :pairs], known[:pairs])
    excess, true = (excess_energy(energies, reference) for energies in (trace.energies, final))
    vjps = [flops / unit / pairs for flops in trace.flops or ()]
    claims = outcome.converged & (spec.tol == CLAIM)
    return {
        "method": spec.name,
        "tol": spec.tol,
        "pairs": pairs,
        "vjps": _to_levels(vjps, excess),
        "seconds": _to_levels([second / pairs for second in trace.seconds], excess),
        "whole_vjps": outcome.flops / unit / pairs,
        "whole_seconds": trace.total_seconds / pairs,
        "converged": int(outcome.converged.sum()) if spec.method == "ours" else None,
        "final_excess": true.tolist(),
        "over_minima": int(over_minima.sum()),
        "claims": int(claims.sum()),
        "true_claims": int((claims & (true <= TRUE)).sum()),
        "certificates_vjps": outcome.certificates / unit / pairs,
        "stages_vjps": {stage: flops / unit / pairs for stage, flops in outcome.stages.items()},
        "peak_bytes": outcome.peak_bytes,
        "message": outcome.message,
        "remark": trace.remark,
        "ended": counts(trace.statuses),
    }


def _to_levels(costs: Sequence[float], excess: Tensor) -> dict[str, float | None]:
    """Costs a pair until the mean excess of the pairs is at most each level; None where it never is."""
    groups, whole = groups_of(costs, excess), whole_of(costs, excess)
    return {f"{level:g}": cost_to(level, whole, groups) for level in LEVELS}


def work_table(title: str, rows: Sequence[dict[str, Any]], backward: dict[int, int]) -> Table:
    """All runs on one work.

    Args:
        title: What the work is.
        rows: Of `row_of`.
        backward: Number of pairs to the memory of one backward pass of all their paths, where that was measured.
    """
    levels = ", ".join(f"{level:g}" for level in LEVELS)
    headings = ["pairs", f"VJPs to {levels}", "call", "certified", f"s to {levels}", "call, s", "converged", "memory"]
    table = make_table(title, "method", *headings, "remark", words=("method", "remark"))
    for row in rows:
        table.add_row(
            row["method"],
            str(row["pairs"]),
            ", ".join(map(_number, row["vjps"].values())),
            _number(row["whole_vjps"]),
            _number(row["certificates_vjps"]),
            ", ".join(map(_number, row["seconds"].values())),
            _number(row["whole_seconds"]),
            "-" if row["converged"] is None else str(row["converged"]),
            memory_text(row["peak_bytes"], backward.get(row["pairs"])),
            _remark(row),
        )
    return table


def _remark(row: dict[str, Any]) -> str:
    """Why it was stopped, whether what it claims holds, and how well the minima are known."""
    evaluations = row["remark"] if row["converged"] is None else ""
    claims = f"{row['true_claims']} of {row['claims']} claims hold" if row["claims"] else ""
    known = "" if row["over_minima"] == row["pairs"] else f"{row['over_minima']} over certified minima"
    return "; ".join(filter(None, (row["message"], evaluations, claims, known)))


def memory_text(peak: int | None, backward: int | None) -> str:
    """Megabytes, and how many times those of one backward pass."""
    if peak is None:
        return "-"
    times = f", {peak / backward:.1f} x" if backward else ""
    return f"{peak / 1e6:.0f} MB{times}"


def stages_text(row: dict[str, Any]) -> str:
    """VJP-equivalents of every stage, in one line."""
    parts = (f"{stage} {_number(vjps)}" for stage, vjps in row["stages_vjps"].items())
    return f"{row['method']}, {row['pairs']} pairs, VJPs by stage: {', '.join(parts)}"


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def summary_table(
    results: Mapping[str, Sequence[dict[str, Any]]], level: str = "0.001", whole: str = "0.0001"
) -> Table:
    """Ours over torch's L-BFGS on every work: to a level, and of the whole call at a `tol` that is the other level.

    Args:
        results: Name of a work to its rows; for each number of pairs those of ours, then that of L-BFGS.
        level: To which both are measured.
        whole: To which L-BFGS is measured, and the `tol` of the whole call.
    """
    headings = ["pairs", f"to {level}: VJPs, s", f"call at {whole}: VJPs, s", "converged", "claims hold"]
    table = make_table("ours over torch's L-BFGS", "work", *headings, words=("work",))
    for name, rows in results.items():
        for pairs in dict.fromkeys(row["pairs"] for row in rows):
            some = [row for row in rows if row["pairs"] == pairs]
            ours, (theirs,) = some[:-1], some[-1:]
            call = min(ours, key=lambda row: abs(row["tol"] - float(whole)))
            to_level = [ratio(call[cost][level], theirs[cost][level]) for cost in ("vjps", "seconds")]
            of_call = [ratio(call[f"whole_{cost}"], theirs[cost][whole]) for cost in ("vjps", "seconds")]
            converged = ", ".join(f"{row['converged']} at {row['tol']:g}" for row in ours)
            claims = " of ".join(str(sum(row[key] for row in ours)) for key in ("true_claims", "claims"))
            table.add_row(name, str(pairs), ", ".join(to_level), ", ".join(of_call), converged, claims)
    return table


def ratio(ours: float | None, theirs: float | None) -> str:
    """What ours costs in parts of theirs, in words where one of them never gets there."""
    if ours is None or math.isnan(ours):
        return "not ours"
    return "only ours" if theirs is None else f"{ours / theirs:.2f}"
