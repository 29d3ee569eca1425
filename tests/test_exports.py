"""The public surface: every name resolves, says what it does, and shows it."""

import importlib
import inspect
import pkgutil
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import geodesic
from geodesic import cli

# Where public names are found: at the top what a user types, in packages what else there is of a kind.
PACKAGES = (
    "geodesic",
    *(f"geodesic.{name}" for name in ("adapters", "data", "experiment", "geometry", "models", "riemannian", "solvers")),
)
PUBLIC = [
    f"{package}.{name}"
    for package in PACKAGES
    for name in importlib.import_module(package).__all__
    if name != "__version__" and not inspect.ismodule(getattr(importlib.import_module(package), name))
]
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(geodesic.__path__, "geodesic.")
    if not info.ispkg and not info.name.rpartition(".")[2].startswith("_")
)

# Modules that repeat the names of another, so that users reach them in one step.
HOMES = {
    "geodesic.likelihoods": "geodesic.models.likelihoods",
    "geodesic.outputs": "geodesic.geometry.outputs",
    "geodesic.surfaces": "geodesic.geometry.surfaces",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_resolves_to_what_its_module_exports(name: str) -> None:
    package, _, last = name.rpartition(".")
    thing = getattr(importlib.import_module(package), last)
    home = importlib.import_module(thing.__module__)
    assert home.__name__.startswith(f"{package}.")
    assert getattr(home, last) is thing
    if home.__name__ != "geodesic.errors":  # where everything is public
        assert last in home.__all__


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_says_what_it_does_and_shows_it(name: str) -> None:
    package, _, last = name.rpartition(".")
    thing = getattr(importlib.import_module(package), last)
    text = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    assert text, "no docstring of its own"
    error = inspect.isclass(thing) and issubclass(thing, Exception) and thing is not geodesic.GeodesicError
    # Nobody makes an abstract class or an answer by hand: what makes them has the example.
    abstract, answer = inspect.isabstract(thing), "Attributes:" in text
    if not (error or abstract or answer):
        assert "Example:" in text
        assert ">>> " in text.partition("Example:")[2]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_lists_what_it_defines_for_others(name: str) -> None:
    module = importlib.import_module(name)
    if name == "geodesic.errors":
        return
    assert len(set(module.__all__)) == len(module.__all__)
    for exported in module.__all__:
        thing = getattr(module, exported)
        assert not exported.startswith("_")
        if inspect.isclass(thing) or inspect.isfunction(thing):
            home = HOMES.get(name, name)
            own = thing.__module__ == home or thing.__module__.startswith(f"{home}.")
            assert own, f"{exported} is another module's"


@pytest.mark.parametrize("name", HOMES)
def test_a_module_that_only_repeats_names_has_those_of_its_home(name: str) -> None:
    module, home = importlib.import_module(name), importlib.import_module(HOMES[name])
    assert getattr(geodesic, name.removeprefix("geodesic.")) is module
    assert all(getattr(module, exported) is getattr(home, exported) for exported in module.__all__)
    assert {name for name in home.__all__ if not inspect.isfunction(getattr(home, name))} == set(module.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_and_what_it_defines_for_others_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for exported in getattr(module, "__all__", ()):
        thing = getattr(module, exported)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, exported


def test_all_public_names_come_with_a_star() -> None:
    scope: dict[str, object] = {}
    exec("from geodesic import *", scope)
    assert set(geodesic.__all__) <= scope.keys()
    assert dir(geodesic) == sorted(geodesic.__all__)


def test_public_names_are_listed_once() -> None:
    listed = [name for names in geodesic._MODULES.values() for name in names]
    assert len(listed) == len(set(listed))
    everywhere = [name.rpartition(".")[2] for name in PUBLIC]
    assert len(everywhere) == len(set(everywhere))
    assert geodesic.__all__ == ["__version__", *sorted(listed)]


def test_all_errors_share_a_root() -> None:
    errors = importlib.import_module("geodesic.errors")
    classes = {name: thing for name, thing in vars(errors).items() if inspect.isclass(thing)}
    assert all(issubclass(thing, geodesic.GeodesicError | Warning) for thing in classes.values())


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="'geodesic' has no attribute 'geodesics'"):
        geodesic.geodesics  # noqa: B018
    assert not hasattr(geodesic, "torch")


def test_python_dash_m_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "geodesic", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"geodesic {geodesic.__version__}\n"


def test_an_installation_has_the_settings_of_the_demo_and_the_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lay out the package as pyproject.toml tells hatchling to, without hatchling: no wheel is built here."""
    root = Path(geodesic.__file__).parent.parent
    wheel = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for package in wheel["packages"]:
        shutil.copytree(root / package, tmp_path / package)
    for source, destination in wheel["force-include"].items():
        (tmp_path / destination).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / source, tmp_path / destination)
    assert (tmp_path / "geodesic" / "py.typed").is_file()

    # Beside the package of an installation there is no folder of configs.
    monkeypatch.setattr(geodesic, "__file__", str(tmp_path / "geodesic" / "__init__.py"))
    file = cli._bundled_config("demo")
    assert file == tmp_path / "geodesic" / "configs" / "demo.yaml"
    assert file.read_bytes() == (root / "configs" / "demo.yaml").read_bytes()
