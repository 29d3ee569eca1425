"""Other libraries take ten seconds to import and half a gigabyte of disk: their tests run where they are asked for."""

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave this folder out unless it is named, as `make adapters` does."""
    return None if any("adapters" in Path(argument).parts for argument in config.args) else True
