"""Experiments: settings, run folders, tables and studies on top of the library."""

from geodesic.contents import contents

__getattr__, __dir__, _names = contents(
    "geodesic.experiment",
    {
        "geodesic.experiment.settings.whole": ("Settings",),
    },
)
__all__ = _names
