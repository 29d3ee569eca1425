"""Peak memory and pairs per second of one call with many pairs, in a process of its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from scripts.benchmarks.solvers.headlines import Headline
from scripts.benchmarks.solvers.problems import decoder_problem
from scripts.benchmarks.tables import make_table

ROOT = Path(__file__).resolve().parents[3]


def section(options: argparse.Namespace, console: Console) -> tuple[list[dict], list[Headline]]:
    """One call with many pairs, in float32, in a process of its own."""
    rows, headlines = [], []
    for name in options.decoders[:1]:
        problem = decoder_problem(name, options.runs, options.memory_pairs, options.segments, options.seed)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "problem.pt"
            torch.save({"decoder": problem.manifold.decoder, "start": problem.start, "end": problem.end}, file)
            command = [sys.executable, "-m", "scripts.benchmarks.solvers.child", str(file), str(options.segments)]
            child = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        row: dict[str, Any] = {"problem": name, "pairs": options.memory_pairs, "message": ""}
        row |= {"segments": options.segments, "dtype": "float32"}
        if child.returncode:
            row["message"] = (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
        else:
            row |= json.loads(child.stdout.splitlines()[-1])
        rows.append(row)
        table = make_table(
            f"{name}, T = {options.segments}, float32, 2 threads",
            "pairs",
            "peak above the imports",
            "pairs per second",
            "ended",
        )
        if row["message"]:
            table.add_row(str(row["pairs"]), "-", "-", row["message"])
        else:
            gigabytes = row["peak_bytes"] / 1e9
            table.add_row(str(row["pairs"]), f"{gigabytes:.3f} GB", f"{row['pairs_per_second']:.1f}", row["ended"])
            what = f"{name}: {row['pairs']} pairs in one call, T = {row['segments']}, {row['dtype']}, above the imports"
            shown = f"at most {gigabytes:.2f} GB, {row['pairs_per_second']:.0f} pairs per second"
            headlines.append(Headline(what, shown))
        console.print(table)
    return rows, headlines
