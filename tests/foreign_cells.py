"""What stands in for scvi-tools and anndata: the attributes and signatures that the adapters use, and no more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn

__all__ = ["Cells", "Scvi"]

GENES = tuple(f"gene{k}" for k in range(7))


class Layers(nn.Module):
    """`scvi.nn.FCLayers`: linear, batch normalization, ReLU; categories are joined to each layer's input."""

    def __init__(self, n_in: int, n_out: int, sizes: tuple[int, ...], relu: bool = True) -> None:
        super().__init__()
        self.n_cat_list = [size if size > 1 else 0 for size in sizes]
        self.linear = nn.Linear(n_in + sum(self.n_cat_list), n_out)
        self.norm, self.activation = nn.BatchNorm1d(n_out, eps=0.001), nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor, *categories: Tensor) -> Tensor:
        joined = []
        for size, category in zip(self.n_cat_list, categories, strict=False):
            if size > 1:
                one_hot = category.size(1) == size
                joined.append(category if one_hot else nn.functional.one_hot(category.squeeze(-1), size))
        return self.activation(self.norm(self.linear(torch.cat((x, *joined), dim=-1))))


class Decoder(nn.Module):
    """`scvi.nn.DecoderSCVI`."""

    def __init__(self, n_in: int, genes: int, sizes: tuple[int, ...], by_factors: bool) -> None:
        super().__init__()
        self.px_decoder = Layers(n_in, 16, sizes)
        self.px_scale_decoder = nn.Sequential(nn.Linear(16, genes), nn.Softplus() if by_factors else nn.Softmax(-1))
        self.px_r_decoder, self.px_dropout_decoder = nn.Linear(16, genes), nn.Linear(16, genes)

    def scale(self, z: Tensor, *categories: Tensor) -> Tensor:
        return self.px_scale_decoder(self.px_decoder(z, *categories))


class LinearDecoder(nn.Module):
    """`scvi.nn.LinearDecoderSCVI`."""

    def __init__(self, n_in: int, genes: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.factor_regressor = Layers(n_in, genes, sizes, relu=False)

    def scale(self, z: Tensor, *categories: Tensor) -> Tensor:
        return self.factor_regressor(z, *categories).softmax(-1)


class Module(nn.Module):
    """`scvi.module.VAE`."""

    def __init__(self, dispersion: str, likelihood: str, columns: dict[str, int], **more: Any) -> None:
        super().__init__()
        self.dispersion, self.gene_likelihood, self.n_latent = dispersion, likelihood, 2
        self.latent_distribution = more.get("latent_distribution", "normal")
        self.use_size_factor_key = more.get("size_factors", False)
        self.batch_representation = more.get("batch_representation", "one-hot")
        batches, labels = columns["batch"], columns["labels"]
        embedded = self.batch_representation == "embedding"
        sizes = (
            *(() if embedded else (batches,)),
            *(n for key, n in columns.items() if key not in ("batch", "labels")),
        )
        self.embedding = nn.Embedding(batches, 3)
        n_in = 2 + more.get("numbers", 0) + (3 if embedded else 0)
        linear = more.get("linear", False)
        genes = len(GENES)
        made = LinearDecoder(n_in, genes, sizes) if linear else Decoder(n_in, genes, sizes, self.use_size_factor_key)
        self.decoder = made
        shape = {"gene": (genes,), "gene-batch": (genes, batches), "gene-label": (genes, labels)}.get(dispersion)
        if shape is not None:
            self.px_r = nn.Parameter(torch.randn(shape))
        for module in self.modules():  # as training leaves them
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)

    def get_embedding(self, key: str) -> nn.Embedding:
        return {"batch": self.embedding}[key]


class Scvi:
    """`scvi.model.SCVI`, trained: what it is made of, and the registry of the cells that it was trained with."""

    def __init__(
        self,
        dispersion: str = "gene",
        likelihood: str = "zinb",
        *,
        batches: tuple[Any, ...] = ("first", "second"),
        labels: tuple[Any, ...] = (0,),
        categories: dict[str, tuple[Any, ...]] | None = None,
        numbers: tuple[str, ...] = (),
        counts: Any = None,
        **more: Any,
    ) -> None:
        categories = categories or {}
        columns = {"batch": len(batches), "labels": len(labels), **{key: len(x) for key, x in categories.items()}}
        with torch.random.fork_rng([]):
            torch.manual_seed(3)
            self.module = Module(dispersion, likelihood, columns, numbers=len(numbers), **more).float()
        self.is_trained = True
        extra = {"mappings": categories, "field_keys": list(categories), "n_cats_per_key": []} if categories else {}
        fields = {
            "X": {"column_names": np.array(GENES, dtype=object)},
            "batch": {"categorical_mapping": np.array(batches, dtype=object), "original_key": "donor"},
            "labels": {"categorical_mapping": np.array(labels, dtype=object), "original_key": "cell_type"},
            "extra_categorical_covs": extra,
            "extra_continuous_covs": {"columns": np.array(numbers, dtype=object)} if numbers else {},
        }
        self.registry = {"field_registries": {key: {"state_registry": state} for key, state in fields.items()}}
        if counts is None:
            counts = scipy.sparse.csr_matrix(np.arange(35.0).reshape(5, 7))
        self.adata = SimpleNamespace(var_names=list(GENES))
        data = {"X": counts, "size_factor": np.array([[1.0], [4.0], [2.0]])}
        self.adata_manager = SimpleNamespace(get_from_registry=data.__getitem__)
        self.module.train()  # as a copy in training mode would be: rows of a batch depend on each other

    def mu(self, z: Tensor, library: float, batch: int, beside: Tensor | None = None, *categories: Tensor) -> Tensor:
        """The means of counts, as `generative` of the module has them."""
        self.module.eval()
        x = z if beside is None else torch.cat([z, beside.expand(len(z), -1)], dim=1)
        batches = () if self.module.batch_representation == "embedding" else (torch.full((len(z), 1), batch),)
        share = self.module.decoder.scale(x, *batches, *categories)
        self.module.train()
        return library * share


class Cells:
    """`anndata.AnnData` without counts: names, and the tables that are written."""

    def __init__(self, n: int) -> None:
        self.n_obs, self.obs_names, self.var_names = n, [f"cell{k}" for k in range(n)], list(GENES)
        self.obsp: dict[str, Any] = {}
        self.uns: dict[str, Any] = {}
        self.obsm: dict[str, Any] = {}
