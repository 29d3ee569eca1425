"""The benchmark of models of users counts their lines and comes to certified solutions."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import geodesic
from scripts.benchmarks import adapters, own


@pytest.fixture
def _threads() -> Iterator[None]:
    """Benchmarks set the number of threads, which the other tests should not feel."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("_threads")
def test_a_model_of_a_user_comes_to_a_certified_solution() -> None:
    (row,) = own.main(["--models", "distributions", "--pairs", "2"]).values()
    assert (row["d"], row["lines"]) == ("2", "2")
    assert row["converged"] == row["resolved"] == "2 of 2"
    assert row["ended"] == "2 converged"


@pytest.mark.slow
def test_a_model_that_is_refused_has_its_reason_in_the_table() -> None:
    def recipe(folder: Path, start: Tensor, end: Tensor) -> own.Solution:
        return geodesic.solve(geodesic.wrap(nn.Linear(3, 2)).manifold(), start, end)

    row = own.measure(own.Own(recipe, 2, {}), 1)
    assert (row["lines"], row["converged"], row["ended"]) == ("1", "-", "refused")
    assert "points of shape" in row["in words"]


def test_nobody_writes_more_than_three_lines_for_a_model_of_theirs() -> None:
    assert {name for name, model in own.MODELS.items() if not 1 <= own.lines_of(model.recipe) <= 3} == set()


def test_nobody_writes_more_than_three_lines_for_a_model_of_another_library() -> None:
    assert {name for name, (recipe, *_) in adapters.MODELS.items() if not 1 <= own.lines_of(recipe) <= 3} == set()


def test_what_an_adapter_comes_to_is_in_the_table() -> None:
    def recipe(model: nn.Module, pairs: int) -> own.Solution:
        return geodesic.solve(geodesic.wrap(model).manifold(), torch.zeros(pairs, 2), torch.ones(pairs, 2))

    row = adapters.measure(recipe, (nn.Linear(2, 3),), 2)
    assert (row["latent"], row["lines"], row["converged"], row["length over straight"]) == ("2", "1", "2 of 2", "1.000")


def test_lines_are_those_between_a_heading_and_its_end() -> None:
    def folded() -> list[int]:
        many = [
            1,
            2,
        ]
        return many

    assert own.lines_of(folded) == 5
