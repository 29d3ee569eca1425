"""What is measured of a checkout."""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.benchmarks.structure.layers import circle, imports_of, modules_of, violations

__all__ = ["LONG_FILE", "MANY_PARAMETERS", "measure"]

LONG_FILE = 400  # lines
MANY_PARAMETERS = 8


def measure(root: Path, repeats: int) -> dict[str, int | float | str]:
    """All measures of the library in a checkout, by name.

    Args:
        root: The folder that holds `geodesic/`.
        repeats: Processes started for each time; the median counts.
    """
    modules = modules_of(root / "geodesic")
    sources = {name: file.read_text(encoding="utf-8") for name, file in modules.items()}
    lines = {name: len(source.splitlines()) for name, source in sources.items()}
    largest = max(lines, key=lambda name: lines[name])
    graph = {name: imports_of(source, modules.keys()) for name, source in sources.items()}
    broken = sum(len(violations(name, imported)) for name, imported in graph.items())
    return {
        "files": len(modules),
        "lines": sum(lines.values()),
        "lines of code": sum(map(code_lines, sources.values())),
        "largest file": str(modules[largest].relative_to(root)),
        "its lines": lines[largest],
        f"files of more than {LONG_FILE} lines": sum(count > LONG_FILE for count in lines.values()),
        "import order violations": broken,
        "modules in circles": len(circle({name: imported - {"geodesic"} for name, imported in graph.items()})),
        f"functions of {MANY_PARAMETERS} or more parameters": sum(
            count >= MANY_PARAMETERS for source in sources.values() for count in parameters(source)
        ),
        "public names": int(_run(root, "-c", "import geodesic; print(len(geodesic.__all__))")),
        "seconds of `import geodesic`": _seconds(root, repeats, "-c", "import geodesic"),
        "seconds of `geodesic --help`": _seconds(root, repeats, "-m", "geodesic", "--help"),
    }


def code_lines(source: str) -> int:
    """Lines that are no docstring, no comment and not blank."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    text: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            text |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(number not in text and line.strip() != "" and not line.strip().startswith("#") for number, line in lines)


def parameters(source: str) -> Iterator[int]:
    """How many parameters each function has; `self` and `cls` are none."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            yield sum(argument.arg not in ("self", "cls") for argument in named)


def _run(root: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout


def _seconds(root: Path, repeats: int, *arguments: str) -> float:
    """Median seconds of a process, from start to end; the first one, which fills the caches, does not count."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        _run(root, *arguments)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])
