"""Models of scvi-tools as decoders of counts: covariates held fixed, one dispersion for each gene."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, NegativeBinomial, Normal, Poisson
from torch.nn.functional import one_hot

from geodesic.adapters.covariates import Registered
from geodesic.adapters.genes import require_genes
from geodesic.adapters.loading import loaded
from geodesic.adapters.wrap import Said, WrappedDecoder, wrapped
from geodesic.checks import brief
from geodesic.errors import DataError, DecoderError, InputError
from geodesic.geometry.refusals import described

__all__ = ["from_scvi"]

_KINDS = "a trained scvi.model.SCVI, LinearSCVI or SCANVI"
_LEFT_OUT = "zero inflation left out"
_ROWS = 4096  # cells that are looked at at once


def from_scvi(
    model: Any, *, batch: Any = None, library: Any = None, covariates: Any = None, cells: Any = None
) -> WrappedDecoder:
    """The decoder of a trained model of scvi-tools, from latent points to counts, under fixed covariates.

        log mean = log library + log softmax f(z, covariates),   phi = 2 sqrt r arcsinh sqrt(mean / r) for each gene

    Counts are negative binomial with one dispersion r a gene, and distances are their Fisher-Rao distances. Of a model
    of Poisson or normal likelihood they are those of its likelihood.

    Warning:
        Zero inflation, scVI's default, is left out: with it there is no closed form. The batch and the library size are
        a part of the geometry: compare lengths under the same ones.

    Args:
        model: A trained `SCVI`, `LinearSCVI` or `SCANVI`; or the folder that an `SCVI` was saved in.
        batch: The batch that counts are decoded for, by its name; or one for each of P pairs. It may be left out where
            the model knows one batch.
        library: Counts of a cell in all, or one for each of P pairs. By default the median of the model's own cells.
            For a model that was told size factors, such a factor.
        covariates: Values of the other covariates that the decoder takes, by the names of their columns: each one
            value, or one for each pair.
        cells: For a folder that has no cells, the `AnnData` to load it with. scvi-tools only warns where its genes are
            in another order, and a loaded model does not know: here it is refused.

    Returns:
        The decoder, as from `geodesic.wrap`: its `mean` are expected counts, its `names` the genes, its `note` what is
        left out.

    Raises:
        DecoderError: The model is of another family, untrained, or its dispersion varies with z.
        InputError: A covariate is missing or unknown, or a library size is not positive.
        CheckpointError: The folder has no model.
        DataError: The genes of the cells are in another order than those of the training, or counts are negative.
        MissingExtraError: A folder is given, and scvi-tools is not installed.

    Reference:
        R. Lopez, J. Regier, M. B. Cole, M. I. Jordan, N. Yosef, Deep generative modeling for single-cell
        transcriptomics, 2018.

    Example:
        >>> import geodesic
        >>> try:
        ...     geodesic.adapters.from_scvi("no/such/folder")
        ... except geodesic.GeodesicError as error:
        ...     print(error)
        model: no/such/folder: no such folder; give the model, or the folder that it was saved in
    """
    if cells is not None and not isinstance(model, str | Path):
        raise InputError("cells: they go with a folder, and a model was given, which has its own; leave cells out")
    model = loaded(model, "scvi", lambda folder: _load(folder, cells), "scvi.model.SCVI.load({}, adata)")
    module = _checked(model)
    registered = Registered.of(model.registry)
    own = getattr(model, "adata", None)
    if own is not None:
        require_genes("model", own, registered.genes)
    batches = registered.batch_numbers(batch)
    others = registered.others(covariates, with_labels=module.dispersion == "gene-label")
    sizes = _library(model, library)
    _require_one_count({"batch": batches, "library": sizes, **others})
    condition = (
        sizes.log()[:, None],
        _log_dispersion(module, batches, others.get(registered.labels.name)),
        _beside(module, batches, [others[column.name] for column in registered.numbers]),
        *_categories(module, registered, batches, others),
    )
    left_out = _LEFT_OUT if module.gene_likelihood == "zinb" else ""
    return wrapped(
        _Counts(module),
        type(model).__name__,
        latent_shape=module.n_latent,
        condition=condition,
        said=Said(left_out, registered.genes),
    )


class _Counts(nn.Module):
    """The decoder of a module of scvi-tools, without what no distance needs: zero inflation, and other dispersions."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        decoder = module.decoder
        self.likelihood = module.gene_likelihood
        linear = hasattr(decoder, "factor_regressor")
        self.hidden = decoder.factor_regressor if linear else decoder.px_decoder
        self.outputs = nn.Identity() if linear else decoder.px_scale_decoder[0]
        self.sums_to_library = linear or isinstance(decoder.px_scale_decoder[1], nn.Softmax)

    def forward(
        self, z: Tensor, library: Tensor, dispersion: Tensor, beside: Tensor, *categories: Tensor
    ) -> Distribution:
        """The distribution of counts for rows of points, log library sizes, log dispersions, numbers and categories."""
        outputs = self.outputs(self.hidden(torch.cat([z, beside], dim=1), *categories))
        # The logarithm at once: rare genes have probabilities below the smallest number in single precision.
        log_share = outputs.log_softmax(1) if self.sums_to_library else nn.functional.softplus(outputs).log()
        log_mean = library + log_share
        if self.likelihood == "poisson":
            return Poisson(log_mean.exp())
        if self.likelihood == "normal":
            return Normal(log_mean.exp(), dispersion.exp().expand_as(log_mean))
        return NegativeBinomial(dispersion.exp().expand_as(log_mean), logits=log_mean - dispersion)


