"""What lies in a folder of runs: a row for each, read from the files that the commands wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.box import HORIZONTALS
from rich.table import Table

from geodesic.errors import RunFolderError
from geodesic.experiment.rows import Row

__all__ = ["run_rows", "runs_table"]


def run_rows(runs: str | Path = "runs") -> list[Row]:
    """A row for each run, by name. What cannot be read is a `problem` of its row, not an error.

    Args:
        runs: Parent of all run folders.

    Returns:
        Rows with `name`, `data`, `model`, `latent_size`, `likelihood`, `test_elbo` and `test_bound` (nats per row),
        None where there is none; `results`, a row for each file of results with `pairs`, `converged` and `resolved` of
        each method; and `problem`, None where all was read.

    Example:
        >>> from geodesic.experiment.listing import run_rows
        >>> run_rows("no-such-folder")
        []
    """
    folders = Path(runs).glob("*/") if Path(runs).is_dir() else ()
    return [_row(folder) for folder in sorted(folders) if not folder.name.startswith(".") and _is_run(folder)]


def runs_table(rows: Sequence[Row]) -> Table:
    """One line for each run, with the first method of each file of results.

    Args:
        rows: Of `run_rows`.

    Returns:
        A rich table.

    Example:
        >>> from geodesic.experiment.listing import run_rows, runs_table
        >>> runs_table(run_rows("no-such-folder")).row_count
        0
    """
    table = Table(title="Runs", box=HORIZONTALS, padding=(0, 1, 0, 0))
    table.caption, table.caption_justify = "ELBO and bound: held-out rows, nats per row", "left"
    for name in ("run", "data", "model"):
        table.add_column(name)
    for name in ("d", "ELBO", "bound"):
        table.add_column(name, justify="right")
    table.add_column("results")
    for row in rows:
        figures = [_figure(row[key]) for key in ("test_elbo", "test_bound")]
        size = "-" if row["latent_size"] is None else str(row["latent_size"])
        found = [_of_results(result) for result in row["results"]]
        found += [row["problem"]] if row["problem"] else []
        words = [row["data"] or "-", row["model"] or "-"]
        table.add_row(row["name"], *words, size, *figures, "\n".join(found) or "-")
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _of_results(result: Row) -> str:
    methods = result["methods"][:1]
    figures = [f"{m['pairs']} pairs, {m['converged']} converged, {m['resolved']} resolved" for m in methods]
    return ": ".join([result["name"], *figures])


def _is_run(folder: Path) -> bool:
    return any((folder / file).is_file() for file in ("config.yaml", "record.json", "model.safetensors")) or any(
        file.with_suffix(".yaml").is_file() for file in folder.glob("*.npz")
    )


def _row(folder: Path) -> Row:
    row: Row = dict.fromkeys(("name", "data", "model", "latent_size", "likelihood", "test_elbo", "test_bound"))
    row |= {"name": folder.name, "results": [], "problem": None}
    try:
        row |= _described(folder) | _trained(folder)
        row["results"] = [_results(file) for file in sorted(folder.glob("*.npz"))]
    except Exception as error:  # damaged or foreign files can make their readers fail in any way
        row["problem"] = f"cannot be read: {error or type(error).__name__}".partition("\n")[0]
    return row


def _described(folder: Path) -> Row:
    """What the settings say, by their words alone: those of another version may not pass as settings."""
    files = [folder / "config.yaml", *sorted(file.with_suffix(".yaml") for file in folder.glob("*.npz"))]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise RunFolderError("no config.yaml")
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    model = settings.get("model") or {}
    return {
        "data": _kind(settings.get("data")),
        "model": model.get("import") or _kind(model.get("network")),
        "latent_size": model.get("latent_size"),
        "likelihood": _kind(model.get("likelihood")),
    }


def _kind(value: Any) -> str | None:
    return value.get("kind") if isinstance(value, dict) else value


def _trained(folder: Path) -> Row:
    file = folder / "record.json"
    record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {key: record.get(key) for key in ("test_elbo", "test_bound")}


def _results(file: Path) -> Row:
    """The methods of a file of results, with how many pairs converged and are resolved; none of another study."""
    with np.load(file, allow_pickle=False) as arrays:
        methods = [name.removesuffix("/resolved") for name in arrays.files if name.endswith("/resolved")]
        return {
            "name": file.stem,
            "methods": [
                {"method": method, "pairs": arrays[f"{method}/resolved"].size}
                | {key: int(arrays[f"{method}/{key}"].sum()) for key in ("converged", "resolved")}
                for method in methods
            ],
        }
