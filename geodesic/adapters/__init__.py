"""Models that were made elsewhere: wrapped, filled with their weights, imported by name, taken from other libraries."""

from geodesic.contents import contents

__getattr__, __dir__, __all__ = contents(
    "geodesic.adapters",
    {
        "geodesic.adapters.cells": ("write_distances", "write_neighbors", "write_paths"),
        "geodesic.adapters.diffusers": ("from_diffusers",),
        "geodesic.adapters.expression": ("genes_along", "plot_genes"),
        "geodesic.adapters.pythae": ("from_pythae",),
        "geodesic.adapters.scvi": ("from_scvi",),
    },
)
