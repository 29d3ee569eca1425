"""One numerical policy for every test: float64, a fixed seed, and tolerances that follow from the dtype."""

import gc
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # torch takes seconds to import, and the process that only hands tests to others needs none
    import torch

    from tests.experiments import Home

os.environ["MPLBACKEND"] = "Agg"  # figures go to files, also where there is no display

# The one place for tolerances: a few hundred roundings of numbers of order one.
_TOLERANCES = {
    "torch.float64": {"rtol": 1e-10, "atol": 1e-12},
    "torch.float32": {"rtol": 1e-4, "atol": 1e-5},
}


@contextmanager
def _policy() -> Iterator[None]:
    import torch

    dtype, state = torch.get_default_dtype(), torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(dtype)
    torch.set_rng_state(state)


@pytest.fixture(autouse=True)
def _numerical_policy() -> Iterator[None]:
    with _policy():
        yield


@pytest.fixture(autouse=True, scope="module")
def _numerical_policy_of_what_tests_share() -> Iterator[None]:
    """The same for fixtures of a module, which are set up before those of its first test."""
    with _policy():
        yield


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> "Home":
    """The small experiment, trained, solved and drawn once for all tests; not to be changed."""
    from tests.experiments import make_home  # not before the checks of shapes are on

    with _policy():
        home = make_home(tmp_path_factory.mktemp("small"))
    assert [done.status for done in (home.train, home.solve, home.plot)] == [0, 0, 0], home
    return home


@pytest.fixture
def runs(small: "Home", tmp_path: Path) -> Path:
    """A copy of the folder with the small run, which a test may change."""
    return Path(shutil.copytree(small.folder / "runs", tmp_path / "runs"))


@pytest.fixture
def tolerance() -> Callable[["torch.dtype"], dict[str, float]]:
    """Keywords of `torch.testing.assert_close` for a dtype: `assert_close(a, b, **tolerance(a.dtype))`."""
    return lambda dtype: dict(_TOLERANCES[str(dtype)])


@pytest.fixture
def mnist_folder() -> Path:
    """Folder with the files of MNIST; tests that ask for it are skipped where it is not at hand."""
    root = os.environ.get("GEODESIC_DATA")
    if not root:
        pytest.skip("needs MNIST: set GEODESIC_DATA to the folder that holds mnist/")
    folder = Path(root) / "mnist"
    if not folder.is_dir():
        pytest.skip("needs MNIST: GEODESIC_DATA is set, but there is no folder mnist/ in it")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Without looking for garbage, then or later, among what is made here: that took a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    torch.set_num_threads(1)  # one test process a core; more threads than cores make small tensors slow
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device, and torch finds none here")
    for item in items:
        if "cuda" in item.keywords:
            item.add_marker(skip)