def _load(folder: str, cells: Any) -> Any:
    from scvi.model import SCVI

    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*var_names.*")
        warnings.filterwarnings("ignore", ".*no saved anndata.*")
        try:
            return SCVI.load(folder, cells)
        except UserWarning:
            raise DataError(
                f"cells: their genes are not those that the model in {folder} was trained with, or in another order; "
                "give adata[:, genes], with genes in the order of the training"
            ) from None


def _checked(model: Any) -> Any:
    """The module of a model that can be used.

    Raises:
        DecoderError: It cannot.
    """
    module: Any = getattr(model, "module", None)
    decoder = getattr(module, "decoder", None)
    known = hasattr(decoder, "factor_regressor") or all(hasattr(decoder, x) for x in ("px_decoder", "px_scale_decoder"))
    parts = ("dispersion", "gene_likelihood", "latent_distribution", "n_latent")
    if not known or not hasattr(model, "registry") or any(not hasattr(module, x) for x in parts):
        whole = f"; its module is a {type(module).__name__}" if module is not None else ""
        raise DecoderError(
            f"model: expected {_KINDS}, got {described(model)}{whole}; for another model give its decoder to "
            "geodesic.wrap"
        )
    if not getattr(model, "is_trained", False):
        raise DecoderError("model: it was not trained; call model.train() first, or load one that was")
    if module.dispersion == "gene-cell":
        raise DecoderError(
            "model: its dispersion is 'gene-cell', which varies with z: where mean and dispersion both vary, the "
            "Fisher-Rao distance has no closed form; train one with dispersion='gene'"
        )
    if module.latent_distribution != "normal":
        raise DecoderError(
            f"model: its latent_distribution is {module.latent_distribution!r}: latent points lie on a simplex, which "
            "geodesics would leave; train one with latent_distribution='normal'"
        )
    return module


def _library(model: Any, given: Any) -> Tensor:
    """Library sizes, or size factors, (1,) or (P,)."""
    if given is not None:
        try:
            library = torch.as_tensor(np.asarray(given, dtype=np.float64)).reshape(-1)
        except (TypeError, ValueError):
            raise InputError(f"library: expected a number, or one for each pair, got {brief(given)}") from None
    else:
        library = _median(model)
    if not len(library) or not bool((library.isfinite() & (library > 0)).all()):
        raise InputError(f"library: expected positive counts of a cell in all, got {brief(given)}")
    return library


def _median(model: Any) -> Tensor:
    """The median of the model's own library sizes, or size factors, (1,)."""
    manager = getattr(model, "adata_manager", None)
    if getattr(model, "adata", None) is None or manager is None:
        raise InputError("library: the model holds no cells to take the median from; give one, library=10000")
    if model.module.use_size_factor_key:
        return torch.tensor([float(np.median(manager.get_from_registry("size_factor")))], dtype=torch.float64)
    counts = manager.get_from_registry("X")
    sums = []
    for start in range(0, counts.shape[0], _ROWS):
        chunk = counts[start : start + _ROWS]
        if (least := chunk.min()) < 0 or not np.isfinite(least):
            raise DataError(
                f"model: the counts of its cells hold {least:g}; it takes counts as they were measured, zero or more: "
                "set it up with the layer that holds these"
            )
        sums.append(np.asarray(chunk.sum(axis=1)).ravel())
    return torch.tensor([float(np.median(np.concatenate(sums)))], dtype=torch.float64)


def _require_one_count(values: dict[str, Tensor]) -> None:
    counts = {name: len(value) for name, value in values.items() if len(value) != 1}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise InputError(
            f"{next(iter(counts))}: expected one value for all pairs, or one for each, got {said}; give as many of each"
        )


def _log_dispersion(module: Any, batches: Tensor, labels: Tensor | None) -> Tensor:
    """Log r, (1, D) or (P, D); zeros where the likelihood has none."""
    if module.gene_likelihood == "poisson":
        return torch.zeros(1, 1)
    weights = module.px_r.detach().cpu()
    if weights.dim() == 1:
        return weights[None]
    which = batches if labels is None else labels
    chosen: Tensor = weights[:, which].T
    return chosen


def _categories(module: Any, registered: Registered, batches: Tensor, others: dict[str, Tensor]) -> list[Tensor]:
    """Ones at the given categories, (1, K) or (P, K) for each column, in the order in which the decoder takes them."""
    given = [(batches, registered.batch)] if module.batch_representation == "one-hot" else []
    given += [(others[column.name], column) for column in registered.categories]
    return [one_hot(numbers, len(column.levels or ())).float() for numbers, column in given]


def _beside(module: Any, batches: Tensor, numbers: list[Tensor]) -> Tensor:
    """What the decoder takes in one row with z: numbers, then the embedding of the batch; (1, K) or (P, K)."""
    parts = [number[:, None] for number in numbers]
    if module.batch_representation == "embedding":
        parts.append(module.get_embedding("batch").weight.detach().cpu()[batches])
    rows = max(map(len, parts), default=1)
    return torch.cat([part.expand(rows, -1) for part in parts], dim=1) if parts else torch.zeros(1, 0)
