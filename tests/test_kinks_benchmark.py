"""The benchmark of decoders with kinks runs, and counts what is true."""

import numpy as np
import pytest
import torch

from scripts.benchmarks.kinks import command, oracle
from scripts.benchmarks.kinks.measure import polygon_length
from tests.polyhedral import Polyhedron


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_every_section_runs_and_is_written_down(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(oracle, "SEARCHES", {"defaults": {}})
    few = ["--decoders", "tiny-2", "--pairs", "2", "--starts", "defaults", "--small", "1"]
    few += ["--networks", "2-128-128-20-softplus", "2-128-128-20-relu", "--random-pairs", "1", "--out", str(tmp_path)]
    found = command.main([*few, "--sections", "mnist", "random", "oracle"])
    assert {file.stem for file in tmp_path.iterdir()} == {*found, "known"}
    assert all(row["within 0.1 %"] == row["converged"] == 2 for row in found["mnist"].values())
    assert found["random"]["2-128-128-20-softplus"]["longer than straight"] == 0
    assert "most off, %" not in found["random"]["2-128-128-20-softplus"]
    assert found["random"]["2-128-128-20-relu"]["off by more than stated"].endswith(" of 1")
    assert found["oracle"]["defaults"]["networks"] == 1
    assert "within 0.1 %" in capsys.readouterr().out


@pytest.mark.slow
def test_the_local_minimum_lies_between_the_strip_of_a_curve_and_the_shortest_path():
    decoder = next(network for seed in range(20) if (network := oracle.network(seed)) is not None)
    ends = torch.tensor([[-1.2, -0.7], [1.3, 0.4]])
    case = oracle.Small(decoder, ends)
    bent = np.array([[-1.2, -0.7], [0.1, 0.9], [1.3, 0.4]])
    own, local = case.local(bent)
    assert case.shortest * (1 - 1e-12) <= local <= own
    assert own <= float(polygon_length(case.manifold, torch.from_numpy(bent)[None])) * (1 + 1e-6)


def test_the_strip_around_a_vertex_has_the_same_ends_on_its_other_side():
    decoder = next(network for seed in range(20) if (network := oracle.network(seed)) is not None)
    surface = Polyhedron(decoder)
    strip = surface.strip(np.array([[-1.0, -0.5], [1.0, 0.6]]))
    shared = set(surface.cells[strip[0]].vertices) & set(surface.cells[strip[1]].vertices)
    others = [way for vertex in shared if (way := oracle.around(surface, strip[:2], vertex))]
    assert others
    assert all((way[0], way[-1]) == tuple(strip[:2]) and len(way) > 2 for way in others)
