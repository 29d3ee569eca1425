"""What is free, how many rows are taken at once, and that answers do not depend on it."""

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn

import geodesic
from geodesic.door.door import visit
from geodesic.geometry.available import free_bytes
from geodesic.geometry.batches import AnyBatch
from geodesic.geometry.costs import Meter
from geodesic.geometry.memory import _WASTE, _Peak, grouped
from geodesic.geometry.pieces import InPieces
from geodesic.numerics.block_tridiagonal import BlockTridiagonal

CPU = torch.device("cpu")


def network(d: int = 3, outputs: int = 40, width: int = 30) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(d, width), nn.Tanh(), nn.Linear(width, outputs)).eval()


# --- what is free -------------------------------------------------------------------------------


def system(root: Path, available: int, groups: str, files: dict[str, str]) -> Path:
    """A folder with the files in which a system says what is free."""
    for name, text in {
        "proc/meminfo": f"MemTotal: 99999999 kB\nMemFree: 1 kB\nMemAvailable:   {available} kB\n",
        "proc/self/cgroup": groups,
        **files,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def group(folder: str, limit: str, use: str, version: int = 2) -> dict[str, str]:
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    return {f"sys/fs/cgroup/{folder}/{name}": f"{text}\n" for name, text in zip(names, (limit, use), strict=True)}


@pytest.mark.parametrize(
    ("available", "groups", "files", "free"),
    [
        (5, "", {}, 5 * 1024),
        (5, "0::/job\n", group("job", "max", "7"), 5 * 1024),
        (5, "0::/job\n", group("job", "4000", "1000"), 3000),
        (1, "0::/job\n", group("job", "4000", "1000"), 1024),
        (5, "0::/slice/job\n", group("slice/job", "4000", "0") | group("slice", "3000", "1000"), 2000),
        (5, "0::/slice/job\n", group("slice/job", "4000", "3500") | group("slice", "3000", "1000"), 500),
        (5, "0::/elsewhere/on/the/host\n", group(".", "4000", "1000"), 3000),
        (5, "4:cpu:/\n3:blkio,memory:/job\n0::/\n", group("memory/job", "4000", "1500", version=1), 2500),
        (5, "3:memory:/job\n", group("memory/job", "4000", "9000", version=1), 0),
    ],
    ids=[
        "no group",
        "a group without a limit",
        "the group has less",
        "the machine has less",
        "the group above has less",
        "the group has less than the one above",
        "a container, whose path is that of its host",
        "version 1",
        "nothing is left",
    ],
)
def test_free_is_the_least_of_the_machine_and_what_groups_leave(
    tmp_path: Path, available: int, groups: str, files: dict[str, str], free: float
) -> None:
    assert free_bytes(CPU, system(tmp_path, available, groups, files)) == free


def test_cached_files_of_a_group_count_as_free(tmp_path: Path) -> None:
    files = group("job", "4000", "3500") | {"sys/fs/cgroup/job/memory.stat": "file 9\ninactive_file 400\n"}
    assert free_bytes(CPU, system(tmp_path, 5, "0::/job\n", files)) == 900


def test_a_system_that_says_nothing_has_some_memory(tmp_path: Path) -> None:
    assert free_bytes(CPU, tmp_path) > 1e8


def test_on_a_gpu_the_driver_says_what_is_free_and_what_torch_holds_in_reserve_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"mem_get_info": (5000, 9000), "memory_reserved": 700, "memory_allocated": 400}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_bytes(torch.device("cuda")) == 5300


@pytest.mark.parametrize("norm", [lambda: nn.GroupNorm(4, 8), nn.Identity], ids=["normalized", "plain"])
def test_a_metric_takes_what_is_said_of_it(norm: Callable[[], nn.Module]) -> None:
    d, layers = 24, [nn.Linear(24, 128), nn.Unflatten(1, (8, 4, 4)), nn.Upsample(scale_factor=4)]
    net = nn.Sequential(*layers, nn.Conv2d(8, 8, 3, 1, 1), norm(), nn.SiLU(), nn.Conv2d(8, 3, 3, 1, 1))
    manifold, point = geodesic.PullbackManifold(net.eval().requires_grad_(False)), torch.randn(1, d)
    manifold.way(point)  # which takes more
    peaks = []
    for rows in (1, 2):
        with _Peak() as held:
            manifold.metric_tensor(point.repeat(rows, 1))
        peaks.append(held.peak)
    said = Meter(manifold, point).bytes_a_node("metric_tensor") / _WASTE
    assert 0.95 < said / (peaks[1] - peaks[0]) < 1.6


# --- pieces of paths ----------------------------------------------------------------------------

