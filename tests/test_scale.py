"""Distances on disk and by many workers: the same bits whoever computes them, and nothing is lost or mixed up."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import geodesic
from geodesic import Search, Status
from geodesic.distances import DistanceMatrix, DistanceProgress, Exact, Store, StoredDistances, open_neighbors
from geodesic.distances.solved import Found
from geodesic.distances.store.settings import store_of
from geodesic.distances.store.workers import for_each
from geodesic.errors import DataError, GeodesicError, GeodesicWarning, InputError, RunFolderError
from geodesic.files import locked

pytest.importorskip("zarr", reason="needs zarr, of the extra scale")
pytest.importorskip("distributed", reason="needs dask and distributed, of the extra scale")

ROOT = Path(__file__).parent.parent
SPHERE = geodesic.surfaces.StereographicSphere()
FIELDS = [field.name for field in fields(Found)]


@pytest.fixture(scope="module")
def points() -> Tensor:
    return 0.4 * torch.randn(11, 2, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def whole(points: Tensor, tmp_path_factory: pytest.TempPathFactory) -> StoredDistances:
    """Never interrupted, by one process."""
    return filled(points, tmp_path_factory.mktemp("whole") / "store")


def filled(points: Tensor, path: Path, **settings: object) -> StoredDistances:
    store = Store(path, tile=4, **{name: settings.pop(name) for name in ("scheduler", "timeout") if name in settings})  # type: ignore[arg-type]
    return geodesic.distance_matrix(SPHERE, points, store=store, **settings)  # type: ignore[call-overload]


def same(one: StoredDistances, other: StoredDistances) -> bool:
    """Bit for bit."""
    a, b = one.load(), other.load()
    return all(torch.equal(getattr(a, name).nan_to_num(), getattr(b, name).nan_to_num()) for name in FIELDS)


def ended_after(count: int, how: type[BaseException] = KeyboardInterrupt) -> Callable[[DistanceProgress], None]:
    left = iter(range(count - 1))

    def end(_: DistanceProgress) -> None:
        if next(left, None) is None:
            raise how

    return end


@pytest.mark.slow
def test_a_store_holds_what_is_found_in_memory(points: Tensor, whole: StoredDistances) -> None:
    memory, stored = geodesic.distance_matrix(SPHERE, points, method=Exact(mend=False)), whole.load()
    assert isinstance(stored, DistanceMatrix)
    assert_close(stored.length, memory.length, rtol=1e-3, atol=0)
    assert_close(stored.lower, memory.lower)
    assert bool((stored.upper >= memory.length * (1 - 1e-3)).all())
    for name in FIELDS:
        assert getattr(stored, name).dtype == getattr(memory, name).dtype
        assert torch.equal(getattr(stored, name), getattr(stored, name).T)
    assert (stored.symmetric, stored.method, stored.tol) == (memory.symmetric, memory.method, memory.tol)
    assert torch.equal(whole.points, points)
    assert whole.missing == []


def test_distances_to_others_fill_all_tiles(points: Tensor, tmp_path: Path) -> None:
    stored = filled(points[:5], tmp_path / "store", others=points[5:], method="straight")
    memory = geodesic.distance_matrix(SPHERE, points[:5], points[5:], method="straight")
    assert_close(stored.load().length, memory.length)
    assert stored.load().status.unique().tolist() == [Status.NOT_SOUGHT]
    assert not stored.symmetric
    assert torch.equal(stored.others, points[5:])


def test_a_part_is_read_alone(whole: StoredDistances) -> None:
    everything = whole.load()
    for rows, columns in ((slice(2, 9), slice(None)), ([10, 0, 5], [5, 1]), (slice(None, None, -3), [0])):
        at = np.ix_(np.arange(11)[rows], np.arange(11)[columns])
        assert np.array_equal(whole.load(rows, columns).length.numpy(), everything.length.numpy()[at])
        assert np.array_equal(np.asarray(whole.length)[at], everything.length.numpy()[at])
    assert np.array_equal(whole.length[3:5, 9].compute(), everything.length.numpy()[3:5, 9])
    (whole.path / "arrays" / "length" / "c" / "2" / "2").rename(whole.path / "kept")
    try:
        assert torch.equal(whole.load(slice(0, 8), slice(0, 8)).length, everything.length[:8, :8])
    finally:
        (whole.path / "kept").rename(whole.path / "arrays" / "length" / "c" / "2" / "2")


def test_a_summary_is_that_of_the_matrix(whole: StoredDistances) -> None:
    assert whole.summary().splitlines()[0] == whole.load().summary().splitlines()[0]
    most = whole.load().summary().rpartition("at most ")[2]
    assert whole.summary().rpartition("at most ")[2] == most


@pytest.mark.slow
def test_an_interrupted_store_goes_on_and_is_the_same_bit_for_bit(
    points: Tensor, whole: StoredDistances, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        filled(points, path, callback=ended_after(2))
    begun = geodesic.open_distances(path)
    assert len(begun.missing) == 4
    assert "4 of 6 tiles are missing" in begun.summary()
    assert int((begun.load().status == Status.RUNNING).sum()) > 0
    told: list[DistanceProgress] = []
    assert same(filled(points, path, callback=told.append), whole)
    assert len(told) == 4
    assert told[-1].done == told[-1].pairs == 55


@pytest.mark.slow
def test_what_a_killed_process_leaves_is_cleared_away(points: Tensor, whole: StoredDistances, tmp_path: Path) -> None:
    """Whatever it was about to do: files without their mark, half of a file, half of a store."""
    path = tmp_path / "store"
    (tmp_path / ".store.partial" / "arrays").mkdir(parents=True)
    filled(points, path)
    (path / "done" / "0.1.json").unlink()
    (path / "done" / ".0.2.json.partial").write_text("{")
    chunk = path / "arrays" / "length" / "c" / "0" / "1"
    chunk.write_bytes(chunk.read_bytes()[:10])
    (chunk.parent / "1.0f.partial").write_bytes(b"half")
    assert geodesic.open_distances(path).missing == [(0, 1)]
    assert same(filled(points, path), whole)
    assert not [file for file in path.rglob("*.partial") if file.parent.name != "done"]
    assert not (tmp_path / ".store.partial").exists()


@pytest.mark.slow
def test_a_driver_killed_half_way_is_gone_on_with(points: Tensor, whole: StoredDistances, tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", points.numpy())
    code = (
        "import os, sys, numpy, torch, geodesic\n"
        "from geodesic.distances import Store\n"
        "points = torch.as_tensor(numpy.load(sys.argv[1]))\n"
        "kill = lambda progress: os.kill(os.getpid(), 9) if progress.done > 15 else None\n"
        "sphere = geodesic.surfaces.StereographicSphere()\n"
        "geodesic.distance_matrix(sphere, points, store=Store(sys.argv[2], tile=4), callback=kill)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "points.npy"), str(tmp_path / "store")]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert len(geodesic.open_distances(tmp_path / "store").missing) == 4
    assert same(filled(points, tmp_path / "store"), whole)


@pytest.mark.slow
def test_a_damaged_chunk_is_named_and_done_again(points: Tensor, whole: StoredDistances, tmp_path: Path) -> None:
    path = tmp_path / "store"
    filled(points, path)
    file = path / "arrays" / "upper" / "c" / "1" / "2"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"chunk of upper .* is damaged .* again"):
        geodesic.open_distances(path).load()
    with pytest.warns(GeodesicWarning, match=r"damaged and done again: 1\.2$"):
        again = filled(points, path)
    assert same(again, whole)


class Stretched(nn.Module):
    """A decoder whose weights say all, but for one number."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(2, 3), scale
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(3, 2))
            self.linear.bias.zero_()

    def forward(self, z: Tensor) -> Tensor:
        return self.scale * self.linear(z)


