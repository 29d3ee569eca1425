"""Geodesic distances as scikit-learn takes them: in front of any estimator with `metric="precomputed"`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from geodesic.checks import require_integer
from geodesic.distances.matrix import distance_matrix
from geodesic.distances.neighbors import nearest
from geodesic.distances.record import DistanceMatrix
from geodesic.errors import InputError
from geodesic.solvers.search import Search

__all__ = ["GeodesicDistances", "GeodesicNeighbors"]


class _OfLatentPoints(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What both have in common: latent points that are kept, and a manifold that is shared by copies."""

    def __sklearn_clone__(self) -> Any:
        # scikit-learn would copy the decoder for each fold; a manifold never changes.
        return type(self)(**self.get_params(deep=False))

    def _keep(self, X: Any) -> None:
        self.points_: NDArray[Any] = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        self._n_features_out = len(self.points_)

    def _asked(self, X: Any) -> NDArray[Any] | None:
        """The points of a call of `transform`, in the dtype of those kept; None where they are these."""
        check_is_fitted(self, "points_")
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False).astype(self.points_.dtype, copy=False)
        return None if np.array_equal(X, self.points_) else X


class GeodesicNeighbors(_OfLatentPoints):
    """The nearest latent points by geodesic distance as a sparse matrix: a `KNeighborsTransformer`.

    Goes in front of `KNeighborsClassifier`, `DBSCAN` and others with `metric="precomputed"`, see `geodesic.nearest`.

    Args:
        manifold: Where to measure.
        n_neighbors: Of each point. In the mode "distance" one more is given, since a point that was fitted is the
            nearest one to itself.
        mode: "distance", or "connectivity" for ones.
        search: How geodesics are looked for; None as by default.

    Attributes:
        points_: The latent points that were fitted, (N, d).

    Example:
        >>> import numpy as np, geodesic
        >>> from geodesic.adapters.sklearn import GeodesicNeighbors
        >>> z = np.linspace(1, 12, 40)[:, None] * [1.0, 0.0]
        >>> graph = GeodesicNeighbors(geodesic.surfaces.SwissRoll(), n_neighbors=2).fit_transform(z)
        >>> graph.shape, graph[0].indices.tolist()
        ((40, 40), [0, 1, 2])
    """

    # scikit-learn's contract: whatever it is given, `__init__` keeps it and refuses nothing.
    def __init__(self, manifold: Any, *, n_neighbors: Any = 5, mode: Any = "distance", search: Any = None) -> None:
        self.manifold = manifold
        self.n_neighbors = n_neighbors
        self.mode = mode
        self.search = search

    def fit(self, X: Any, y: Any = None) -> GeodesicNeighbors:
        """Keep latent points, (N, d). No geodesic is solved for yet."""
        self._keep(X)
        return self

    def transform(self, X: Any) -> csr_matrix:
        """Of each latent point, (Q, d), the nearest ones that were fitted: (Q, N), rows in the order of distance.

        Raises:
            InputError: `mode` is unknown, or there are fewer points than neighbors.
        """
        if self.mode not in ("distance", "connectivity"):
            raise InputError(f"mode: expected 'distance' or 'connectivity', got {self.mode!r}")
        queries = self._asked(X)
        most = len(self.points_) - (self.mode == "distance")
        require_integer("n_neighbors", self.n_neighbors, least=1, most=most, note="of the points that were fitted")
        k = self.n_neighbors + (self.mode == "distance")
        search = Search() if self.search is None else self.search
        found: Any = nearest(self.manifold, self.points_, queries, k, search=search)  # type: ignore[call-overload]
        Q, N = len(found.indices), len(self.points_)
        values = found.length if self.mode == "distance" else np.ones_like(found.length)
        return csr_matrix((values.ravel(), found.indices.ravel(), np.arange(0, Q * k + 1, k)), shape=(Q, N))


class GeodesicDistances(_OfLatentPoints):
    """All geodesic distances to latent points as a matrix, for estimators with `metric="precomputed"`.

    See `geodesic.distance_matrix`.

    Args:
        manifold: Where to measure.
        method: "exact", "straight", "graph", "landmarks", or a record with settings.
        search: How geodesics are looked for; None as by default.

    Attributes:
        points_: The latent points that were fitted, (N, d).
        matrix_: The distances between them with their bounds, after `fit_transform`.

    Example:
        >>> import numpy as np, geodesic
        >>> from geodesic.adapters.sklearn import GeodesicDistances
        >>> z = np.array([[1.0, 0.0], [1.2, 0.1], [6.0, 0.0]])
        >>> GeodesicDistances(geodesic.surfaces.SwissRoll()).fit_transform(z).round(2)
        array([[ 0.  ,  0.31, 18.35],
               [ 0.31,  0.  , 18.05],
               [18.35, 18.05,  0.  ]])
    """

    # As above.
    def __init__(self, manifold: Any, *, method: Any = "exact", search: Any = None) -> None:
        self.manifold = manifold
        self.method = method
        self.search = search

    def fit(self, X: Any, y: Any = None) -> GeodesicDistances:
        """Keep latent points, (N, d). No geodesic is solved for yet."""
        self._keep(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[Any]:
        """All distances between latent points, (N, N), each found once.

        Raises:
            InputError: Between some points no curve has a length.
        """
        self._keep(X)
        self.matrix_ = self._measured(None)
        return _lengths(self.matrix_)

    def transform(self, X: Any) -> NDArray[Any]:
        """The distances from latent points, (Q, d), to those that were fitted, (Q, N).

        Raises:
            InputError: Between some points no curve has a length.
        """
        return _lengths(self._measured(self._asked(X)))

    def _measured(self, queries: NDArray[Any] | None) -> DistanceMatrix:
        points, others = (self.points_, None) if queries is None else (queries, self.points_)
        search = Search() if self.search is None else self.search
        between: Any = (points, others)
        return distance_matrix(self.manifold, *between, method=self.method, search=search)


def _lengths(matrix: Any) -> NDArray[Any]:
    length: NDArray[Any] = np.asarray(matrix.length)
    if missing := int(np.isnan(length).sum()):
        raise InputError(
            f"manifold: {missing} pairs have no curve with a length, which no estimator takes: {matrix.summary()}"
        )
    return length
