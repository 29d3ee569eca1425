"""Tables of contents: packages whose public names are imported when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["contents"]


def contents(
    package: str, table: Mapping[str, Sequence[str]], submodules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package that imports nothing before it is used.

    Args:
        package: Its name.
        table: Module to the public names that live there.
        submodules: Modules of the package that can be reached by attribute without an import of their own.

    Example:
        >>> from geodesic.contents import contents
        >>> attribute, _, names = contents("geodesic", {"geodesic.errors": ("GeodesicError",)})
        >>> attribute("GeodesicError").__name__, names
        ('GeodesicError', ['GeodesicError'])
    """
    home = {name: module for module, names in table.items() for name in names}

    def attribute(name: str) -> Any:
        if name in submodules:
            return importlib.import_module(f"{package}.{name}")
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(home[name]), name)

    names = sorted(home)
    return attribute, lambda: names, names
