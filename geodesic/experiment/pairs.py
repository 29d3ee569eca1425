"""Which points to connect: pairs of test rows, or latent points from a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodesic.data.dataset import Split
from geodesic.errors import DataError, SettingsError
from geodesic.experiment.run import Run, to_numpy
from geodesic.experiment.settings import AnalogySettings, FilePairs, IndexPairs, LabelPairs, RandomPairs
from geodesic.files import read_npz

__all__ = ["Pairs", "choose_pairs", "choose_rows", "choose_triples", "rows_of"]


@dataclass(frozen=True)
class Pairs:
    """Latent points to connect.

    Args:
        start: (P, d).
        end: (P, d).
        names: A name for each pair.
        rows: Rows of the test set that they encode, (P, 2); None for points from a file.
    """

    start: Tensor
    end: Tensor
    names: list[str]
    rows: NDArray | None = None

    def arrays(self) -> dict[str, NDArray]:
        """What results hold of them."""
        points = {"start": to_numpy(self.start), "end": to_numpy(self.end)}
        return points if self.rows is None else points | {"rows": self.rows}


def choose_pairs(run: Run) -> Pairs:
    """The pairs that the settings of a run name.

    Raises:
        SettingsError: Rows of test data are asked for, and there are no data or no encoder, or no such rows.
        DataError: A file of points cannot be used.
    """
    pairs = run.settings.pairs
    if isinstance(pairs, FilePairs):
        start, end = (
            torch.as_tensor(points).to(run.device, run.dtype) for points in _read_points(pairs, run.model.latent_size)
        )
        return Pairs(start, end, [str(i) for i in range(len(start))])
    if run.dataset is None or run.test_encodings is None:
        raise SettingsError(
            f"pairs.kind: {pairs.kind!r} picks rows of the test data and encodes them, so it needs data and "
            "an encoder; use pairs: {kind: file, path: points.npz} to give latent points"
        )
    rows = choose_rows(pairs, run.dataset.test)
    start, end = run.test_encodings[rows[:, 0]], run.test_encodings[rows[:, 1]]
    names, labels = [f"{i} to {j}" for i, j in rows], run.labels
    if labels is not None:
        names = [f"{n} ({labels[i]} to {labels[j]})" for n, (i, j) in zip(names, rows, strict=True)]
    return Pairs(start, end, names, rows)


def choose_rows(pairs: IndexPairs | LabelPairs | RandomPairs, test: Split) -> NDArray:
    """Rows of the test set to connect, (P, 2).

    Args:
        pairs: The choice: by index, by label, or at random with a seed.
        test: The test set.

    Raises:
        SettingsError: A row or a label does not exist.
    """
    if isinstance(pairs, IndexPairs):
        for i, row in enumerate(pairs.indices):
            if max(row) >= len(test):
                raise SettingsError(f"pairs.indices.{i}: got {list(row)}; the test set has rows 0 to {len(test) - 1}")
        return np.array(pairs.indices)
    generator = np.random.default_rng(pairs.seed)
    if isinstance(pairs, LabelPairs):
        if test.labels is None:
            raise SettingsError("pairs.kind: 'label' needs data with labels; use random or index")
        ends = [rows_of(test, f"pairs.{key}", label) for key, label in (("from", pairs.from_), ("to", pairs.to))]
        if pairs.from_ == pairs.to:
            return _different_rows(ends[0], pairs.count, generator, f"label {pairs.to}")
        return np.stack([generator.choice(e, pairs.count, replace=len(e) < pairs.count) for e in ends], axis=1)
    if 2 * pairs.count <= len(test):
        return generator.permutation(len(test))[: 2 * pairs.count].reshape(2, -1).T
    # More pairs than disjoint ones exist; the ends of one pair still differ.
    return _different_rows(np.arange(len(test)), pairs.count, generator, "it")


def _different_rows(rows: NDArray, count: int, generator: np.random.Generator, what: str) -> NDArray:
    if len(rows) < 2:
        raise SettingsError(f"pairs: the test set has only 1 row of {what}, and a pair needs 2; use more test data")
    return np.stack([generator.choice(rows, 2, replace=False) for _ in range(count)])


def rows_of(test: Split, key: str, label: int) -> NDArray:
    """All test rows of a label, (N,), that the setting `key` asks for.

    Raises:
        SettingsError: There is none, or there are no labels.
    """
    if test.labels is None:
        raise SettingsError(f"{key}: got {label}, and the data have no labels; leave it out")
    labels = test.labels.numpy()
    rows = np.flatnonzero(labels == label)
    if not len(rows):
        raise SettingsError(f"{key}: no test row has label {label}; present: {np.unique(labels).tolist()}")
    return rows


def choose_triples(analogy: AnalogySettings, test: Split) -> NDArray:
    """Rows a, b, c of the test set for analogies a : b :: c : ?, (A, 3); the three of one analogy differ.

    Raises:
        SettingsError: A row or a label does not exist, or of a label there are too few rows.
    """
    if analogy.triples is not None:
        for i, row in enumerate(analogy.triples):
            if max(row) >= len(test):
                raise SettingsError(f"analogy.triples.{i}: got {list(row)}; the test set has rows 0 to {len(test) - 1}")
        return np.array(analogy.triples)
    generator = np.random.default_rng(analogy.seed)
    labels = {"from": analogy.from_, "to": analogy.to, "target": analogy.target}
    every = np.arange(len(test))
    choices = [every if label is None else rows_of(test, f"analogy.{key}", label) for key, label in labels.items()]
    return np.array([_one_of_each(choices, generator) for _ in range(analogy.count)])


def _one_of_each(choices: list[NDArray], generator: np.random.Generator) -> list[int]:
    chosen: list[int] = []
    for rows in choices:
        left = np.setdiff1d(rows, chosen)
        if not len(left):
            raise SettingsError("analogy: too few test rows for three that differ; choose other labels, or more data")
        chosen.append(int(generator.choice(left)))
    return chosen


def _read_points(pairs: FilePairs, latent_size: int) -> tuple[NDArray, NDArray]:
    """Latent points to connect, from an .npz with `start` and `end`, both (P, latent_size).

    Raises:
        DataError: The file cannot be read, or its arrays have another shape or dtype.
    """
    file = Path(os.path.expandvars(pairs.path))
    arrays = read_npz(file)
    if {"start", "end"} - set(arrays):
        raise DataError(f"{file}: expected arrays `start` and `end`, got {sorted(arrays)}")
    start, end = arrays["start"], arrays["end"]
    for key, a in (("start", start), ("end", end)):
        if a.ndim != 2 or a.shape[1] != latent_size or a.dtype.kind != "f" or not len(a):
            raise DataError(
                f"{file}: expected `{key}` of shape (P, {latent_size}) and floating point dtype, got shape "
                f"{a.shape} and {a.dtype}"
            )
    if len(start) != len(end):
        raise DataError(f"{file}: expected as many starts as ends, got {len(start)} and {len(end)}")
    return start, end
