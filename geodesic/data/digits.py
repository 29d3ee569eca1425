"""scikit-learn's handwritten digits, which are always at hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from geodesic.data.dataset import Dataset, Split
from geodesic.data.source import DATA_SETS, ShuffledSource

__all__ = ["Digits"]


@DATA_SETS.register("digits")
@dataclass(frozen=True)
class Digits(ShuffledSource):
    """scikit-learn's 1,797 handwritten digits, 8 x 8, bundled; divided by 16, so that pixels lie in [0, 1].

    Args:
        test_fraction: Part of the rows held out.
        limit: Keep only the first so many training rows.
        seed: Seed of the split.

    Example:
        >>> from geodesic.data.digits import Digits
        >>> len(Digits(test_fraction=0.5).load().test)
        898
    """

    def read(self) -> Dataset:
        """All digits, shuffled, with their labels."""
        from sklearn.datasets import load_digits  # slow to import

        bunch = load_digits()
        values = torch.from_numpy(bunch.images / 16).float().unsqueeze(1)
        whole = Split(values, torch.from_numpy(bunch.target).long())
        return self.split(whole, "the bundled digits")
