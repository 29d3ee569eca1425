"""Whether the genes of some cells are those that a model knows, in its order."""

from __future__ import annotations

from typing import Any

from geodesic.errors import DataError

__all__ = ["require_genes"]


def require_genes(argument: str, cells: Any, genes: tuple[str, ...]) -> None:
    """Refuse cells with other genes than a model's, or in another order.

    Args:
        argument: The user's argument that they come from.
        cells: With `var_names`, as an `AnnData` has.
        genes: Those of the model, in the order of its outputs.

    Raises:
        DataError: With the first gene that differs.

    Example:
        >>> from types import SimpleNamespace
        >>> from geodesic.adapters.genes import require_genes
        >>> require_genes("adata", SimpleNamespace(var_names=["CD4", "CD8"]), ("CD4", "CD8"))
    """
    found = tuple(map(str, cells.var_names))
    if found == genes:
        return
    missing = [gene for gene in genes if gene not in set(found)]
    if missing:
        what = f"has no gene {missing[0]!r}, which the model was trained with"
    elif len(found) > len(genes):
        extra = next(gene for gene in found if gene not in set(genes))
        what = f"has {len(found)} genes, {extra!r} among them, and the model was trained with {len(genes)}"
    else:
        k = next(k for k, (a, b) in enumerate(zip(found, genes, strict=True)) if a != b)
        what = f"has its genes in another order: gene {k} is {found[k]!r}, and was {genes[k]!r} in training"
    raise DataError(f"{argument}: {what}; give adata[:, list(decoder.names)], or cells that the model was trained with")
