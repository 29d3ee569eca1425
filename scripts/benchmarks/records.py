"""What the figures depend on, and files that hold them."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from pathlib import Path
from typing import Any

import geodesic

__all__ = ["VERSIONED", "plain", "versions", "versions_line", "write_json"]

VERSIONED = ("torch", "numpy", "scipy")


def versions(*more: str) -> dict[str, str]:
    """Versions of Python, of this library, of what computes, and of other distributions."""
    found = {"python": platform.python_version(), "geodesic": geodesic.__version__}
    for name in (*VERSIONED, *more):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def versions_line(threads: int, *more: str) -> str:
    """The versions and the number of threads, to print."""
    return ", ".join(f"{name} {version}" for name, version in versions(*more).items()) + f"; {threads} thread(s)"


def plain(x: Any) -> Any:
    """What JSON can hold: it has no infinities, no tuples and no paths."""
    if isinstance(x, float):
        return x if math.isfinite(x) else None
    if isinstance(x, dict):
        return {str(key): plain(value) for key, value in x.items()}
    if isinstance(x, Path):
        return str(x)
    return [plain(value) for value in x] if isinstance(x, list | tuple) else x


def write_json(file: Path, content: Any) -> None:
    """Write what was measured."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