MANIFOLDS: dict[str, Callable[[], geodesic.Manifold]] = {
    "embedding": lambda: geodesic.PullbackManifold(network()),
    "distance": lambda: geodesic.PullbackManifold(
        nn.Sequential(network(), nn.Unflatten(1, (2, 20))), geodesic.outputs.FisherRaoGaussian()
    ),
    "metric": lambda: geodesic.MetricFunction(
        lambda z: torch.eye(3) * (1 + z.square().sum(-1))[..., None, None] + 0.1 * z[..., None] * z[..., None, :]
    ),
    "ensemble": lambda: geodesic.EnsembleManifold([network(outputs=7), lambda z: z.sin() @ torch.ones(3, 7)]),
    "independent members": lambda: geodesic.IndependentEnsembleManifold(
        [network(outputs=7), lambda z: z.sin() @ torch.ones(3, 7)]
    ),
}


def least(manifold: geodesic.Manifold) -> InPieces:
    """The manifold in the smallest pieces: as if there were no memory at all."""
    return InPieces(manifold, 1.0, Meter(manifold, torch.zeros(1, 3)))


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def blocks_close(a: BlockTridiagonal, b: BlockTridiagonal) -> None:
    close(a.diagonal, b.diagonal)
    close(a.upper, b.upper)


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [3, 4, 7])
@pytest.mark.parametrize("kind", MANIFOLDS)
def test_what_paths_have_in_pieces_they_have_as_a_whole(kind: str, nodes: int) -> None:
    whole, path, weights = MANIFOLDS[kind](), torch.randn(3, nodes, 3), 0.5 + torch.rand(3, nodes - 1)
    pieces = least(whole)
    close(pieces.squared_chords(path), whole.squared_chords(path))
    (chords, pull), (whole_chords, whole_pull) = (m.chords_and_pullback(path, weights) for m in (pieces, whole))
    close(chords, whole_chords)
    close(pull(), whole_pull())
    direction = torch.randn(3, nodes - 2, 3)
    for a, b in zip(*(m.gradient_and_product(path, weights) for m in (pieces, whole)), strict=True):
        close(*((a, b) if isinstance(a, torch.Tensor) else (a(direction), b(direction))))
    one, other = (m.expansion(path, weights) for m in (pieces, whole))
    close(one.squared_chords, other.squared_chords)
    close(one.gradient, other.gradient)
    blocks_close(one.hessian, other.hessian)
    rows = torch.tensor([2, 0])
    for share in (0.0, 0.5):
        blocks_close(one.convexified(rows, share), other.convexified(rows, share))
    close(pieces.lower_bound(path[:, 0], path[:, -1]), whole.lower_bound(path[:, 0], path[:, -1]))
    velocity, weights = torch.randn_like(path), torch.tensor([0.2, 0.5, 0.3])
    z, v = torch.randn(2, 3, nodes - 1, 3, 3)
    meter = Meter(whole, torch.zeros(1, 3))
    one_path = InPieces(whole, 5 * nodes * meter.bytes_a_node("squared_norm"), meter)
    for some in (pieces, one_path):
        for a, b in zip(*(m.traveled(path, z, v, weights, velocity) for m in (some, whole)), strict=True):
            close(a, b)
    if whole.has_embedding:
        for a, b in zip(pieces.arcs(path, velocity), whole.arcs(path, velocity), strict=True):
            close(a, b)
        curves = torch.randn(2, 3, 2 * nodes - 1, 3)
        for some, every in product((pieces, one_path), (0, 1, 2)):
            found, known = (m.passed(*curves, every=every) for m in (some, whole))
            if some is pieces:  # in which no metrics of a whole path fit
                assert not found.metric.shape[1]
                known = known._replace(metric=found.metric, pulled=found.pulled)
            for a, b in zip(found, known, strict=True):
                close(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["embedding", "metric"])
def test_what_points_have_one_by_one_they_have_together(kind: str) -> None:
    whole, (z, v, w) = MANIFOLDS[kind](), torch.randn(3, 2, 4, 3)
    pieces = least(whole)
    close(pieces.metric_tensor(z), whole.metric_tensor(z))
    close(pieces.squared_norm(z, v), whole.squared_norm(z, v))
    close(pieces.lowered(z, v), (whole.metric_tensor(z) @ v[..., None])[..., 0])
    close(pieces.lowered_acceleration(z, v, w), whole.lowered_acceleration(z, v, w))
    G, u = pieces.metric_and_acceleration(z, v, w)
    close(G, whole.metric_tensor(z))
    close(u, whole.lowered_acceleration(z, v, w))
    close(pieces.lowered_connection(z, v), whole.lowered_connection(z, v))
    close(pieces.deviation(z, v).curvature, whole.deviation(z, v).curvature)
    close(pieces.riemann(z), whole.riemann(z))
    close(pieces.observe(z), whole.observe(z))


