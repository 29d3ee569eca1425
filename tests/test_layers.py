"""Imports flow one way: no circle, and nothing heavy before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "geodesic"

# From the bottom to the top. A module imports from lower lines, and from its own package.
# `geodesic` itself, which imports lazily, stands below all: modules ask it for the version.
LAYERS: list[set[str]] = [
    {"geodesic"},
    {"errors"},
    {"installation"},
    {"checks", "registry"},
    {"files", "autodiff"},
    {"numerics", "pictures"},
    {"geometry"},
    {"solvers"},
    {"data"},
    {"models"},
    {"riemannian"},
    {"adapters"},
    {"experiment"},
    {"doctor"},
    {"cli"},
    {"__main__", "likelihoods", "outputs", "surfaces"},  # what only users import
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def part_of(module: str) -> str:
    """geodesic.models.vae -> models."""
    return module.split(".")[1] if "." in module else module


def imports(source: str, module: str) -> set[str]:
    """Modules of this package that the source imports: at the top, in functions, for types."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import in line {node.lineno}"
            assert node.module is not None
            # `from geodesic import models` imports a module; `from geodesic.files import write_text` does not.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & MODULES.keys()) or {node.module}
    return {name for name in found if name == "geodesic" or name.startswith("geodesic.")}


def violations(module: str, imported: set[str]) -> set[str]:
    part = part_of(module)
    return {name for name in imported if part_of(name) != part and LEVEL.get(part_of(name), len(LAYERS)) >= LEVEL[part]}


def test_every_module_has_its_layer() -> None:
    assert {part_of(module) for module in MODULES} == set(LEVEL)


@pytest.mark.parametrize("module", MODULES)
def test_imports_flow_downward(module: str) -> None:
    imported = imports(MODULES[module].read_text(), module)
    assert not violations(module, imported)
    if module != "geodesic":  # the public names are for users: through them any module could reach any other
        assert "from geodesic import" not in "\n".join(
            line for line in MODULES[module].read_text().splitlines() if ">>>" not in line
        )


def test_imports_within_a_package_form_no_circle() -> None:
    graph = {module: imports(file.read_text(), module) - {"geodesic"} for module, file in MODULES.items()}
    while leaves := {module for module, below in graph.items() if not below & graph.keys() - {module}}:
        graph = {module: below for module, below in graph.items() if module not in leaves}
    assert not graph


@pytest.mark.parametrize(
    ("part", "other"),
    [("geometry", "models"), ("solvers", "models"), ("models", "solvers"), ("data", "geometry"), ("data", "solvers")],
)
def test_what_is_learned_and_what_is_geometry_do_not_know_each_other(part: str, other: str) -> None:
    modules = [module for module in MODULES if part_of(module) == part]
    assert modules
    assert other not in {part_of(name) for module in modules for name in imports(MODULES[module].read_text(), module)}


def test_models_know_of_geometry_only_that_of_outputs() -> None:
    modules = [module for module in MODULES if part_of(module) == "models"]
    known = {name for module in modules for name in imports(MODULES[module].read_text(), module)}
    assert {name for name in known if part_of(name) == "geometry"} == {"geodesic.geometry.outputs"}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("geodesic.geometry.path", "from geodesic.models.vae import VAE"),
        ("geodesic.solvers.run", "from geodesic.data import load_data"),
        ("geodesic.errors", "import geodesic.cli"),
        ("geodesic.files", "def f():\n    from geodesic.experiment.train import train"),
        ("geodesic.numerics.ode", "if TYPE_CHECKING:\n    from geodesic.geometry.manifold import Manifold"),
        ("geodesic.models.vae", "from geodesic.experiment.train import train"),
    ],
)
def test_an_import_upward_or_sideways_would_be_noticed(module: str, source: str) -> None:
    assert violations(module, imports(source, module))


@pytest.mark.parametrize("module", ["geodesic", "geodesic.cli"])
def test_importing_does_not_load_what_is_heavy(module: str) -> None:
    heavy = {"torch", "lightning", "matplotlib", "sklearn", "torchvision"}
    code = f"import sys, {module}; print(*({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_importing_the_solver_loads_no_training_and_no_pictures() -> None:
    heavy = {"lightning", "matplotlib", "sklearn"}
    code = f"import sys; from geodesic import solve, VAE; print(*({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
