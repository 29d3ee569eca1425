"""How a geodesic is found: the driver, its answer, and the methods that improve a path, one file each."""

from geodesic.contents import contents
from geodesic.solvers import gradient_descent, lbfgs, newton, newton_krylov  # each registers its kind

__getattr__, __dir__, _names = contents(
    "geodesic.solvers",
    {
        "geodesic.solvers.solver": ("Solver",),
        "geodesic.solvers.initial": ("GraphPaths",),
        "geodesic.solvers.progress": ("Progress",),
        "geodesic.solvers.plan": ("Plan",),
    },
)
__all__ = [*_names, "gradient_descent", "lbfgs", "newton", "newton_krylov"]
