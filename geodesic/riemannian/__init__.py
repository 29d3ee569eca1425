"""What geodesics are for: maps, distances, transport, statistics, curvature."""

from geodesic.contents import contents

__getattr__, __dir__, _names = contents(
    "geodesic.riemannian",
    {
        "geodesic.riemannian.distance": ("length_ratio",),
        "geodesic.riemannian.maps.exp_map": ("ExponentialMap",),
        "geodesic.riemannian.maps.log_map": ("LogarithmMap",),
        "geodesic.riemannian.curvature.tensors": (
            "ricci_tensor",
            "riemann_tensor",
            "scalar_curvature",
        ),
        "geodesic.riemannian.curvature.magnification": (
            "anisotropy",
            "condition_number",
            "log_volume",
        ),
        "geodesic.riemannian.curvature.jacobi": ("JacobiField",),
        "geodesic.riemannian.curvature.conjugate": ("ConjugatePoints",),
        "geodesic.riemannian.minimality": ("Minimality",),
        "geodesic.riemannian.transport.parallel": ("ParallelTransport",),
        "geodesic.riemannian.transport.analogy": ("Analogy",),
        "geodesic.riemannian.statistics.centers": ("FrechetMean",),
        "geodesic.riemannian.statistics.mean": ("frechet_variance",),
        "geodesic.riemannian.statistics.k_means": ("Clustering",),
        "geodesic.riemannian.statistics.k_medoids": ("MedoidClustering",),
        "geodesic.riemannian.statistics.principal": ("PrincipalGeodesics",),
        "geodesic.riemannian.statistics.regression": ("GeodesicRegression",),
        "geodesic.riemannian.statistics.normal": ("RiemannianSamples",),
        "geodesic.riemannian.statistics.walk": ("RandomWalk",),
    },
)
__all__ = _names
