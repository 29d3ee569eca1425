"""Output geometries: how far apart two decoder outputs are. `geodesic.outputs.FisherRaoPoisson()`, say.

These names are defined in `geodesic.geometry.outputs`.
"""

from geodesic.geometry.outputs import (
    OUTPUT_GEOMETRIES,
    DistanceGeometry,
    Euclidean,
    ExpectedGaussian,
    Features,
    FisherRaoBernoulli,
    FisherRaoCategorical,
    FisherRaoGaussian,
    FisherRaoNegativeBinomial,
    FisherRaoPoisson,
    OutputGeometry,
)

__all__ = [
    "OUTPUT_GEOMETRIES",
    "DistanceGeometry",
    "Euclidean",
    "ExpectedGaussian",
    "Features",
    "FisherRaoBernoulli",
    "FisherRaoCategorical",
    "FisherRaoGaussian",
    "FisherRaoNegativeBinomial",
    "FisherRaoPoisson",
    "OutputGeometry",
]