@pytest.mark.slow
def test_a_store_of_something_else_is_refused(points: Tensor, tmp_path: Path) -> None:
    path, few = tmp_path / "store", points[:5]
    store = Store(path, tile=4)

    def call(manifold: object = None, z: Tensor = few, store: Store = store, **settings: object) -> StoredDistances:
        manifold = manifold or geodesic.PullbackManifold(Stretched(1.0).eval())
        return geodesic.distance_matrix(manifold, z, store=store, **settings)  # type: ignore[call-overload]

    call()
    other = Stretched(1.0).eval()
    with torch.no_grad():
        other.linear.bias.add_(1e-9)
    for found, arguments in {
        "other points": {"z": few + 1e-9},
        "another decoder: its outputs": {"manifold": geodesic.PullbackManifold(Stretched(1.01).eval())},
        "another decoder;": {"manifold": geodesic.PullbackManifold(other)},
        "shape": {"z": points},
        "symmetric": {"others": few},
        r"method \(exact there, straight here\)": {"method": "straight"},
        r"tile \(4 there, 3 here\)": {"store": Store(path, tile=3)},
        r"max_steps \(1000 there, 9 here\)": {"search": Search(max_steps=9)},
        r"length_rtol \(None there, 0.01 here\)": {"search": Search(length_rtol=1e-2)},
    }.items():
        with pytest.raises(DataError, match=f"store: .*{found}"):
            call(**arguments)  # type: ignore[arg-type]
    assert call().missing == []


