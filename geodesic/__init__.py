"""Shortest paths in the latent spaces of variational autoencoders, exact and in batches."""

import importlib
from typing import Any

__version__ = "0.1.0"

# The table of contents: where every public name lives. Nothing is imported until it is asked for.
_MODULES = {
    "geodesic.errors": (
        "CheckpointError",
        "DataError",
        "DecoderError",
        "GeodesicError",
        "GeodesicWarning",
        "InputError",
        "MissingExtraError",
        "RunFolderError",
        "SettingsError",
        "SingularMetricError",
        "TrainingDiverged",
        "TrainingInterrupted",
    ),
    "geodesic.autodiff": (
        "curl",
        "derivative",
        "divergence",
        "gradient",
        "jacobian",
        "jvp",
        "laplacian",
        "vjp",
    ),
    "geodesic.experiment.settings.load": ("load_settings",),
    "geodesic.experiment.settings.whole": ("Settings",),
    "geodesic.data.dataset": ("Dataset", "Split"),
    "geodesic.data.load": ("load_data",),
    "geodesic.geometry.outputs": (
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
    ),
    "geodesic.geometry.manifold": ("Manifold",),
    "geodesic.geometry.embedded": ("EmbeddedManifold",),
    "geodesic.geometry.chords": ("ChordManifold", "MetricManifold"),
    "geodesic.geometry.metrics": ("DensityManifold", "LocalVarianceManifold", "MetricFunction"),
    "geodesic.geometry.ensembles": ("EnsembleManifold", "IndependentEnsembleManifold"),
    "geodesic.geometry.pullback": ("PullbackManifold",),
    "geodesic.geometry.surfaces": (
        "Catenoid",
        "Cone",
        "Cylinder",
        "DistanceManifold",
        "FlatTorus",
        "Helicoid",
        "HyperbolicPlane",
        "Paraboloid",
        "Pseudosphere",
        "Saddle",
        "Sphere",
        "StereographicSphere",
        "Surface",
        "SwissRoll",
        "SymmetricSurface",
        "Torus",
    ),
    "geodesic.geometry.path": ("constant_speed", "path_length", "refine_path", "straight_path"),
    "geodesic.geometry.energy": ("energy_gradient", "path_energy"),
    "geodesic.geometry.encoder": ("encoder_direction",),
    "geodesic.geometry.excess": ("relative_excess_energy",),
    "geodesic.geometry.residual": ("decoder_residual",),
    "geodesic.models.likelihoods": (
        "Bernoulli",
        "Categorical",
        "ContinuousBernoulli",
        "Discretized",
        "Gaussian",
        "Likelihood",
        "NegativeBinomial",
        "Poisson",
    ),
    "geodesic.models.vae": ("VAE",),
    "geodesic.models.networks.convolutional": ("ConvNetwork",),
    "geodesic.models.networks.mlp": ("MLPNetwork",),
    "geodesic.models.evaluation": ("evaluate_elbo", "importance_weighted_bound"),
    "geodesic.models.training.plan": ("Training",),
    "geodesic.models.training.train": ("TrainingResult", "train_vae"),
    "geodesic.solvers.solver": ("Solver",),
    "geodesic.solvers.gradient_descent": ("GradientDescent",),
    "geodesic.solvers.lbfgs": ("LBFGS",),
    "geodesic.solvers.newton": ("Newton",),
    "geodesic.solvers.newton_krylov": ("NewtonKrylov",),
    "geodesic.solvers.initial": ("GraphPaths", "graph_path"),
    "geodesic.solvers.status": ("Status",),
    "geodesic.solvers.progress": ("Progress",),
    "geodesic.solvers.solution": ("GeodesicSolution",),
    "geodesic.solvers.choose": ("choose_solver",),
    "geodesic.solvers.search": ("Search",),
    "geodesic.solvers.solve": ("solve",),
    "geodesic.riemannian.distance": ("distance", "length_ratio"),
    "geodesic.riemannian.maps.follow": ("Follow",),
    "geodesic.riemannian.maps.exp_map": ("ExponentialMap", "exp_map"),
    "geodesic.riemannian.maps.log_map": ("LogarithmMap", "log_map"),
    "geodesic.riemannian.curvature.tensors": (
        "christoffel_symbols",
        "ricci_tensor",
        "riemann_tensor",
        "scalar_curvature",
    ),
    "geodesic.riemannian.curvature.sectional": ("sectional_curvature",),
    "geodesic.riemannian.curvature.magnification": (
        "anisotropy",
        "condition_number",
        "log_volume",
        "magnification_factor",
    ),
    "geodesic.riemannian.curvature.jacobi": ("JacobiField", "jacobi_field"),
    "geodesic.riemannian.curvature.conjugate": ("ConjugatePoints", "conjugate_points"),
    "geodesic.riemannian.minimality": ("Minimality", "is_minimizing"),
    "geodesic.riemannian.transport.parallel": ("ParallelTransport", "parallel_transport"),
    "geodesic.riemannian.maps.shooting": ("shoot",),
    "geodesic.riemannian.transport.analogy": ("Analogy", "analogy"),
    "geodesic.riemannian.statistics.centers": ("FrechetMean",),
    "geodesic.riemannian.statistics.mean": ("frechet_mean", "frechet_variance"),
    "geodesic.riemannian.statistics.median": ("frechet_median",),
    "geodesic.riemannian.statistics.k_means": ("Clustering", "k_means"),
    "geodesic.riemannian.statistics.k_medoids": ("MedoidClustering", "k_medoids"),
    "geodesic.riemannian.statistics.principal": ("PrincipalGeodesics", "principal_geodesic_analysis"),
    "geodesic.riemannian.statistics.regression": ("GeodesicRegression", "geodesic_regression"),
    "geodesic.riemannian.statistics.normal": ("RiemannianSamples", "riemannian_normal"),
    "geodesic.riemannian.statistics.walk": ("RandomWalk", "random_walk"),
}
# Modules that users reach as `geodesic.outputs.FisherRaoPoisson`, without an import of their own.
_SUBMODULES = ("autodiff", "likelihoods", "outputs", "surfaces")
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"geodesic.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'geodesic' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
