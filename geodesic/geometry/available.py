"""How many bytes are free: on a machine, within a control group, on a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

__all__ = ["free_bytes"]

_UNKNOWN = 4e9  # where the system does not say how much there is


def free_bytes(device: torch.device, root: Path = Path("/")) -> float:
    """Bytes that a process may still take on a device, about.

    On CUDA what the driver calls free, and what torch holds in reserve. Elsewhere the least of the machine's available
    memory and what each control group, of version 1 or 2, leaves of its limit; cached files count as free.

    Args:
        device: Where the work is done.
        root: The folder in which to find `proc` and `sys`.
    """
    if device.type == "cuda":
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + reserve)
    return max(0.0, min([_of_machine(root), *_of_groups(root)]))


def _of_machine(root: Path) -> float:
    for line in _lines(root / "proc" / "meminfo"):
        if line.startswith("MemAvailable:"):
            return 1024.0 * int(line.split()[1])
    try:  # other systems than Linux: half of what is built in
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN


def _of_groups(root: Path) -> Iterator[float]:
    """What each limit leaves: of this process's groups and of all that they lie in."""
    mounts = root / "sys" / "fs" / "cgroup"
    for line in _lines(root / "proc" / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, limit, use, cached = mounts, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount, limit, use = mounts / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        folder = mount / path.strip("/")
        # In a container the path is that of the host, and only the mount itself is there to be read.
        for group in (folder, *folder.parents):
            most, taken = _number(group / limit), _number(group / use)
            if most is not None and taken is not None:
                yield most - taken + _cached(group / "memory.stat", cached)
            if group == mount:
                break


def _cached(file: Path, name: str) -> float:
    """Bytes of files that the kernel would give up first."""
    for line in _lines(file):
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    return 0.0


def _number(file: Path) -> float | None:
    """The number in a file; None where there is none, or `max`."""
    lines = _lines(file)
    return float(lines[0]) if lines and lines[0].isdigit() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