def test_another_plan_is_refused(points: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "store"
    filled(points[:3], path)
    plan = geodesic.solve(SPHERE, points[0], points[1], solver=geodesic.LBFGS()).plan
    with pytest.raises(DataError, match=r"made otherwise: another plan"):
        filled(points[:3], path, search=Search(plan=plan))


def test_a_store_of_another_version_is_read_but_not_gone_on_with(points: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "store"
    filled(points[:3], path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"torch \(1.0 there"):
        filled(points[:3], path)
    assert geodesic.open_distances(path).load().length.shape == (3, 3)


def test_what_cannot_be_stored_is_refused(points: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "store"
    for found, settings in {
        "looks at all points together": {"method": "graph"},
        r"give Exact\(mend=False\)": {"method": Exact()},
        "leave out resume": {"resume": path},
    }.items():
        with pytest.raises(InputError, match=found):
            filled(points, path, **settings)
    for wrong in ({"tile": 0}, {"scheduler": "processes:0"}, {"scheduler": "lokal"}, {"timeout": 0}):
        with pytest.raises(InputError, match=f"^{next(iter(wrong))}: expected"):
            Store(path, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="store: expected the path"):
        store_of(3)
    path.write_text("mine")
    with pytest.raises(DataError, match="is no store of distances"):
        filled(points, path)
    assert path.read_text() == "mine"
    with pytest.raises(DataError, match="no store of distances"):
        geodesic.open_distances(tmp_path / "nothing")


def test_a_store_in_use_is_refused(points: Tensor, tmp_path: Path) -> None:
    with locked(tmp_path / "store"), pytest.raises(RunFolderError, match="another process is using it"):
        filled(points, tmp_path / "store")


# --- disks ------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a small disk")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_or_read_only_disk_is_said_and_nothing_is_half_written(
    points: Tensor, whole: StoredDistances, disk: Path
) -> None:
    path = disk / "store"
    remount(disk, "ro")
    with pytest.raises(DataError, match=r"cannot be written \(Read-only file system"):
        filled(points, path)
    remount(disk, "rw,size=16k")
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device"):
        filled(points, path)
    assert not list(disk.iterdir())
    remount(disk, "size=112k")
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device.*chunks that are done stay"):
        filled(points, path)
    begun = geodesic.open_distances(path)
    assert 0 < len(begun.missing) < 6
    assert not list(path.rglob("*.partial"))
    remount(disk, "size=1m")
    assert same(filled(points, path), whole)
    remount(disk, "ro")
    assert same(geodesic.open_distances(path), whole)


# --- neighbors --------------------------------------------------------------------------------


def test_neighbors_on_disk_are_those_in_memory_and_go_on(points: Tensor, tmp_path: Path) -> None:
    store = Store(tmp_path / "store", tile=4)
    memory = geodesic.nearest(SPHERE, points, None, 3)
    with pytest.raises(KeyboardInterrupt):
        geodesic.nearest(SPHERE, points, None, 3, store=store, callback=ended_after(1))
    begun = open_neighbors(store.path)
    assert begun.missing == [(1,), (2,)]
    assert begun.load([9]).indices.tolist() == [[-1, -1, -1]]
    stored = geodesic.nearest(SPHERE, points, None, 3, store=store).load()
    for name in ("indices", "open", "unordered", "solved", "candidates"):
        assert torch.equal(getattr(stored, name), getattr(memory, name))
    assert_close(stored.length, memory.length)
    assert stored.share_solved == memory.share_solved
    with pytest.raises(DataError, match=r"k \(3 there, 2 here\)"):
        geodesic.nearest(SPHERE, points, None, 2, store=store)
    with pytest.raises(DataError, match="other points to measure to, or queries"):
        geodesic.nearest(SPHERE, points, points.clone(), 3, store=store)
    with pytest.raises(DataError, match="open_neighbors"):
        geodesic.open_distances(store.path)


# --- workers ----------------------------------------------------------------------------------


@dataclass
class Cluster:
    """A scheduler and workers that were started apart, each in a process of its own."""

    address: str
    file: Path
    workers: list[subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [*dask, *arguments, "--scheduler-file", str(file), "--no-dashboard"]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=quiet, stderr=quiet)

    scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0")
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(300):
            if file.exists() and file.stat().st_size:
                break
            time.sleep(0.1)
        workers += [
            start("worker", "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1", "--memory-limit", "0")
            for _ in range(2)
        ]
        yield Cluster(json.loads(file.read_text())["address"], file, workers)
    finally:
        for process in [*workers, scheduler]:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_two_workers_over_tcp_find_the_same_bits_as_one_process(
    cluster: Cluster, points: Tensor, whole: StoredDistances, tmp_path: Path
) -> None:
    assert same(filled(points, tmp_path / "store", scheduler=cluster.address), whole)


@pytest.mark.slow
def test_workers_of_other_versions_are_refused(
    cluster: Cluster, points: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geodesic.__version__", "9.9")
    with pytest.raises(InputError, match=r"worker tcp://127.* has geodesic .*expected 9\.9.; install"):
        filled(points, tmp_path / "store", scheduler=cluster.file)


@pytest.mark.slow
def test_what_fails_on_a_worker_is_told_and_what_cannot_be_sent_is_refused(
    cluster: Cluster, points: Tensor, tmp_path: Path
) -> None:
    log = (tmp_path / "log").open("w")

    def logging(z: Tensor) -> Tensor:
        log.write("called\n")
        return torch.cat([z, z.square()], 1)

    store = Store(tmp_path / "store", scheduler=cluster.file)
    with log, pytest.raises(InputError, match="manifold: it cannot be sent to workers"):
        geodesic.distance_matrix(geodesic.PullbackManifold(logging), points, store=store)
    with pytest.raises(DataError, match=r"chunk 0\.1: its worker could not read or write: .*nowhere"):
        list(for_each({"0.1": (os.listdir, str(tmp_path / "nowhere"))}, store))


@pytest.mark.slow
def test_a_worker_killed_half_way_has_its_tiles_done_by_the_other(
    cluster: Cluster, points: Tensor, whole: StoredDistances, tmp_path: Path
) -> None:
    stored = filled(
        points,
        tmp_path / "store",
        scheduler=cluster.file,
        callback=lambda _: cluster.workers[0].send_signal(signal.SIGKILL),
    )
    assert cluster.workers[0].wait(10) == -signal.SIGKILL
    assert same(stored, whole)


@pytest.mark.slow
def test_processes_on_this_machine_find_the_same_bits(points: Tensor, whole: StoredDistances, tmp_path: Path) -> None:
    assert same(filled(points, tmp_path / "store", scheduler="processes:1"), whole)


def test_a_scheduler_that_is_not_there_is_an_error_with_its_address(points: Tensor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none answers at tcp://127\.0\.0\.1:1 within 1 s"):
        filled(points, tmp_path / "store", scheduler="tcp://127.0.0.1:1", timeout=1.0)
    with pytest.raises(GeodesicError, match="is no scheduler file"):
        filled(points, tmp_path / "store", scheduler=tmp_path / "scheduler.json")
    assert len(geodesic.open_distances(tmp_path / "store").missing) == 6
