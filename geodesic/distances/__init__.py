"""Distances between many points: matrices and nearest neighbors, each with bounds."""

from geodesic.contents import contents

__getattr__, __dir__, __all__ = contents(
    "geodesic.distances",
    {
        "geodesic.distances.approximate": ("Approximate",),
        "geodesic.distances.matrix": ("distance_matrix",),
        "geodesic.distances.methods": ("METHODS", "Exact", "Graph", "Landmarks", "Straight"),
        "geodesic.distances.nearest_points": ("NearestPoints",),
        "geodesic.distances.neighbors": ("nearest",),
        "geodesic.distances.record": ("DistanceMatrix",),
        "geodesic.distances.store.settings": ("Store",),
        "geodesic.distances.store.stored": ("StoredDistances",),
        "geodesic.distances.store.stored_neighbors": ("StoredNeighbors", "open_neighbors"),
        "geodesic.distances.told": ("DistanceProgress",),
    },
)
