"""What is hard about kinks: a status with its reason, a path no longer than the straight line, no false certificate."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import geodesic
from geodesic import PullbackManifold, Status
from tests.experiments import run
from tests.folded import ACTIVATIONS, CASES, network

pytestmark = pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")


def chords(manifold: geodesic.Manifold, path: Tensor) -> Tensor:
    with torch.no_grad():
        return manifold.squared_chords(path).sqrt().sum(-1)


def curve(solution: geodesic.GeodesicSolution, parts: int = 4000) -> Tensor:
    """Its points, nodes among them: at these it may have corners."""
    nodes = solution.arc[: int(solution.segments) + 1]
    return solution(torch.cat([torch.linspace(0, 1, parts + 1), nodes]).unique())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("init", ["straight", "best"])
def test_nothing_is_certified_that_is_not_shortest(name: str, init: str) -> None:
    case = CASES[name]
    start, end = torch.tensor(case.start), torch.tensor(case.end)
    manifold = PullbackManifold(case.decoder)
    points = None if init == "straight" else 3 * torch.rand(100, 2) - 1.5
    solution = geodesic.solve(manifold, start, end, init=init, graph_points=points)
    assert torch.equal(solution.path[[0, -1]], torch.stack([start, end]))
    assert solution.length >= case.shortest * (1 - 1e-3)
    assert solution.length <= solution.straight_length * (1 + 1e-6)
    if solution.converged and solution.resolved:
        assert solution.length <= case.shortest * (1 + 3 * float(solution.error) + 1e-6)
    else:
        assert solution.status != Status.RUNNING
        assert solution.summary().count("\n") >= 2  # what happened, and what to do


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_certified_answers_are_as_long_as_they_say_and_no_change_of_them_is_shorter(name: str) -> None:
    manifold = PullbackManifold(network(ACTIVATIONS[name]))
    solutions = geodesic.solve(manifold, *(2 * torch.randn(2, 2, 2)))
    certified = solutions[solutions.converged & solutions.resolved]
    assert len(certified.length)
    for k in range(len(certified.length)):
        solution = certified[k]
        path = curve(solution)
        length, error = chords(manifold, path), 3 * float(solution.error) + 1e-3
        torch.testing.assert_close(length, solution.length, rtol=error, atol=0)
        t = torch.linspace(0, 1, len(path))[:, None]
        waves = torch.stack([torch.sin(torch.pi * n * t) * e for n in (1, 2, 3, 5, 8) for e in torch.eye(2)])
        for size in (-0.1, -0.01, 0.01, 0.1):
            assert (chords(manifold, path + size * waves) > length * (1 - error)).all()


@pytest.mark.slow
def test_the_command_says_of_each_pair_on_kinks_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    with contextlib.chdir(tmp_path):
        Path("folded_models.py").write_text(
            "import torch\nfrom tests.folded import CASES\n\nclass Decoder(torch.nn.Module):\n"
            "    def forward(self, z):\n        return CASES['over a pyramid'].decoder(z)\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        np.savez("points.npz", start=np.array([[-2.0, 0.0], [0.0, 0.0]]), end=np.array([[2.0, 0.0], [1.0, 0.0]]))
        model = {"import": "folded_models:Decoder", "latent_size": 2}
        pairs = {"kind": "file", "path": "points.npz"}
        settings = {"name": "pyramid", "device": "cpu", "model": model, "pairs": pairs}
        Path("pyramid.yaml").write_text(yaml.safe_dump(settings))
        done = run("solve", "pyramid.yaml")
        with np.load("runs/pyramid/geodesics.npz") as arrays:
            certified = arrays["auto/converged"] & arrays["auto/resolved"]
            length = arrays["auto/length"]
            names = [str(name) for name in arrays["auto/status_name"]]
    assert done.status == 0, done
    assert all(
        good or name != "CONVERGED" or "not resolved" in done.out for good, name in zip(certified, names, strict=True)
    )
    for k, shortest in enumerate((CASES["over a pyramid"].shortest, CASES["from the top of a pyramid"].shortest)):
        assert length[k] <= 8.33
        assert not certified[k] or length[k] == pytest.approx(shortest, rel=1e-3)
