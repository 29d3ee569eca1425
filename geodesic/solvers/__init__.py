"""How a geodesic is found: the driver, its answer, and the methods that improve a path, one file each."""

from geodesic.solvers import gradient_descent, lbfgs, newton, newton_krylov  # each registers its kind

__all__ = ["gradient_descent", "lbfgs", "newton", "newton_krylov"]
