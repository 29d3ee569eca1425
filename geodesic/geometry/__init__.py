"""What is measured: output geometries, manifolds, paths and their energy. No networks, no loops."""

from geodesic.contents import contents

__getattr__, __dir__, _names = contents(
    "geodesic.geometry",
    {
        "geodesic.geometry.embedded": ("EmbeddedManifold",),
        "geodesic.geometry.chords": (
            "ChordManifold",
            "MetricManifold",
        ),
        "geodesic.geometry.by_row": ("ManifoldByRow",),
        "geodesic.geometry.path": ("constant_speed",),
        "geodesic.geometry.excess": ("relative_excess_energy",),
        "geodesic.geometry.residual": ("decoder_residual",),
    },
)
__all__ = _names
