"""What is installed: our distribution, its extras, and the line that installs what is missing.

The distribution is named `geodesic-vae`, the package `geodesic`: another distribution installs a package of that name.
Requirements are read from pyproject.toml in a checkout, and from the installed metadata elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import importlib.metadata
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from geodesic.errors import MissingExtraError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = [
    "DISTRIBUTION",
    "PACKAGE",
    "checkout",
    "extras",
    "hint",
    "missing",
    "owners",
    "require",
    "requirements",
    "version_of",
]

DISTRIBUTION = "geodesic-vae"
PACKAGE = Path(__file__).parent


def hint(extra: str) -> str:
    """The line that installs an extra, in a checkout or elsewhere; without a name, what all need.

    Example:
        >>> from geodesic.installation import hint
        >>> hint("train").endswith("[train]'")
        True
    """
    if checkout():
        return f"pip install -e '.[{extra}]'" if extra else "pip install -e ."
    return f"pip install '{DISTRIBUTION}[{extra}]'" if extra else f"pip install {DISTRIBUTION}"


def require(extra: str, *modules: str) -> None:
    """Import modules that come with an extra, or with what all need.

    Args:
        extra: The extra that installs them, such as "train"; "" where none is needed.
        modules: What the caller is about to import.

    Raises:
        MissingExtraError: A module is not installed; the text has the line that installs it.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            top = module.partition(".")[0]
            if error.name is None or error.name.partition(".")[0] != top:
                raise  # it is there, and something that it needs is not
            origin = f"the extra {extra!r}" if extra else DISTRIBUTION
            raise MissingExtraError(f"{top} is not installed; it comes with {origin}: {hint(extra)}") from None


def checkout() -> Path | None:
    """The folder of the checkout that this package is imported from; None where it was installed as a copy."""
    return PACKAGE.parent if _project() else None


def version_of(distribution: str) -> str | None:
    """The installed version of any distribution; None where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def extras() -> tuple[str, ...]:
    """The names of our extras."""
    if project := _project():
        return tuple(project["optional-dependencies"])
    try:
        return tuple(importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ())
    except importlib.metadata.PackageNotFoundError:
        return ()


def requirements(extra: str = "") -> list[Requirement]:
    """What an extra requires, with what the extras that it includes require; without a name, what all need."""
    from packaging.requirements import Requirement

    found: list[Requirement] = []
    for requirement in map(Requirement, _declared(extra)):
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue  # for another platform
        if requirement.name == DISTRIBUTION:
            for included in sorted(requirement.extras):
                found += requirements(included)
        else:
            found.append(requirement)
    return found


def missing(extra: str = "") -> list[str]:
    """The requirements of an extra that are not met, such as "lightning>=2.6.6 (2.5.0 is installed)"."""
    found = []
    for requirement in requirements(extra):
        version = version_of(requirement.name)
        wanted = f"{requirement.name}{requirement.specifier}"
        if version is None:
            found.append(wanted)
        elif not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{wanted} ({version} is installed)")
    return found


def owners() -> list[str]:
    """The distributions that the imported package belongs to, as "name version".

    A copy belongs to those whose record has its `__init__.py` with the same contents; a checkout to those that were
    installed from it as editable. A checkout that is only on the path belongs to none.
    """
    file = PACKAGE / "__init__.py"
    digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()
    return [
        f"{distribution.metadata['Name']} {distribution.version}"
        for distribution in importlib.metadata.distributions()
        if _editable_folder(distribution) == PACKAGE.parent or _has_copied(distribution, file, digest)
    ]


def _project() -> dict[str, Any] | None:
    """The table [project] of our pyproject.toml, where it lies beside the package."""
    try:
        project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    except (OSError, ValueError, KeyError):
        return None
    return project if project.get("name") == DISTRIBUTION else None


def _declared(extra: str) -> Iterator[str]:
    """Requirements as they are written down for one extra, without the marker that names it."""
    if project := _project():
        yield from project["optional-dependencies"].get(extra, ()) if extra else project["dependencies"]
        return
    from packaging.requirements import Requirement

    try:
        declared = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for text in declared:
        marker = Requirement(text).marker
        always = marker is None or marker.evaluate({"extra": ""})
        if always != bool(extra) and (always or (marker is not None and marker.evaluate({"extra": extra}))):
            yield text


def _editable_folder(distribution: Any) -> Path | None:
    """Where an editable installation lies (PEP 610).

    Once the backport importlib_metadata was imported, by Dask for one, distributions are of its classes.
    """
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlsplit(origin["url"]).path)).resolve()


def _has_copied(distribution: Any, file: Path, digest: str) -> bool:
    """Whether a distribution installed this very file: two of them can have written to one place."""
    if f"{file.parent.name}/{file.name}," not in (distribution.read_text("RECORD") or ""):
        return False
    return any(
        entry.hash is not None and entry.hash.value == digest and Path(str(entry.locate())).resolve() == file.resolve()
        for entry in distribution.files or ()
    )
