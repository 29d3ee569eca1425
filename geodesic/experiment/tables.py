"""Tables and lines that a person reads, from results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.box import HORIZONTALS
from rich.table import Table

from geodesic.experiment.rows import Row, analogy_rows, curvature_rows, geodesic_rows, mean_rows, variation_rows
from geodesic.models.training.train import COLLAPSED_KL
from geodesic.solvers.solution import GeodesicSolution

__all__ = [
    "about_collapse",
    "analogy_table",
    "curvature_table",
    "distance_table",
    "geodesic_table",
    "mean_table",
    "solver_table",
    "variation_table",
]


def geodesic_table(solutions: Mapping[str, GeodesicSolution], pair_names: list[str]) -> Table:
    """One line for each pair and method: lengths, energies, steps, and how good it is: converged, resolved.

    Args:
        solutions: Method name to solution, all for the same P pairs, batch shape (P,).
        pair_names: P names for the first column.

    Returns:
        A rich table; print it with `rich.print`.

    Example:
        >>> import rich, torch, geodesic
        >>> from geodesic.experiment.tables import geodesic_table
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> solution = geodesic.solve(plane, torch.zeros(1, 2), torch.ones(1, 2))
        >>> geodesic_table({"decoder": solution}, ["3 to 8"]).row_count
        1
    """
    # Lines between the columns and more space would make it wider than 140 characters.
    table = Table(title="Geodesics", box=HORIZONTALS, padding=(0, 1, 0, 0))
    table.caption, table.caption_justify = _caption(solutions), "left"
    table.add_column("pair")
    table.add_column("method")
    numbers = ("straight\nlength", "geodesic\nlength", "energy\nbefore", "energy\nafter", "steps")
    for name in (*numbers, "decoder\nresidual", "length\nerror"):
        table.add_column(name, justify="right")
    table.add_column("converged")
    table.add_column("resolved")
    for row in geodesic_rows(solutions, pair_names):
        why = row["status"].lower().replace("_", " ")
        table.add_row(
            row["pair"],
            row["method"],
            *(f"{row[name]:.4f}" for name in ("straight_length", "length", "initial_energy", "energy")),
            str(row["iterations"]),
            *(f"{row[name]:.1e}" for name in ("decoder_residual", "error")),
            "yes" if row["converged"] else f"NO ({why})",
            "yes" if row["resolved"] else "NO",
            end_section=len(solutions) > 1 and row["method"] == list(solutions)[-1],
        )
    return table


def _caption(solutions: Mapping[str, GeodesicSolution]) -> str:
    lines = ["converged: the path is stationary to tol; resolved: it is, and its length error is at most length_rtol"]
    for name, solution in solutions.items():
        lines.append(f"{name}: {solution.summary()}")
    return "\n".join(lines)


def variation_table(decoders: Sequence[int], coefficients: Mapping[str, NDArray]) -> Table:
    """Mean coefficients of variation over pairs, with standard errors: a line for each number of decoders.

    Args:
        decoders: Numbers of decoders, (K,).
        coefficients: Kind of distance to coefficients of variation, (K, P); what is not a number is left out.

    Returns:
        A rich table.

    Example:
        >>> import numpy as np
        >>> from geodesic.experiment.tables import variation_table
        >>> variation_table([1, 2], {"geodesic": np.array([[0.2, 0.3], [0.1, 0.2]])}).row_count
        2
    """
    table = Table(title="Coefficient of variation of distances over seeds", box=HORIZONTALS, padding=(0, 1, 0, 0))
    table.caption, table.caption_justify = "mean over pairs, plus or minus its standard error", "left"
    table.add_column("decoders", justify="right")
    for name in coefficients:
        table.add_column(name, justify="right")
        table.add_column("pairs", justify="right")
    for k, count in enumerate(decoders):
        cells = []
        for row in variation_rows([count], {name: values[k : k + 1] for name, values in coefficients.items()}):
            known = f"{row['coefficient']:.4f} +- {row['standard_error']:.4f}" if row["pairs"] else "-"
            cells += [known, f"{row['pairs']} of {row['of']}"]
        table.add_row(str(count), *cells)
    return table


def solver_table(rows: Sequence[Row]) -> Table:
    """How much of the variation is the solver's: a line for each figure of `solver_rows`.

    Args:
        rows: Of `solver_rows`.

    Returns:
        A rich table.

    Example:
        >>> from geodesic.experiment.tables import solver_table
        >>> solver_table([dict(solver="Adam", figure="share", decoders="1", value=0.1, low=0.0, high=0.2)]).row_count
        1
    """
    table = Table(title="What of it is the solver's", box=HORIZONTALS, padding=(0, 1, 0, 0))
    said = {
        "excess": "curves longer than geodesics by",
        "share": "part of the squared coefficient that geodesics do not have",
        "effect": "part of what more decoders take off it that geodesics do not show",
    }
    table.caption, table.caption_justify = "95 % by a bootstrap over pairs; seeds are not drawn anew", "left"
    table.add_column("solver")
    table.add_column("figure")
    table.add_column("decoders", justify="right")
    table.add_column("value", justify="right")
    table.add_column("95 % interval")
    for row in rows:
        value, low, high = (f"{100 * row[key]:.1f} %" for key in ("value", "low", "high"))
        table.add_row(row["solver"], said[row["figure"]], row["decoders"], value, f"{low} to {high}")
    return table


def curvature_table(arrays: Mapping[str, NDArray]) -> Table:
    """Median, 5 and 95 % of what `map_curvature` measured: a line for each quantity and place.

    Args:
        arrays: Its arrays.

    Returns:
        A rich table.

    Example:
        >>> import numpy as np
        >>> from geodesic.experiment.tables import curvature_table
        >>> one = np.ones((5, 1))
        >>> places = ("log_volume", "curvature", "condition_number", "anisotropy")
        >>> curvature_table({name: one for name in places}).row_count
        4
    """
    table = Table(title="Curvature and magnification", box=HORIZONTALS, padding=(0, 1, 0, 0))
    table.caption, table.caption_justify = "singular: points where the metric has no inverse, left out", "left"
    for name in ("where", "quantity"):
        table.add_column(name)
    for name in ("5 %", "median", "95 %", "values", "singular"):
        table.add_column(name, justify="right")
    rows = curvature_rows(arrays)
    for row, after in pairwise([*rows, {"where": ""}]):
        spread = ["-" if np.isnan(row[key]) else f"{row[key]:.4g}" for key in ("low", "median", "high")]
        counts = [str(row[key]) for key in ("values", "singular")]
        table.add_row(row["where"], row["quantity"], *spread, *counts, end_section=row["where"] != after["where"])
    return table


def mean_table(arrays: Mapping[str, NDArray]) -> Table:
    """One line for each Fréchet mean that `find_means` found.

    Args:
        arrays: Its arrays.

    Returns:
        A rich table.

    Example:
        >>> import numpy as np
        >>> from geodesic.experiment.tables import mean_table
        >>> one = {name: np.ones(1) for name in ("variance", "apart", "error", "converged", "unique")}
        >>> mean_table(one | {"names": np.array(["3"]), "group": np.zeros(20)}).row_count
        1
    """
    table = Table(title="Fréchet means", box=HORIZONTALS, padding=(0, 1, 0, 0))
    table.caption = (
        "apart: geodesic distance between the Fréchet mean and the mean of coordinates\n"
        "relative: the same over the root of the variance\n"
        "error: norm of the gradient that is left, over the root of the variance\n"
        "one minimum: two starts led to the same point, which proves little"
    )
    table.caption_justify = "left"
    table.add_column("label")
    for name in ("points", "variance", "apart", "relative", "error"):
        table.add_column(name, justify="right")
    table.add_column("converged")
    table.add_column("one minimum")
    for row in mean_rows(arrays):
        variance = row["variance"]
        table.add_row(
            row["label"],
            str(row["points"]),
            f"{variance:.4f}",
            f"{row['apart']:.4f}",
            f"{row['apart'] / variance**0.5:.3f}" if variance > 0 else "-",
            f"{row['error']:.1e}",
            "yes" if row["converged"] else "NO",
            "yes" if row["unique"] else "NO",
        )
    return table


def analogy_table(arrays: Mapping[str, NDArray]) -> Table:
    """One line for each analogy that `transport_analogies` answered.

    Args:
        arrays: Its arrays.

    Returns:
        A rich table.

    Example:
        >>> import numpy as np
        >>> from geodesic.experiment.tables import analogy_table
        >>> ones = {name: np.ones(1) for name in ("length", "path_length", "apart", "converged")}
        >>> analogy_table(ones | {"rows": np.array([[0, 1, 2]])}).row_count
        1
    """
    table = Table(title="Analogies a : b :: c : answer", box=HORIZONTALS, padding=(0, 1, 0, 0))
    table.caption = "apart: length of the straight line from the answer to c + b - a"
    table.caption_justify = "left"
    table.add_column("test rows")
    if "labels" in arrays:
        table.add_column("labels")
    for name in ("a to b", "c to answer", "apart"):
        table.add_column(name, justify="right")
    table.add_column("converged")
    for row in analogy_rows(arrays):
        labels = [", ".join(map(str, row["labels"]))] if "labels" in row else []
        table.add_row(
            " : ".join(map(str, row["rows"])),
            *labels,
            *(f"{row[key]:.4f}" for key in ("length", "path_length", "apart")),
            "yes" if row["converged"] else "NO",
        )
    return table


def distance_table(rows: Sequence[Row], said: str) -> Table:
    """One line for each figure that distances come to.

    Args:
        rows: Of `distance_rows`.
        said: What stands below them.

    Returns:
        A rich table.

    Example:
        >>> from geodesic.experiment.tables import distance_table
        >>> row = {"quantity": "their difference", "value": 0.1, "low": 0.0, "high": 0.2, "of": "200 points"}
        >>> distance_table([row], "").row_count
        1
    """
    table = Table(title="Distances", box=HORIZONTALS, padding=(0, 1, 0, 0))
    table.caption, table.caption_justify = said, "left"
    table.add_column("quantity")
    table.add_column("value", justify="right")
    table.add_column("95 % interval")
    table.add_column("of")
    for row in rows:
        within = "" if np.isnan(row["low"]) else f"{row['low']:+.4f} to {row['high']:+.4f}"
        counted = row["quantity"] == "pairs not resolved"
        table.add_row(row["quantity"], f"{row['value']:{',.0f' if counted else '.4f'}}", within, row["of"])
    return table


def about_collapse(collapsed: tuple[int, ...], latent_size: int) -> str:
    """What to do about latent dimensions that have collapsed, those numbered, of so many."""
    named = ", ".join(map(str, collapsed[:10])) + (" and more" if len(collapsed) > 10 else "")
    one = len(collapsed) == 1
    return (
        f"{len(collapsed)} of {latent_size} latent dimensions {'has' if one else 'have'} collapsed ({named}): "
        f"{'its' if one else 'their'} KL on the validation rows is below {COLLAPSED_KL} nats, so "
        f"{'it says' if one else 'they say'} nothing about the data; lower training.kl_weight, raise "
        "training.kl_warmup_epochs, train for longer, or take a smaller model.latent_size"
    )
