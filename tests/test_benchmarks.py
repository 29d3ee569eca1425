"""The benchmark scripts run, and the methods that they compare compute the same thing."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import geodesic
from tests.naive import naive_energy_gradient

SCRIPTS = Path(__file__).parents[1] / "scripts" / "benchmarks"


@pytest.fixture
def energy_gradient(monkeypatch) -> Iterator[ModuleType]:
    """The script as a module; it sets the number of threads, which the other tests should not feel."""
    spec = importlib.util.spec_from_file_location("energy_gradient", SCRIPTS / "energy_gradient.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look for it
    spec.loader.exec_module(module)
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


def test_the_methods_agree_and_are_timed(energy_gradient, capsys):
    rows = energy_gradient.main(["--segments", "8", "--repeats", "1", "--warmup", "0", "--pairs", "2"])
    assert [(row.latent_size, row.method) for row in rows] == [
        (d, method) for d in (2, 16) for method in energy_gradient.METHODS
    ]
    assert all(row.milliseconds > 0 for row in rows)
    differences = [row.difference for row in rows if row.method in energy_gradient.REFERENCE]
    assert len(differences) == 4
    assert max(differences) < 1e-10
    printed = capsys.readouterr().out
    assert f"torch {torch.__version__}" in printed
    assert all(method in printed for method in energy_gradient.METHODS)


def test_a_path_without_interior_is_refused(energy_gradient, capsys):
    with pytest.raises(SystemExit):
        energy_gradient.main(["--segments", "1"])
    assert "at least 2" in capsys.readouterr().err


def test_the_naive_loop_is_the_gradient_on_a_surface(tolerance):
    surface, path = geodesic.Paraboloid(), torch.randn(7, 2)
    expected = geodesic.energy_gradient(surface, path)
    torch.testing.assert_close(naive_energy_gradient(surface.embed, path), expected, **tolerance(path.dtype))
