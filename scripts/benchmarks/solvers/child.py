"""The process whose memory the section `memory` measures. It imports no more than it needs."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

import geodesic
from geodesic.solvers.status import Status
from scripts.benchmarks.tables import counts


def main(file: Path, segments: int) -> None:
    """Solve the pairs in the file and print what it took."""
    torch.set_num_threads(2)
    saved = torch.load(file, weights_only=False)  # written by the process that called this one
    decoder, start, end = saved["decoder"].float(), saved["start"].float(), saved["end"].float()
    manifold = geodesic.PullbackManifold(decoder, geodesic.outputs.Euclidean(mean=torch.sigmoid))
    solve = geodesic.solve  # names are imported when they are asked for
    before = process_memory("VmRSS")
    solve(manifold, start[:1], end[:1], segments=segments)  # the first call also pays for what torch imports on the way
    begin = time.perf_counter()
    solution = solve(manifold, start, end, segments=segments)
    seconds = time.perf_counter() - begin
    result = {
        "peak_bytes": process_memory("VmHWM") - before,
        "seconds": seconds,
        "pairs_per_second": len(start) / seconds,
        "ended": counts([Status(status).name.lower() for status in solution.status.tolist()]),
    }
    print(json.dumps(result))


def process_memory(entry: str) -> int:
    """An entry of /proc/self/status of this process in bytes.

    VmHWM is the peak that `ru_maxrss` also reports, but of this program alone: the latter begins at the size of the
    process that started this one.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{entry}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {entry}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
