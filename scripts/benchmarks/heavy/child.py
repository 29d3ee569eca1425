"""The process in which one run is made, so that its memory is its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from scripts.benchmarks.heavy.runs import Spec, run, warm_up
from scripts.benchmarks.heavy.works import problem_of
from scripts.benchmarks.solvers.child import process_memory


@dataclass(frozen=True)
class Order:
    """What the process is to do.

    Args:
        name: Of the work.
        network: Its decoder of means.
        ends: Endpoints of the pairs, (P, d) each.
        segments: T.
        spec: The run.
        threads: Of torch.
    """

    name: str
    network: nn.Module
    ends: tuple[Tensor, Tensor]
    segments: int
    spec: Spec
    threads: int


def main(order: Path, answer: Path) -> None:
    """Read an `Order`, and write its `Outcome` with the memory that it took."""
    found: Order = torch.load(order, weights_only=False)  # written by the process that called this one
    torch.set_num_threads(found.threads)
    problem = problem_of(found.name, found.network, found.ends, found.segments)
    warm_up()
    # The highest mark so far is that of the imports: it begins anew.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = process_memory("VmRSS")
    outcome = run(problem, found.spec)
    torch.save(replace(outcome, peak_bytes=process_memory("VmHWM") - before), answer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