@pytest.mark.slow
def test_one_node_and_its_neighbors_are_all_that_the_decoder_sees_where_no_more_fits() -> None:
    seen: list[int] = []
    decoder = network()

    def watched(z: torch.Tensor) -> torch.Tensor:
        seen.append(len(z))
        return decoder(z)

    pieces = least(geodesic.PullbackManifold(watched))
    path = torch.randn(2, 9, 3)
    for work, most in (
        (lambda: pieces.squared_chords(path), 2),
        (lambda: pieces.chords_and_pullback(path)[1](), 3),
        (lambda: pieces.expansion(path), 4),
        (lambda: pieces.gradient_and_product(path)[2](path[:, 1:-1]), 5),
        (lambda: pieces.metric_tensor(path), 1),
    ):
        with visit():  # in which the decoder is looked at once
            work()  # what a node takes is watched on a few of them
            seen.clear()
            work()
        assert max(seen) == most


# --- whole solves -------------------------------------------------------------------------------


def solved(manifold: geodesic.Manifold, memory: float | None = None, **more: object) -> geodesic.GeodesicSolution:
    torch.manual_seed(2)
    start, end = torch.randn(2, 2, 3)
    return geodesic.solve(manifold, start, end, segments=16, memory=memory, **more)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "memory", "said"),
    [
        (geodesic.Newton(), 9e4, r"Newton\(.*\d of 17 nodes at once, to stay within 0.09 MB"),
        (
            geodesic.Newton(),
            3e4,
            r"NewtonKrylov in its place, since the Jacobians of four nodes do not fit into 0.03 MB",
        ),
        (geodesic.NewtonKrylov(), 3e4, r"NewtonKrylov\(.*\d of 17 nodes at once"),
        (geodesic.LBFGS(), 3e4, r"LBFGS\(.*\d of 17 nodes at once"),
    ],
    ids=["newton in pieces", "newton replaced", "krylov", "lbfgs"],
)
def test_the_answer_does_not_depend_on_memory_but_says_what_it_took(
    solver: geodesic.Newton, memory: float, said: str
) -> None:
    manifold = geodesic.PullbackManifold(network())
    free, bounded = (solved(manifold, most, solver=solver, tol=1e-12) for most in (None, memory))
    assert bool(bounded.converged.all())
    torch.testing.assert_close(bounded.path, free.path, rtol=0, atol=1e-6)
    torch.testing.assert_close(bounded.length, free.length, rtol=1e-10, atol=0)
    text = f"{bounded.plan.solver}; {bounded.plan.words}"
    assert re.search(said, text), text
    assert "at once" not in free.plan.words
    assert bounded.plan.bytes <= memory < free.plan.bytes


@pytest.mark.slow
@pytest.mark.parametrize("memory", [3e6, 1e7])
def test_what_is_held_at_once_stays_within_memory(memory: float) -> None:
    decoder = network(outputs=2000, width=10)
    manifold = geodesic.PullbackManifold(decoder)
    solved(manifold, memory)  # what a node takes is watched on a few of them, whatever memory is
    with _Peak() as watched:
        solution = solved(manifold, memory)
    weights = sum(p.nbytes for p in decoder.parameters())  # and those of their tangents
    assert watched.peak - 3 * weights < memory
    assert solution.plan.bytes <= memory


def test_the_default_is_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodesic.geometry.memory.free_bytes", lambda device: 2 * 9e4)
    assert "to stay within 0.09 MB" in solved(geodesic.PullbackManifold(network())).plan.words
    monkeypatch.setattr("geodesic.geometry.memory.free_bytes", lambda device: 2e3)
    with pytest.raises(
        geodesic.errors.InputError, match=r"got 0.001 MB; free some, or use a decoder of smaller outputs"
    ):
        solved(geodesic.PullbackManifold(network()))


# --- batch sizes --------------------------------------------------------------------------------


def taking(accepts: Callable[[int], bool], seen: list[int] | None = None) -> Callable[[torch.Tensor], torch.Tensor]:
    decoder = network()

    def limited(z: torch.Tensor) -> torch.Tensor:
        if not accepts(len(z)):
            raise RuntimeError(f"invalid batch size {len(z)}")
        if seen is not None:
            seen.append(len(z))
        return decoder(z)

    return limited


