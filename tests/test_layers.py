"""Imports flow one way: no circle, and nothing heavy before it is needed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.benchmarks.structure.layers import (
    ALLOWED,
    FORBIDDEN,
    LAYERS,
    circle,
    imports_of,
    modules_of,
    part_of,
    violations,
)

MODULES = modules_of(Path(__file__).parent.parent / "geodesic")


def imports(module: str) -> set[str]:
    return imports_of(MODULES[module].read_text(encoding="utf-8"), MODULES.keys())


def test_every_module_has_its_layer() -> None:
    parts = [part for layer in LAYERS for part in layer]
    assert len(parts) == len(set(parts))
    assert {part_of(module) for module in MODULES} == set(parts)
    assert FORBIDDEN.keys() | ALLOWED.keys() <= set(parts)


@pytest.mark.parametrize("module", MODULES)
def test_imports_flow_downward(module: str) -> None:
    assert not violations(module, imports(module))


@pytest.mark.parametrize("module", [module for module in MODULES if module != "geodesic"])
def test_no_module_takes_public_names_from_the_top(module: str) -> None:
    """They are for users: through them any module could reach any other."""
    lines = [line for line in MODULES[module].read_text(encoding="utf-8").splitlines() if ">>>" not in line]
    assert not [line for line in lines if "from geodesic import" in line]


def test_imports_within_a_package_form_no_circle() -> None:
    assert not circle({module: imports(module) - {"geodesic"} for module in MODULES})


def test_a_circle_is_found_with_what_hangs_on_it() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"e"}, "e": set()}) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("geodesic.geometry.path", "from geodesic.models.vae import VAE"),
        ("geodesic.solvers.run", "from geodesic.data import load_data"),
        ("geodesic.errors", "import geodesic.cli"),
        ("geodesic.files", "def f():\n    from geodesic.experiment.train import train"),
        ("geodesic.numerics.ode", "if TYPE_CHECKING:\n    from geodesic.geometry.manifold import Manifold"),
        ("geodesic.numerics.ode", "from geodesic.pictures import paths"),
        ("geodesic.pictures.paths", "from torch import Tensor"),
        ("geodesic.models.vae", "from geodesic.experiment.train import train"),
        ("geodesic.models.likelihoods", "from geodesic.geometry.pullback import PullbackManifold"),
        ("geodesic.models.vae", "from geodesic.solvers.solve import solve"),
        ("geodesic.data.digits", "import geodesic.geometry.outputs"),
        ("geodesic.riemannian.outcome", "from geodesic.experiment import settings"),
        ("geodesic.doctor", "from geodesic.experiment.settings import Settings"),
        ("geodesic.solvers.run", "from geodesic.new_part import thing"),
    ],
)
def test_an_import_upward_or_sideways_would_be_noticed(module: str, source: str) -> None:
    known = MODULES.keys() | {"geodesic.new_part"}
    assert violations(module, imports_of(source, known))


def test_a_likelihood_may_name_its_geometry() -> None:
    source = "import torch\nfrom geodesic.geometry.outputs import Euclidean\nfrom geodesic import checks"
    assert not violations("geodesic.models.likelihoods", imports_of(source, MODULES.keys()))


def test_a_relative_import_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2: relative import"):
        imports_of("import torch\nfrom .outputs import Euclidean", MODULES.keys())


# What must not be loaded yet after each statement of one process: torch and its like take seconds.
SLOW = {"torch", "torchvision", "lightning", "matplotlib", "sklearn", "scipy"}
STEPS = {
    "import geodesic; dir(geodesic)": SLOW,
    "import geodesic.installation, geodesic.doctor": SLOW,
    "import geodesic.cli": SLOW,
    "from geodesic import experiment; import geodesic.experiment.settings": SLOW - {"torch", "scipy"},
    "from geodesic import solve, VAE, exp_map": {"torchvision", "lightning", "matplotlib", "sklearn"},
    "from geodesic import likelihoods, outputs, surfaces": {"torchvision", "lightning", "matplotlib", "sklearn"},
    "from geodesic import train_vae, load_data": {"torchvision", "lightning", "matplotlib"},
}


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """Statement to the slow packages that are loaded after it."""
    lines = [f"{step}; found[{step!r}] = sorted({SLOW!r} & sys.modules.keys())" for step in STEPS]
    code = "\n".join(["import json, sys", "found = {}", *lines, "print(json.dumps(found))"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_importing_does_not_load_what_is_heavy(loaded: dict[str, list[str]], step: str) -> None:
    assert not STEPS[step] & set(loaded[step])
