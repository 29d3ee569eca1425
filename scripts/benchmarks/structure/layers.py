"""The import order of the library: who may import whom. The tests enforce it, the benchmark counts what breaks it."""

from __future__ import annotations

import ast
from pathlib import Path

__all__ = ["LAYERS", "circle", "imports_of", "modules_of", "part_of", "violations"]

# From the bottom to the top. A module imports from lower lines, and from its own part.
# `geodesic` itself, which imports lazily, stands low: modules ask it for the version.
LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(line.split())
    for line in (
        "contents",
        "geodesic",
        "errors",
        "installation",
        "checks registry",
        "arrays keywords tangents",
        "files autodiff",
        "door",
        "numerics pictures",
        "geometry",
        "solvers",
        "data",
        "models",
        "distances",
        "riemannian",
        "adapters",
        "drawing",
        "reporting",
        "explorer",
        "experiment",
        "doctor",
        "commands console",
        "options",
        "distances_command",
        "showing",
        "cli",
        "__main__ likelihoods outputs surfaces",  # what only users import
    )
)

# What stands lower and is out of bounds all the same.
FORBIDDEN = {
    "pictures": ("torch", "geodesic.autodiff"),  # they draw arrays
    "data": ("geodesic.geometry", "geodesic.solvers"),
    "models": ("geodesic.geometry", "geodesic.solvers"),  # what is learned knows no paths
    "doctor": ("geodesic.experiment",),
    "likelihoods": ("geodesic.experiment", "geodesic.cli"),
    "outputs": ("geodesic.experiment", "geodesic.cli"),
    "surfaces": ("geodesic.experiment", "geodesic.cli"),
}
ALLOWED = {"models": ("geodesic.geometry.outputs",)}  # a likelihood names its geometry

# Where the parts of older versions stood, so that their order can be measured too.
FORMER = {
    **dict.fromkeys(("config", "assembly", "pairs", "figures", "cov", "studies", "report"), "experiment"),
    "plots": "pictures",
    "integration": "numerics",
}


def modules_of(package: Path) -> dict[str, Path]:
    """Name of every module in the folder of a package, to its file."""

    def name(file: Path) -> str:
        parts = file.relative_to(package.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    return {name(file): file for file in sorted(package.rglob("*.py"))}


def imports_of(source: str, modules: frozenset[str] | set[str]) -> set[str]:
    """Modules that a source imports: at the top, in functions, for types.

    Args:
        source: The text of a module.
        modules: The modules of the package, to tell `from geodesic import models` from a name that is no module.

    Raises:
        ValueError: An import is relative.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                raise ValueError(f"line {node.lineno}: relative import")
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & modules) or {node.module}
    return found


def part_of(module: str) -> str:
    """`geodesic.models.vae` is of the part `models`."""
    part = module.split(".")[1] if "." in module else module
    return FORMER.get(part, part)


def violations(module: str, imported: set[str]) -> set[str]:
    """Those of the imported modules that a module may not import."""
    part = part_of(module)
    own = {name for name in imported if name.split(".")[0] == "geodesic" and part_of(name) != part}
    upward = {name for name in own if _level(part_of(name)) >= _level(part)}
    barred = {name for name in imported if _within(name, FORBIDDEN.get(part, ()))}
    return upward | {name for name in barred if not _within(name, ALLOWED.get(part, ()))}


def circle(graph: dict[str, set[str]]) -> set[str]:
    """The modules that import each other in circles, or import from a circle; none where the order is sound."""
    while leaves := {module for module, below in graph.items() if not below & graph.keys() - {module}}:
        graph = {module: below for module, below in graph.items() if module not in leaves}
    return set(graph)


def _level(part: str) -> int:
    """Unknown parts stand on top: nothing may import them."""
    return next((level for level, parts in enumerate(LAYERS) if part in parts), len(LAYERS))


def _within(module: str, parents: tuple[str, ...]) -> bool:
    return any(module == parent or module.startswith(f"{parent}.") for parent in parents)