@pytest.mark.slow
@pytest.mark.parametrize(
    "accepts",
    [lambda n: n == 4, lambda n: n == 1, lambda n: n <= 16, lambda n: n % 6 == 0, lambda n: n == 50],
    ids=["four", "one", "at most 16", "multiples of six", "fifty"],
)
def test_a_decoder_that_takes_only_some_batch_sizes_gives_the_same_answer(accepts: Callable[[int], bool]) -> None:
    whole, limited = (solved(geodesic.PullbackManifold(f), tol=1e-12) for f in (network(), taking(accepts)))
    assert bool(limited.converged.all())
    torch.testing.assert_close(limited.path, whole.path, rtol=0, atol=1e-8)
    torch.testing.assert_close(limited.error, whole.error, rtol=1e-6, atol=1e-12)


def test_ensembles_may_have_members_of_limited_batches() -> None:
    z = torch.randn(7, 3)
    limited = geodesic.EnsembleManifold([taking(lambda n: n == 4), network()])
    whole = geodesic.EnsembleManifold([network(), network()])
    close(limited.metric_tensor(z), whole.metric_tensor(z))


def test_batches_are_filled_up_only_where_they_must_be() -> None:
    seen: list[int] = []
    limited = AnyBatch(taking(lambda n: n <= 16, seen))
    limited(torch.randn(37, 3))
    seen.clear()
    assert limited(torch.randn(37, 3)).shape == (37, 40)
    assert seen == [16, 16, 5]


def test_a_decoder_that_fails_for_another_reason_fails_with_its_own_words() -> None:
    with pytest.raises(geodesic.errors.DecoderError, match="mat1 and mat2 shapes cannot be multiplied"):
        solved(geodesic.PullbackManifold(network(d=2)))

    def positive(z: torch.Tensor) -> torch.Tensor:
        if bool((z < 0).any()):
            raise ValueError("negative coordinates")
        return z

    manifold = geodesic.PullbackManifold(positive)
    with pytest.raises(ValueError, match="negative coordinates"):
        manifold.observe(torch.tensor([[1.0, -1.0]]))
    assert torch.equal(manifold.observe(torch.ones(5, 3)), torch.ones(5, 3))


# --- a GPU that runs out of memory --------------------------------------------------------------


def out_of_memory_above(most: int) -> geodesic.PullbackManifold:
    decoder = network()

    def limited(z: torch.Tensor) -> torch.Tensor:
        if len(z) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return decoder(z)

    return geodesic.PullbackManifold(limited)


def in_pieces(manifold: geodesic.Manifold, path: torch.Tensor) -> InPieces:
    return InPieces(manifold, 1e9, Meter(manifold, path[0, :1]))


def test_groups_are_halved_until_they_fit() -> None:
    whole, small, z = geodesic.PullbackManifold(network()), out_of_memory_above(3), torch.randn(20, 3)
    close(grouped(small.metric_tensor, 20, z), whole.metric_tensor(z))
    with pytest.raises(geodesic.errors.InputError, match=r"memory: groups of 1 points do not fit on the device \(CUDA"):
        grouped(out_of_memory_above(0).metric_tensor, 20, z)


def test_pieces_are_halved_until_they_fit_and_stay_so() -> None:
    whole, path = geodesic.PullbackManifold(network()), torch.randn(2, 9, 3)
    pieces = in_pieces(out_of_memory_above(7), path)
    close(pieces.squared_chords(path), whole.squared_chords(path))
    close(pieces.chords_and_pullback(path)[1](), whole.chords_and_pullback(path)[1]())
    blocks_close(pieces.expansion(path).hessian, whole.expansion(path).hessian)
    u = path[:, 1:-1]
    close(pieces.gradient_and_product(path)[2](u), whole.gradient_and_product(path)[2](u))
    assert {pieces.size_of(work) <= 7 for work in ("squared_chords", "gradient", "expansion", "product")} == {True}
    pieces = in_pieces(out_of_memory_above(2), path)
    with pytest.raises(geodesic.errors.InputError, match=r"memory: groups of 4 points do not fit"):
        pieces.expansion(path)


# --- other tools --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "tool",
    [
        lambda m, a, b: geodesic.log_map(m, a, b, follow=geodesic.Follow(method="discrete")).vector,
        lambda m, a, b: geodesic.is_minimizing(m, geodesic.solve(m, a, b, segments=8), starts=1).gap,
        lambda m, a, b: torch.autograd.grad(geodesic.distance(m, a.requires_grad_(), b).sum(), a)[0],
    ],
    ids=["log_map", "is_minimizing", "gradient of the distance"],
)
def test_tools_work_in_pieces_and_their_answers_stay(
    tool: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifold, (start, end) = geodesic.PullbackManifold(network()), 0.5 * torch.randn(2, 2, 3)
    expected = tool(manifold, start, end)
    monkeypatch.setattr("geodesic.geometry.memory.free_bytes", lambda device: 2e5)
    torch.testing.assert_close(tool(manifold, start, end), expected, rtol=1e-6, atol=1e-8)
