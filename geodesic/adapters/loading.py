"""Models of other libraries from the folders in which these save them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from geodesic.errors import CheckpointError, GeodesicError
from geodesic.installation import require

__all__ = ["loaded"]


def loaded(model: Any, extra: str, load: Callable[[str], Any], otherwise: str) -> Any:
    """The model itself, or that which lies in a folder.

    Args:
        model: What the user gives: a model, or the path of a folder.
        extra: The extra with the library, which has the library's name.
        load: Loads a model from a folder.
        otherwise: What to give where loading fails; `{}` stands for the folder.

    Raises:
        CheckpointError: There is no such folder, or no model in it that can be loaded.
        MissingExtraError: The library is not installed.
    """
    if not isinstance(model, str | Path):
        return model
    if not Path(model).is_dir():
        raise CheckpointError(f"model: {model}: no such folder; give the model, or the folder that it was saved in")
    require(extra, extra)
    try:
        return load(str(model))
    except GeodesicError:
        raise
    except Exception as error:  # whatever stands in the folder
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        instead = otherwise.format(repr(str(model)))
        raise CheckpointError(f"model: {model} could not be loaded ({reason}); give {instead}") from error
