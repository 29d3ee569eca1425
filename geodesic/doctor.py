"""What `geodesic doctor` finds: versions, devices, missing extras, and whether this package is ours."""

from __future__ import annotations

import importlib
import os
import platform
from dataclasses import dataclass

import geodesic
from geodesic.installation import (
    DISTRIBUTION,
    PACKAGE,
    checkout,
    extras,
    hint,
    missing,
    owners,
    requirements,
    version_of,
)

__all__ = ["Diagnosis", "examine"]

_FOREIGN = "geodesic"  # a distribution of somebody else, which installs a package of our name


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        package: Where the imported package lies, and whose it is.
        versions: Package to its version.
        devices: What torch can compute on.
        extras: Extra to what it lacks and the line that installs it, or to "installed".
        problems: What is broken, each with its remedy; empty where all is well.
    """

    package: str
    versions: dict[str, str]
    devices: list[str]
    extras: dict[str, str]
    problems: list[str]

    def rows(self) -> list[tuple[str, str]]:
        """All but the problems, as pairs of a name and what there is to say."""
        devices = [("device", device) for device in self.devices]
        extras = [(f"extra {name}", state) for name, state in self.extras.items()]
        return [("package", self.package), *self.versions.items(), *devices, *extras]


def examine() -> Diagnosis:
    """Look at the installation that this process runs in."""
    package, problems = _origin()
    if lacking := missing():
        problems.append(f"missing: {', '.join(lacking)}; install geodesic again: {_install_line()}")
    problems += filter(None, map(_failure, ("torch", "torchvision")))
    states = {extra: _state(extra) for extra in extras()}
    return Diagnosis(package, _versions(), _devices(), states, problems)


def _origin() -> tuple[str, list[str]]:
    """Where the package comes from, and what is wrong with that."""
    found, folder = owners(), checkout()
    package = f"{PACKAGE}, {'a checkout' if folder else 'a copy'} of {' and '.join(found) or 'no distribution'}"
    remedy = f"pip uninstall {_FOREIGN} {DISTRIBUTION}, then {_install_line()}"
    problems = []
    if folder is None and not any(owner.startswith(f"{DISTRIBUTION} ") for owner in found):
        problems.append(f"the imported package is not that of {DISTRIBUTION}: {package}; {remedy}")
    if foreign := version_of(_FOREIGN):
        problems.append(f"the distribution {_FOREIGN} {foreign} also installs a package named geodesic; {remedy}")
    return package, problems


def _install_line() -> str:
    return "pip install -e ." if checkout() else f"pip install {DISTRIBUTION}"


def _failure(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except Exception as error:  # a wheel that does not fit can fail in any way
        return f"import {module} fails ({error}); install torch and torchvision together, from the same index"
    return None


def _state(extra: str) -> str:
    lacking = missing(extra)
    return f"lacks {', '.join(lacking)}: {hint(extra)}" if lacking else "installed"


def _versions() -> dict[str, str]:
    required = [requirement.name for extra in ("", "train") for requirement in requirements(extra)]
    ours = getattr(geodesic, "__version__", "unknown")  # a foreign package need not say
    found = {name: version_of(name) or "not installed" for name in dict.fromkeys(required)}
    return {"geodesic": ours, "python": platform.python_version(), "platform": platform.platform()} | found


def _devices() -> list[str]:
    if _failure("torch"):
        return []
    import torch

    devices = [f"cpu, {torch.get_num_threads()} threads on {os.cpu_count()} cores"]
    for k in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(k)
        devices.append(f"cuda:{k}, {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    return devices
