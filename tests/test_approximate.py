"""Neighbors among approximate candidates: those of all points where none is missed, and what is missed is said."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import geodesic
from geodesic.distances import Approximate, Store, open_neighbors
from geodesic.distances.approximate import approximate_candidates
from geodesic.errors import DataError, InputError, MissingExtraError

K = 4
ROLL = geodesic.surfaces.SwissRoll()


class Index:
    """The signature of pynndescent's, exact but for what it forgets."""

    forgets = 0
    built = 0

    def __init__(self, data: np.ndarray, *, n_neighbors: int, random_state: int) -> None:
        type(self).built += 1
        assert data.dtype == np.float32
        self.data, self.count = data, n_neighbors

    @property
    def neighbor_graph(self) -> tuple[np.ndarray, None]:
        return self.query(self.data, self.count)[0], None

    def query(self, data: np.ndarray, k: int) -> tuple[np.ndarray, None]:
        D = np.linalg.norm(data[:, None] - self.data, axis=2)
        order = D.argsort(1, kind="stable")
        return np.concatenate([order[:, : k - self.forgets], order[:, k : k + self.forgets]], 1), None


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> type[Index]:
    module = ModuleType("pynndescent")
    module.NNDescent = type("NNDescent", (Index,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynndescent", module)
    return module.NNDescent  # type: ignore[attr-defined,no-any-return]


@pytest.fixture(scope="module")
def points() -> Tensor:
    return torch.rand(60, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([10.0, 6.0]) + 1


@pytest.mark.parametrize("itself", [True, False])
def test_neighbors_among_enough_candidates_are_those_of_all_points(
    itself: bool, points: Tensor, index: type[Index]
) -> None:
    queries = None if itself else points[:9] + 0.05
    exact = geodesic.nearest(ROLL, points, queries, K)
    found = geodesic.nearest(ROLL, points, queries, K, candidates=Approximate(count=40))
    assert torch.equal(found.indices, exact.indices)
    torch.testing.assert_close(found.length, exact.length)
    assert found.recall == 1
    assert float(found.open.double().mean()) < 0.1


def test_what_too_few_candidates_leave_out_is_open(points: Tensor, index: type[Index]) -> None:
    """The roll's next turn is near through space: with as many candidates as neighbors, that is all there is."""
    wide = points * torch.tensor([1.0, 10.0])
    found = geodesic.nearest(ROLL, wide, None, K, candidates=Approximate(count=K))
    exact = geodesic.nearest(ROLL, wide, None, K)
    wrong = (found.indices != exact.indices).any(1)
    assert bool(wrong.any())
    assert bool(found.open[wrong].any(1).all())


def test_the_recall_is_that_of_the_index_and_is_said(points: Tensor, index: type[Index]) -> None:
    index.forgets = 5
    found = geodesic.nearest(ROLL, points, None, K, candidates=Approximate(count=20))
    assert found.recall == pytest.approx(0.75)
    assert "candidates are approximate, with a recall of 75.00%" in found.summary()
    assert torch.equal(found.indices[:, 0], torch.arange(len(points)))


def test_a_store_chooses_candidates_once_and_reads_them_again(
    points: Tensor, index: type[Index], tmp_path: Path
) -> None:
    how, store = Approximate(count=20), Store(tmp_path / "store", tile=16)
    memory = geodesic.nearest(ROLL, points, None, K, candidates=how)
    index.built = 0
    stored = geodesic.nearest(ROLL, points, None, K, candidates=how, store=store)
    (tmp_path / "store" / "done" / "1.json").unlink()
    again = geodesic.nearest(ROLL, points, None, K, candidates=how, store=store)
    assert index.built == 1
    assert again.missing == []
    assert torch.equal(stored.load().indices, memory.indices)
    assert open_neighbors(store.path).load().recall == memory.recall
    with pytest.raises(DataError, match="made otherwise: candidates"):
        geodesic.nearest(ROLL, points, None, K, candidates=Approximate(count=21), store=store)


def test_outputs_of_many_numbers_are_projected(index: type[Index]) -> None:
    torch.manual_seed(0)
    manifold = geodesic.PullbackManifold(nn.Linear(3, 200).requires_grad_(False))
    z = torch.randn(300, 3)
    seen: list[tuple[int, ...]] = []
    inner = index.__init__

    def noted(self: Index, data: np.ndarray, **more: int) -> None:
        seen.append(data.shape)
        inner(self, data, **more)

    index.__init__ = noted  # type: ignore[assignment,method-assign]
    _, recall = approximate_candidates(manifold, z, None, Approximate(count=30))
    assert seen == [(300, 64)]
    assert 0.6 < recall < 1


def test_what_cannot_be_searched_is_refused(points: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynndescent", None)
    with pytest.raises(MissingExtraError, match=r"pynndescent is not installed.*neighbors"):
        geodesic.nearest(ROLL, points, None, K, candidates="approximate")
    metric = geodesic.MetricFunction(lambda z: torch.eye(2).expand(len(z), 2, 2))
    with pytest.raises(InputError, match="MetricFunction has no embedding"):
        geodesic.nearest(metric, points, None, K, candidates="approximate")
    for wrong, why in (("fast", "expected 'exact'"), (Approximate(count=3), "from k = 4"), (Approximate(61), "got 61")):
        with pytest.raises(InputError, match=why):
            geodesic.nearest(ROLL, points, None, K, candidates=wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_pynndescent_finds_nearly_all() -> None:
    pytest.importorskip("pynndescent", reason="needs pynndescent, of the extra neighbors")
    z = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    _, recall = approximate_candidates(geodesic.surfaces.StereographicSphere(), z, None, Approximate(count=15))
    assert recall > 0.95
