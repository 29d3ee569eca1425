"""Cells that grow along two branches, in two batches, with known order: what the real libraries are tried on."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["branching"]


def branching(cells: int = 500, genes: int = 200) -> Any:
    """Counts of cells whose genes go up and down along a trunk and two branches.

    Returns:
        The `AnnData`, with `obs["time"]` from 0 to 1, `obs["branch"]` and `obs["donor"]`.
    """
    import anndata

    random = np.random.default_rng(0)
    time, branch, donor = random.random(cells), random.integers(0, 2, cells), random.integers(0, 2, cells)
    place = np.stack([time, np.where(time > 0.5, (time - 0.5) * (2 * branch - 1), 0)], axis=1)
    slopes, waves = random.normal(0, 1.2, (2, genes)), random.normal(0, 1.0, (2, genes))
    rate = np.exp(random.normal(0, 1, genes) + place @ slopes + np.sin(3 * place) @ waves)
    rate *= np.exp(0.3 * random.normal(size=(2, genes)))[donor]
    rate *= random.lognormal(7.5, 0.4, (cells, 1)) / rate.sum(axis=1, keepdims=True)
    r = np.exp(random.normal(1, 0.5, genes))
    adata = anndata.AnnData(random.poisson(random.gamma(r, rate / r)).astype(np.float32))
    adata.obs_names, adata.var_names = [f"cell{k}" for k in range(cells)], [f"gene{k}" for k in range(genes)]
    adata.obs["time"], adata.obs["branch"] = time, np.array(["left", "right"])[branch]
    adata.obs["donor"] = np.array(["anna", "ben"])[donor]
    adata.obs["sex"], adata.obs["age"] = np.array(["f", "m"])[random.integers(0, 2, cells)], random.random(cells)
    adata.obs["size"] = np.asarray(adata.X).sum(axis=1) / 1000
    return adata
