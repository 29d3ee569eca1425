"""What is missing is named with the line that installs it, and `geodesic doctor` knows whose package it runs in."""

import base64
import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import geodesic
from geodesic import cli, doctor, installation

ROOT = Path(geodesic.__file__).parent.parent


class Site:
    """A folder of installed packages that holds what a test puts there, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder / "geodesic"
        self.package.mkdir(parents=True)
        (self.package / "__init__.py").write_text("ours = True\n")

    def add(self, name: str, version: str, *metadata: str, record: str = "", origin: dict | None = None) -> None:
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *metadata]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "RECORD").write_text(record)
        if origin is not None:
            (info / "direct_url.json").write_text(json.dumps(origin))

    def add_ours(self, contents: str = "ours = True\n") -> None:
        """Our distribution as a wheel would install it."""
        self.add("geodesic-vae", "0.1.0", *METADATA, record=recorded(contents))


METADATA = (
    "Provides-Extra: train",
    "Provides-Extra: dev",
    "Requires-Dist: torch>=2.8",
    "Requires-Dist: winonly; sys_platform == 'win32'",
    "Requires-Dist: lightning>=2.6.6; extra == 'train'",
    "Requires-Dist: geodesic-vae[train]; extra == 'dev'",
    "Requires-Dist: pytest; extra == 'dev'",
)


def recorded(contents: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(contents.encode()).digest()).rstrip(b"=").decode()
    return f"geodesic/__init__.py,sha256={digest},{len(contents)}\n"


@pytest.fixture(scope="module")
def imported() -> None:
    """What the doctor and its command import: a `site` has nothing that is installed, nor Python's own modules."""
    assert "geodesic" in CliRunner().invoke(cli.app, ["doctor"]).output


@pytest.fixture
def site(imported: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    found = Site(tmp_path / "site-packages")
    monkeypatch.setattr(sys, "path", [str(found.folder)])
    monkeypatch.setattr(installation, "PACKAGE", found.package)
    return found


def make_checkout(site: Site, name: str = "geodesic-vae") -> None:
    (site.folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\ndependencies = ["torch>=2.8"]\n'
        '[project.optional-dependencies]\ntrain = ["lightning>=2.6.6"]\ndev = ["geodesic-vae[train]", "pytest"]\n'
    )


def test_the_hint_of_a_checkout_is_editable_and_that_of_a_copy_names_the_distribution(site: Site) -> None:
    assert installation.hint("train") == "pip install 'geodesic-vae[train]'"
    make_checkout(site, "somebody-elses")
    assert installation.hint("train") == "pip install 'geodesic-vae[train]'"
    make_checkout(site)
    assert installation.hint("train") == "pip install -e '.[train]'"


def test_every_hint_of_the_library_names_an_extra_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sources = [
        file.read_text() for folder in ("geodesic", "scripts", "tests") for file in (ROOT / folder).rglob("*.py")
    ]
    used = {name for source in sources for name in re.findall(r'\b(?:hint|require)\("(\w+)"', source)}
    assert used <= project["optional-dependencies"].keys()
    assert project["name"] == installation.DISTRIBUTION


def test_a_missing_module_is_an_error_with_the_line_that_installs_it() -> None:
    with pytest.raises(
        geodesic.errors.MissingExtraError, match=r"no_such_module is not installed.*'train'.*\[train\]'"
    ) as info:
        installation.require("train", "json", "no_such_module.part")
    assert isinstance(info.value, geodesic.GeodesicError)
    assert isinstance(info.value, ImportError)


def test_a_module_that_lacks_something_itself_is_not_said_to_be_missing(site: Site) -> None:
    (site.folder / "half_installed.py").write_text("import no_such_module\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module") as info:
        installation.require("train", "half_installed")
    assert not isinstance(info.value, geodesic.GeodesicError)


@pytest.mark.parametrize("place", ["checkout", "copy"])
def test_what_is_missing_is_what_is_absent_or_out_of_bounds(site: Site, place: str) -> None:
    if place == "checkout":
        make_checkout(site)
    else:
        site.add_ours()
    site.add("torch", "2.14.0")
    site.add("lightning", "2.6.3")
    assert set(installation.extras()) == {"train", "dev"}
    assert installation.missing() == []
    assert installation.missing("train") == ["lightning>=2.6.6 (2.6.3 is installed)"]
    assert installation.missing("dev") == [*installation.missing("train"), "pytest"]
    assert doctor.examine().extras["dev"].endswith(f"pytest: {installation.hint('dev')}")


def test_without_metadata_there_are_no_extras_and_no_owner(site: Site) -> None:
    assert (installation.extras(), installation.missing(), installation.owners()) == ((), [], [])


def test_a_copy_belongs_to_the_distribution_that_wrote_it_last(site: Site) -> None:
    site.add_ours()
    site.add("geodesic", "1.4", record=recorded("ours = False\n"))
    assert installation.owners() == ["geodesic-vae 0.1.0"]
    (site.package / "__init__.py").write_text("ours = False\n")
    assert installation.owners() == ["geodesic 1.4"]


def test_an_editable_installation_belongs_to_its_distribution(site: Site) -> None:
    make_checkout(site)
    site.add("geodesic-vae", "0.1.0", origin={"url": site.folder.as_uri(), "dir_info": {"editable": True}})
    assert installation.owners() == ["geodesic-vae 0.1.0"]


def test_the_doctor_finds_nothing_wrong_with_our_own_package(site: Site) -> None:
    site.add_ours()
    site.add("torch", "2.14.0")
    assert doctor.examine().problems == []


def test_the_doctor_warns_of_the_other_distribution_of_our_name(site: Site) -> None:
    site.add_ours()
    site.add("torch", "2.14.0")
    site.add("geodesic", "1.4", record=recorded("ours = False\n"))
    (beside,) = doctor.examine().problems
    assert "geodesic 1.4 also installs a package named geodesic; pip uninstall geodesic geodesic-vae" in beside
    (site.package / "__init__.py").write_text("ours = False\n")
    instead = doctor.examine().problems[0]
    assert "is not that of geodesic-vae" in instead
    assert instead.endswith("then pip install geodesic-vae")


def test_the_doctor_names_a_requirement_that_is_too_old_and_an_import_that_fails(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add_ours()
    site.add("torch", "2.7.1")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    old, broken = doctor.examine().problems
    assert "torch>=2.8 (2.7.1 is installed)" in old
    assert broken.startswith("import torchvision fails")
    assert "from the same index" in broken


def test_the_command_prints_what_the_doctor_finds_and_fails_where_something_is_broken(site: Site) -> None:
    site.add_ours()
    site.add("torch", "2.14.0")
    done = CliRunner().invoke(cli.app, ["doctor"])
    assert done.exit_code == 0
    assert re.search(r"^torch +2\.14\.0$", done.output, flags=re.M)
    assert re.search(r"^device +cpu, \d+ threads", done.output, flags=re.M)
    assert re.search(r"^extra train +lacks lightning>=2\.6\.6: pip install 'geodesic-vae\[train\]'$", done.output, re.M)
    site.add("geodesic", "1.4")
    assert CliRunner().invoke(cli.app, ["doctor"]).exit_code == 1
