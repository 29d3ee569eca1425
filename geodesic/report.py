"""Tables that a person reads, from solutions."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from geodesic.solvers.solution import GeodesicSolution, Status

__all__ = ["geodesic_table"]


def geodesic_table(solutions: Mapping[str, GeodesicSolution], pair_names: list[str]) -> Table:
    """One line for each pair and method: lengths, energies, steps, decoder residual, converged.

    Args:
        solutions: Method name to solution, all for the same P pairs, batch shape (P,).
        pair_names: P names for the first column.

    Returns:
        A rich table; print it with `rich.print`.

    Example:
        >>> import rich, torch, geodesic
        >>> from geodesic.report import geodesic_table
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> solution = geodesic.solve(plane, torch.zeros(1, 2), torch.ones(1, 2))
        >>> geodesic_table({"decoder": solution}, ["3 to 8"]).row_count
        1
    """
    table = Table(title="Geodesics", caption=_caption(solutions), caption_justify="left")
    table.add_column("pair")
    table.add_column("method")
    for name in ("straight\nlength", "geodesic\nlength", "energy\nbefore", "energy\nafter", "steps"):
        table.add_column(name, justify="right")
    table.add_column("decoder\nresidual", justify="right")
    table.add_column("converged")
    for pair, pair_name in enumerate(pair_names):
        for name, solution in solutions.items():
            status = Status(int(solution.status[pair]))
            table.add_row(
                pair_name,
                name,
                f"{float(solution.straight_length[pair]):.4f}",
                f"{float(solution.length[pair]):.4f}",
                f"{float(solution.initial_energy[pair]):.4f}",
                f"{float(solution.energy[pair]):.4f}",
                f"{int(solution.steps[pair])}",
                f"{float(solution.decoder_residual[pair]):.1e}",
                "yes" if bool(solution.converged[pair]) else f"NO ({status.name.lower().replace('_', ' ')})",
                end_section=name == list(solutions)[-1],
            )
    return table


def _caption(solutions: Mapping[str, GeodesicSolution]) -> str:
    lines = [f"{name}: {solution.summary()}" for name, solution in solutions.items()]
    return "\n".join(lines)
