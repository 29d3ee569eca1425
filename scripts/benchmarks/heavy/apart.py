"""A run in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from scripts.benchmarks.heavy.child import Order
from scripts.benchmarks.heavy.runs import Outcome, Spec, without_answer
from scripts.benchmarks.solvers.memory import ROOT
from scripts.benchmarks.solvers.problems import Problem


def run_apart(problem: Problem, spec: Spec) -> Outcome:
    """The same as `run`, in a process that does nothing else, with the memory that it took."""
    ends, threads = (problem.start, problem.end), torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "order.pt", Path(folder) / "answer.pt"
        torch.save(Order(problem.name, problem.network, ends, problem.segments, spec, threads), asked)
        command = [sys.executable, "-m", "scripts.benchmarks.heavy.child", str(asked), str(answer)]
        child = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        if child.returncode:  # out of memory, for one
            message = (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
            return without_answer(problem, message)
        found: Outcome = torch.load(answer, weights_only=False)
        return found
