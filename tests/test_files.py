"""Files: whole or not at all, read back as written, and locks that end with their process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from geodesic.errors import RunFolderError
from geodesic.files import locked, read_npz, replacing, write_npz, write_text


def test_a_file_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "text"
    write_text(file, "first")

    def interrupted() -> None:
        with replacing(file) as temporary:
            temporary.write_text("sec")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["text"]
    assert file.read_text() == "first"
    with replacing(file) as temporary:
        temporary.write_text("second")
        assert file.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["text"]
    assert file.read_text() == "second"


def test_arrays_read_back_as_they_were_written(tmp_path: Path) -> None:
    written = {"a/b": np.arange(6.0).reshape(2, 3), "c": np.array([True, False]), "d": np.float32(3)}
    write_npz(tmp_path / "a.npz", {key: np.asarray(value) for key, value in written.items()})
    read = read_npz(tmp_path / "a.npz")
    assert read.keys() == written.keys()
    for key, value in written.items():
        np.testing.assert_array_equal(read[key], value)
        assert read[key].dtype == np.asarray(value).dtype


# --- locks ---------------------------------------------------------------------------------------------


def refused(path: Path, *, shared: bool, word: str) -> None:
    with pytest.raises(RunFolderError, match=f"another process is {word} it"), locked(path, shared=shared):
        pass


def test_a_writer_is_alone_and_readers_share(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with locked(path):
        refused(path, shared=False, word="using")
        refused(path, shared=True, word="writing")
    with locked(path, shared=True):
        with locked(path, shared=True):
            refused(path, shared=False, word="using")
        refused(path, shared=False, word="using")
    with locked(path):
        pass


def test_a_lock_leaves_nothing_behind_however_its_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "run"

    def failing() -> None:
        with locked(path):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failing()
    assert not list(tmp_path.iterdir())
    with locked(path, shared=True), locked(path, shared=True):
        path.mkdir()
    assert [file.name for file in path.parent.iterdir()] == ["run"]


def test_a_lock_stays_though_its_folder_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    with locked(path):
        path.rename(tmp_path / "aside")
        path.mkdir()
        refused(path, shared=True, word="writing")


def test_a_process_that_is_killed_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "run"
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from pathlib import Path\nfrom geodesic.files import locked\n"
        f"with locked(Path({str(path)!r})):\n    print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        refused(path, shared=False, word="using")
        refused(path, shared=True, word="writing")
        os.kill(holder.pid, signal.SIGKILL)
    with locked(path):
        pass
    assert not list(tmp_path.iterdir())
