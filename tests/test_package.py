"""What is uploaded is complete: it passes the index's checks and runs where there is no checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from geodesic.installation import hint

ROOT = Path(__file__).parents[1]
pytest.importorskip("build", reason=f"needs build: {hint('dev')}")
pytest.importorskip("hatchling", reason=f"needs hatchling: {hint('dev')}")


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source distribution, the wheel made from the source."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


@pytest.mark.slow
def test_wheel_and_source_pass_the_checks_of_the_index(archives: tuple[Path, Path]) -> None:
    pytest.importorskip("twine", reason=f"needs twine: {hint('dev')}")
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *map(str, archives)], capture_output=True, text=True
    )
    assert checked.stdout.count("PASSED") == 2, checked.stdout + checked.stderr


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_runs_outside_the_checkout(
    archives: tuple[Path, Path], tmp_path: Path
) -> None:
    home = tmp_path / "installed"
    with zipfile.ZipFile(archives[0]) as wheel:
        wheel.extractall(home)
    names = ("*.py", "py.typed", "*.html", "*.js", "*.css")
    sources = {str(path.relative_to(ROOT)) for name in names for path in (ROOT / "geodesic").rglob(name)}
    assert "geodesic/explorer/explorer.js" in sources
    assert sources <= {str(path.relative_to(home)) for path in home.rglob("*")}
    code = (
        "import pathlib, sys, torch, geodesic; from geodesic.cli import main;"
        "a, b = torch.tensor([[1.0, 0.0], [1.5, 1.0]]);"
        "solution = geodesic.solve(geodesic.surfaces.Sphere(), a, b);"
        "print(pathlib.Path(geodesic.__file__).parent, bool(solution.converged));"
        "sys.argv = ['geodesic', '--help']; main()"
    )
    environment = os.environ | {"PYTHONPATH": str(home), "PYTHONWARNINGS": "ignore"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.stdout.splitlines()[0] == f"{home / 'geodesic'} True", ran.stderr
    assert "distances" in ran.stdout, ran.stderr
