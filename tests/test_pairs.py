"""Which test rows pairs are made of."""

import numpy as np
import pytest
import torch

from geodesic.data import Split
from geodesic.errors import SettingsError
from geodesic.experiment.pairs import IndexPairs, LabelPairs, RandomPairs


def rows_with_labels(labels: list[int] | None, count: int = 30) -> Split:
    return Split(torch.zeros(count, 2, dtype=torch.float32), None if labels is None else torch.tensor(labels))


def test_random_pairs_repeat_with_the_seed_and_share_no_row() -> None:
    test = rows_with_labels(None)
    one, same, other = (RandomPairs(count=15, seed=seed).rows(test) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert sorted(one.ravel()) == list(range(30))


def test_more_random_pairs_than_disjoint_ones_still_connect_different_rows() -> None:
    rows = RandomPairs(count=100).rows(rows_with_labels(None, count=3))
    assert rows.shape == (100, 2)
    assert (rows[:, 0] != rows[:, 1]).all()
    assert set(rows.ravel()) == {0, 1, 2}


def test_one_row_makes_no_pair() -> None:
    with pytest.raises(SettingsError, match="only 1 row"):
        RandomPairs(count=2).rows(rows_with_labels(None, count=1))


@pytest.mark.parametrize(("from_", "to"), [(0, 1), (1, 1)])
@pytest.mark.parametrize("count", [2, 40])
def test_pairs_by_label_have_these_labels_and_different_ends(from_: int, to: int, count: int) -> None:
    labels = np.array([0, 1] * 15)
    pairs = LabelPairs(from_, to, count)
    rows = pairs.rows(rows_with_labels(labels.tolist()))
    assert labels[rows].tolist() == [[from_, to]] * count
    assert (rows[:, 0] != rows[:, 1]).all()


def test_pairs_by_index_are_taken_as_they_are() -> None:
    indices = ((3, 4), (4, 3), (0, 29))
    rows = IndexPairs(indices).rows(rows_with_labels(None))
    assert rows.tolist() == [list(pair) for pair in indices]
    with pytest.raises(SettingsError, match=r"pairs\.indices\.1: got \[0, 30\]; the test set has rows 0 to 29"):
        IndexPairs(((0, 1), (0, 30))).rows(rows_with_labels(None))


def test_pairs_by_label_need_labels() -> None:
    pairs = LabelPairs(0, 1)
    with pytest.raises(SettingsError, match="needs data with labels"):
        pairs.rows(rows_with_labels(None))
