"""Results as rows of plain values, which tables are made of and `--json` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodesic.solvers.solution import GeodesicSolution
from geodesic.solvers.status import Status

__all__ = ["Row", "analogy_rows", "curvature_rows", "geodesic_rows", "mean_rows", "variation_rows"]

Row = dict[str, Any]

_NUMBERS = ("straight_length", "length", "initial_energy", "energy", "decoder_residual", "error")
_COUNTS = ("iterations", "segments")
_VERDICTS = ("converged", "resolved", "minimum")
_CURVATURES = {
    "grid_log_volume": ("plane", "log10 magnification", 1 / np.log(10)),
    "grid_curvature": ("plane", "Gaussian curvature", 1.0),
    "log_volume": ("encodings", "log10 magnification", 1 / np.log(10)),
    "curvature": ("encodings", "sectional curvature", 1.0),
    "condition_number": ("encodings", "condition number", 1.0),
    "anisotropy": ("encodings", "anisotropy", 1.0),
}


def geodesic_rows(solutions: Mapping[str, GeodesicSolution], pair_names: Sequence[str]) -> list[Row]:
    """A row for each pair and method, with the fields of a solution under their names.

    Args:
        solutions: Method name to solution, all for the same P pairs, batch shape (P,).
        pair_names: P names.

    Example:
        >>> import torch, geodesic
        >>> from geodesic.experiment.rows import geodesic_rows
        >>> plane = geodesic.PullbackManifold(lambda z: z)
        >>> solution = geodesic.solve(plane, torch.zeros(1, 2), torch.ones(1, 2))
        >>> row = geodesic_rows({"auto": solution}, ["3 to 8"])[0]
        >>> row["pair"], row["method"], row["status"], row["resolved"]
        ('3 to 8', 'auto', 'CONVERGED', True)
    """
    return [
        {"pair": pair, "method": method, "status": Status(int(solution.status[k])).name}
        | {name: float(getattr(solution, name)[k]) for name in _NUMBERS}
        | {name: int(getattr(solution, name)[k]) for name in _COUNTS}
        | {name: bool(getattr(solution, name)[k]) for name in _VERDICTS}
        for k, pair in enumerate(pair_names)
        for method, solution in solutions.items()
    ]


def variation_rows(decoders: Sequence[int], coefficients: Mapping[str, NDArray]) -> list[Row]:
    """A row for each number of decoders and kind of distance: the mean coefficient over pairs, with its error.

    Args:
        decoders: Numbers of decoders, (K,).
        coefficients: Kind of distance to coefficients of variation, (K, P); what is not a number is left out.

    Example:
        >>> import numpy as np
        >>> from geodesic.experiment.rows import variation_rows
        >>> row = variation_rows([1], {"geodesic": np.array([[0.2, 0.3, np.nan]])})[0]
        >>> row["coefficient"], row["pairs"], row["of"]
        (0.25, 2, 3)
    """
    rows = []
    for k, count in enumerate(decoders):
        for kind, values in coefficients.items():
            known = values[k][~np.isnan(values[k])]
            mean = float(known.mean()) if len(known) else np.nan
            error = float(known.std(ddof=1)) / len(known) ** 0.5 if len(known) > 1 else np.nan
            rows.append(
                {"decoders": int(count), "distance": kind, "coefficient": mean, "standard_error": error}
                | {"pairs": len(known), "of": len(values[k])}
            )
    return rows


def curvature_rows(arrays: Mapping[str, NDArray]) -> list[Row]:
    """A row for each quantity and place that `map_curvature` measured: 5 %, median and 95 %.

    Args:
        arrays: Its arrays.

    Example:
        >>> import numpy as np
        >>> from geodesic.experiment.rows import curvature_rows
        >>> row = curvature_rows({"curvature": np.array([1.0, 2.0, 3.0, np.nan])})[0]
        >>> row["where"], row["median"], row["values"], row["singular"]
        ('encodings', 2.0, 4, 1)
    """
    rows = []
    for key, (where, quantity, unit) in _CURVATURES.items():
        if key not in arrays:
            continue
        values = unit * arrays[key].ravel()
        known = values[np.isfinite(values)]
        spread = np.quantile(known, [0.05, 0.5, 0.95]).tolist() if len(known) else [np.nan] * 3
        rows.append(
            {"where": where, "quantity": quantity}
            | dict(zip(("low", "median", "high"), spread, strict=True))
            | {"values": values.size, "singular": values.size - len(known)}
        )
    return rows


def mean_rows(arrays: Mapping[str, NDArray]) -> list[Row]:
    """A row for each Fréchet mean that `find_means` found.

    Args:
        arrays: Its arrays.

    Example:
        >>> import numpy as np
        >>> from geodesic.experiment.rows import mean_rows
        >>> one = {name: np.ones(1) for name in ("variance", "apart", "error", "converged", "unique")}
        >>> mean_rows(one | {"names": np.array(["3"]), "group": np.zeros(20)})[0]["points"]
        20
    """
    return [
        {"label": str(name), "points": int((arrays["group"] == k).sum())}
        | {key: float(arrays[key][k]) for key in ("variance", "apart", "error")}
        | {key: bool(arrays[key][k]) for key in ("converged", "unique")}
        for k, name in enumerate(arrays["names"])
    ]


def analogy_rows(arrays: Mapping[str, NDArray]) -> list[Row]:
    """A row for each analogy that `transport_analogies` answered.

    Args:
        arrays: Its arrays.

    Example:
        >>> import numpy as np
        >>> from geodesic.experiment.rows import analogy_rows
        >>> ones = {name: np.ones(1) for name in ("length", "path_length", "apart", "converged")}
        >>> analogy_rows(ones | {"rows": np.array([[0, 1, 2]])})[0]["rows"]
        [0, 1, 2]
    """
    return [
        {"rows": rows.tolist()}
        | ({"labels": arrays["labels"][rows].tolist()} if "labels" in arrays else {})
        | {key: float(arrays[key][k]) for key in ("length", "path_length", "apart")}
        | {"converged": bool(arrays["converged"][k])}
        for k, rows in enumerate(arrays["rows"])
    ]
