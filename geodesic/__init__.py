"""Shortest paths in the latent spaces of variational autoencoders, exact and in batches."""

from geodesic.contents import contents

__version__ = "0.2.0"

# The table of contents: where every name at the top lives. Nothing is imported until it is asked for.
_MODULES = {
    "geodesic.errors": ("GeodesicError",),
    "geodesic.experiment.settings.load": ("load_settings",),
    "geodesic.data.load": ("load_data",),
    "geodesic.adapters.weights": ("load_weights",),
    "geodesic.adapters.wrap": ("wrap",),
    "geodesic.geometry.manifold": ("Manifold",),
    "geodesic.geometry.metrics": (
        "MetricFunction",
        "LocalVarianceManifold",
        "DensityManifold",
    ),
    "geodesic.geometry.ensembles": (
        "EnsembleManifold",
        "IndependentEnsembleManifold",
    ),
    "geodesic.geometry.pullback": ("PullbackManifold",),
    "geodesic.geometry.path": (
        "path_length",
        "refine_path",
        "straight_path",
    ),
    "geodesic.geometry.energy": (
        "path_energy",
        "energy_gradient",
    ),
    "geodesic.geometry.encoder": ("encoder_direction",),
    "geodesic.models.vae": ("VAE",),
    "geodesic.models.training.train": ("train_vae",),
    "geodesic.solvers.gradient_descent": ("GradientDescent",),
    "geodesic.solvers.lbfgs": ("LBFGS",),
    "geodesic.solvers.newton": ("Newton",),
    "geodesic.solvers.newton_krylov": ("NewtonKrylov",),
    "geodesic.solvers.initial": ("graph_path",),
    "geodesic.solvers.status": ("Status",),
    "geodesic.solvers.solution": ("GeodesicSolution",),
    "geodesic.solvers.search": ("Search",),
    "geodesic.solvers.solve": ("solve",),
    "geodesic.riemannian.distance": ("distance",),
    "geodesic.riemannian.maps.follow": ("Follow",),
    "geodesic.riemannian.maps.exp_map": ("exp_map",),
    "geodesic.riemannian.maps.log_map": ("log_map",),
    "geodesic.riemannian.curvature.tensors": ("christoffel_symbols",),
    "geodesic.riemannian.curvature.sectional": ("sectional_curvature",),
    "geodesic.riemannian.curvature.magnification": ("magnification_factor",),
    "geodesic.riemannian.curvature.jacobi": ("jacobi_field",),
    "geodesic.riemannian.curvature.conjugate": ("conjugate_points",),
    "geodesic.riemannian.minimality": ("is_minimizing",),
    "geodesic.riemannian.transport.parallel": ("parallel_transport",),
    "geodesic.riemannian.maps.shooting": ("shoot",),
    "geodesic.riemannian.transport.analogy": ("analogy",),
    "geodesic.riemannian.statistics.mean": ("frechet_mean",),
    "geodesic.riemannian.statistics.median": ("frechet_median",),
    "geodesic.riemannian.statistics.k_means": ("k_means",),
    "geodesic.riemannian.statistics.k_medoids": ("k_medoids",),
    "geodesic.riemannian.statistics.principal": ("principal_geodesic_analysis",),
    "geodesic.riemannian.statistics.regression": ("geodesic_regression",),
    "geodesic.riemannian.statistics.normal": ("riemannian_normal",),
    "geodesic.riemannian.statistics.stop": ("Stop",),
    "geodesic.riemannian.statistics.walk": ("random_walk",),
    "geodesic.distances.matrix": ("distance_matrix",),
    "geodesic.distances.neighbors": ("nearest",),
    "geodesic.distances.store.stored": ("open_distances",),
    "geodesic.drawing.paths": ("plot",),
    "geodesic.drawing.strips": ("plot_strip",),
    "geodesic.drawing.maps": ("plot_map",),
    "geodesic.reporting.report": ("report",),
    "geodesic.explorer.explore": ("explore",),
}
# What a user reaches for less often: `geodesic.outputs.FisherRaoPoisson`, without an import of its own.
_SUBMODULES = (
    "adapters",
    "autodiff",
    "data",
    "distances",
    "errors",
    "experiment",
    "geometry",
    "likelihoods",
    "models",
    "outputs",
    "riemannian",
    "solvers",
    "surfaces",
)

__getattr__, _names, _public = contents("geodesic", _MODULES, _SUBMODULES)
__all__ = ["__version__", *_public]


def __dir__() -> list[str]:
    return __all__
