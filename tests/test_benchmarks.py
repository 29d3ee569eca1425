"""The benchmark scripts run, and the methods that they compare compute the same thing."""

import dataclasses
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import geodesic
from scripts.benchmarks import __main__ as runner
from scripts.benchmarks import (
    counting,
    counts,
    decoders,
    distances,
    energy_gradient,
    geometries,
    plans,
    report,
    riemannian,
    scale,
)
from scripts.benchmarks.solvers import command as solvers
from scripts.benchmarks.solvers import error, excess, grid, resolved, second, singly
from scripts.benchmarks.solvers.problems import Problem, decoder_problem, second_problem
from tests.naive import naive_energy_gradient


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Benchmarks set the number of threads, which the other tests should not feel."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


# --- the runner -------------------------------------------------------------------------------


def test_the_runner_lists_every_benchmark(capsys):
    assert runner.main([]) == runner.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in runner.BENCHMARKS)


@pytest.mark.parametrize("name", runner.BENCHMARKS)
def test_every_benchmark_says_what_it_measures_and_shows_its_defaults(name, capsys):
    with pytest.raises(SystemExit) as info:
        runner.main([name, "--help"])
    assert info.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"python -m scripts.benchmarks {name}" in printed
    assert "(default: " in printed


def test_a_benchmark_that_does_not_exist_is_refused(capsys):
    assert runner.main(["solver"]) == 2
    assert "there is no benchmark 'solver'" in capsys.readouterr().err


# --- scale ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_store_is_timed_where_zarr_is():
    pytest.importorskip("zarr", reason="needs zarr, of the extra scale")
    few = [
        "--decoder",
        "tiny-2",
        "--points",
        "6",
        "--tile",
        "3",
        "--chunks",
        "3",
        "--near",
        "70",
        "--k",
        "2",
        "--processes",
    ]
    found = scale.main(few)
    assert (found["local"]["tiles"], found["local"]["same bits"]) == (3, "True")
    (many,) = (row for name, row in found.items() if "chunks" in name)
    assert 0 < many["again, s"] < many["filled, s"]
    assert found["70 points"]["chunks"] == "2"
    assert found["70 points"]["passes a query"] > 0


# --- distances --------------------------------------------------------------------------------


@pytest.mark.slow
def test_distances_are_counted_and_the_cheap_ones_hold(tmp_path):
    few = [
        "--points",
        "8",
        "--many",
        "20",
        "--queries",
        "3",
        "--k",
        "2",
        "--pairs",
        "2",
        "--sample",
        "5",
        "--threads",
        "1",
    ]
    few += ["--all", "4", "--sections", *distances.SECTIONS]
    found = distances.main(["--decoders", "tiny-2", *few, "--out", str(tmp_path / "distances.json")])
    assert found["all"]["tiny-2"]["resolved"] == "6"
    assert found["graph"]["tiny-2"]["longer by, 95 %"] > -0.2
    assert found["exact"]["tiny-2"]["whole: resolved"] == "28"
    assert all(row["shorter than exact, %"] == 0 for row in found["cheap"]["tiny-2"])
    assert found["nearest"]["tiny-2"]["solved, % of pairs"] < 100
    assert found["peers"]["tiny-2"][0]["method"] == "stochman"
    assert len(found["peers"]["tiny-2"]) == 3  # geomstats in two ways
    assert [row["above 3 stated"] for row in found["error"]["tiny-2"]] == [0, 0, 0]


# --- report -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_report_is_timed_and_weighed():
    few = ["--decoder", "tiny-2", "--pairs", "2", "--neighbors", "0", "--segments", "8"]
    (row,) = report.main(few).values()
    assert 0.01 < row["MB"] < 5
    assert row["s"] > 0


# --- counts -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_counts_are_trained_on_and_held_beside_a_constant_model():
    case = "Poisson, mean 30"
    (row,) = counts.main(["--seeds", "1", "--cases", case, "--epochs", "20"]).values()
    assert row["trained"] == "1 of 1"
    assert row["smallest gain"] == row["ELBO, median"] - row["constant model, median"] > 50


# --- plans ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_plans_choose_among_is_counted_and_timed_where_hessians_are_formed(capsys):
    rows = plans.main(["--works", "tiny-2", "tiny-9", "--most", "8", "--pairs", "1", "--segments", "4"])
    assert rows["tiny-2"]["chosen"] == "Newton"
    assert float(rows["tiny-2"]["timed"]) > 0
    assert rows["tiny-9"]["Newton"] == rows["tiny-9"]["timed"] == "-"
    assert "passes a pair" in capsys.readouterr().out


# --- decoders ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_cells_of_decoders_do_what_the_docs_say(capsys):
    rows = decoders.main(["--family", "Rank"])
    assert rows["ignores a coordinate"]["solve"] == "right"
    assert rows["ignores a coordinate"]["curvature"] == "right"
    assert "What decoders do" in capsys.readouterr().out


# --- energy-gradient --------------------------------------------------------------------------


@pytest.mark.slow
def test_the_methods_agree_and_are_timed(capsys):
    rows = energy_gradient.main(["--segments", "8", "--repeats", "1", "--warmup", "0", "--pairs", "2"])
    assert [(row.latent_size, row.method) for row in rows] == [
        (d, method) for d in (2, 16) for method in energy_gradient.METHODS
    ]
    assert all(row.milliseconds > 0 for row in rows)
    differences = [row.difference for row in rows if row.method in energy_gradient.REFERENCE]
    assert len(differences) == 4
    assert max(differences) < 1e-10
    printed = capsys.readouterr().out
    assert f"torch {torch.__version__.partition('+')[0]}" in printed
    assert all(method in printed for method in energy_gradient.METHODS)


def test_a_path_without_interior_is_refused(capsys):
    with pytest.raises(SystemExit):
        energy_gradient.main(["--segments", "1"])
    assert "at least 2" in capsys.readouterr().err


def test_the_naive_loop_is_the_gradient_on_a_surface(tolerance):
    surface, path = geodesic.surfaces.Paraboloid(), torch.randn(7, 2)
    expected = geodesic.energy_gradient(surface, path)
    torch.testing.assert_close(naive_energy_gradient(surface.embed, path), expected, **tolerance(path.dtype))


# --- solvers ----------------------------------------------------------------------------------

TINY = [
    *("--decoders", "tiny-2", "--segments", "4", "--pairs", "3", "--repeats", "1"),
    *(
        "--global-pairs",
        "3",
        "--grid",
        "15",
        "--memory-pairs",
        "3",
        "--segment-pairs",
        "1",
        "--segment-counts",
        "4",
        "8",
    ),
    *("--second-tol", "1e-3", "--adam-steps", "5", "--lbfgs-iterations", "5", "--plain-steps", "5"),
]


def hill() -> Problem:
    """A plane with a hill beside the straight way: one valley on each side of it, of different lengths."""

    class Hill(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            height = 3 * (-4 * (z - torch.tensor([0.0, 0.1])).square().sum(1, True)).exp()
            return torch.cat([z, height], dim=1)

    start, end = torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    manifold, points = geodesic.PullbackManifold(Hill()), torch.cat([start, end])
    return Problem("hill", manifold, Hill(), start, end, points, 32)


def bent(problem, height: float) -> torch.Tensor:
    path = problem.straight()
    path[..., 1] += height * torch.linspace(0, torch.pi, path.shape[1]).sin()
    path[:, -1] = problem.end
    return path


def test_work_is_counted_in_forward_passes_under_every_transform():
    d, flops_of = 4, counting.flops_of
    decoder = nn.Sequential(nn.Linear(d, 32), nn.Tanh(), nn.Linear(32, 48)).requires_grad_(False)
    z, vectors = torch.randn(33, d), torch.randn(d, 33, d)
    forward = flops_of(lambda: decoder(z))
    assert forward == 2 * 33 * (d * 32 + 32 * 48)

    def vjp():
        x, pull = torch.func.vjp(decoder, z)
        return pull(x)

    def tangents_beside_one_primal():
        first, last = decoder[0].weight.T, decoder[2].weight.T
        hidden = torch.tanh(z @ first)
        return hidden @ last, torch.func.vmap(lambda v: ((1 - hidden.square()) * (v @ first)) @ last)(vectors)

    def jvps():
        return torch.func.vmap(lambda v: torch.func.jvp(decoder, (z,), (v,))[1])(vectors)

    assert flops_of(vjp) == 2 * forward
    assert flops_of(tangents_beside_one_primal) == (1 + d) * forward
    # torch's forward mode also multiplies by the zero tangent of the weights, once for all vectors.
    assert flops_of(jvps) in ((1 + d) * forward, (2 + d) * forward)


def test_what_is_done_aside_costs_nothing():
    plane = geodesic.PullbackManifold(nn.Linear(2, 3).requires_grad_(False))
    with counting.FlopCounter() as counter:
        recorder = counting.Recorder(plane, counter)
        with recorder.aside():
            time.sleep(0.2)
            recorder.path(torch.randn(5, 9, 2))
        plane.embed(torch.randn(1, 2))
        recorder.path(torch.randn(5, 9, 2))
        trace = recorder.trace(torch.randn(5, 9, 2), ["-"] * 5, "")
    assert trace.flops == [0, 2 * 2 * 3]
    assert trace.total_seconds < 0.1
    assert trace.energies.shape == (2, 5)


@pytest.mark.slow
def test_excess_is_measured_in_the_own_basin():
    problem = hill()
    above, below = (excess.polish(problem, bent(problem, height)) for height in (1.0, -1.0))
    assert bool(above[1])
    assert bool(below[1])
    assert above[0] > 1.01 * below[0]
    for height, (reference, _) in ((1.0, above), (-1.0, below)):
        path = geodesic.solve(problem.manifold, problem.start, problem.end, init=bent(problem, height)).path
        energy = geodesic.path_energy(problem.manifold, path)
        assert excess.excess_energy(energy, reference) < 1e-6
        raised = geodesic.path_energy(problem.manifold, bent(problem, height))
        assert excess.excess_energy(raised, reference) > 0.01


def test_groups_of_a_batch_are_timed_one_by_one():
    nan = math.nan
    known = torch.tensor([[1.0, nan, nan], [0.1, nan, nan], [0.0, 2.0, nan], [0.0, 0.01, nan]])
    first, second = excess.groups_of([1.0, 3.0, 4.0, 9.0], known)  # the third pair never has a path
    assert (first.seconds_to(0.5), second.seconds_to(0.5)) == (3.0, 9.0 - 3.0)
    assert second.seconds_to(1e-3) is None
    assert excess.groups_of([1.0], torch.tensor([[nan]])) == []


@pytest.mark.slow
def test_the_second_work_is_the_decoder_whose_figures_are_known():
    one, three = (second_problem(stretch, 64) for stretch in (1.0, 3.0))
    torch.testing.assert_close(three.network[0].weight, 3 * one.network[0].weight, rtol=1e-7, atol=0)
    torch.testing.assert_close(three.network[0].bias, one.network[0].bias)
    assert one.start.dtype == one.network[2].weight.dtype == torch.float64
    ratio = second.length_ratio(one, one.straight())
    torch.testing.assert_close(ratio, torch.ones(64))


def test_the_grid_finds_the_way_on_both_sides_of_a_hill():
    problem = hill()
    paths, lengths = grid.grid_paths(problem, 41)
    assert torch.equal(paths[:, 0], problem.start)
    assert torch.equal(paths[:, -1], problem.end)
    solution = geodesic.solve(problem.manifold, problem.start, problem.end, init=bent(problem, -1.0))
    assert 1 < lengths / solution.length < 1.03
    polished = geodesic.solve(problem.manifold, problem.start, problem.end, init=paths)
    torch.testing.assert_close(polished.length, solution.length, rtol=1e-5, atol=0)


def test_a_peer_that_takes_too_long_is_stopped():
    begin = time.perf_counter()
    with pytest.raises(singly.OutOfTimeError), singly.time_limit(0.05):
        time.sleep(5)
    assert time.perf_counter() - begin < 1


@pytest.mark.slow
def test_the_time_to_an_excess_is_that_of_its_first_note():
    problem = second_problem(1.0, 2)
    recorder = counting.Recorder(problem.manifold)
    path = geodesic.solve(problem.manifold, problem.start, problem.end, segments=20).path
    for nodes in (problem.straight(), path, path):
        recorder.path(nodes)
    trace = recorder.trace(path, ["-"] * 2, "")
    assert second._seconds_to(1e-3, problem, trace) == trace.seconds[1]
    assert second._seconds_to(1.0, problem, trace) == trace.seconds[0]
    assert second._seconds_to(-1.0, problem, trace) is None


@pytest.mark.slow
def test_all_sections_run_and_are_written_down(tmp_path, capsys):
    methods = ["auto", "torch-lbfgs", "torch-adam", "latent-geometry", "naive"]
    sections = ["--sections", "mnist", "second", "global", "segments"]
    results = solvers.main([*TINY, *sections, "--methods", *methods, "--out", str(tmp_path), "--peer-seconds", "0.1"])
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}.json" for name in results} | {"work-precision.png"}
    assert (
        json.loads((tmp_path / "second.json").read_text())["versions"]["torch"] == torch.__version__.partition("+")[0]
    )

    curves = {row["method"]: row for row in results["mnist"]}
    assert list(curves) == methods
    ours = curves["auto"]
    assert max(ours["final"]) <= 1e-6
    assert ours["certified"] == 3
    assert all(0 < work < 1000 for work in ours["work"][1e-4])
    assert 0 < ours["seconds"][1e-4] <= ours["total"]
    # A step of the naive loop: a forward pass, and 3 (T - 1) backward passes that cost as much each.
    for work in curves["naive"]["work"][1e-2]:
        assert work is None or work / (1 + 3 * 3) in range(6)
    failed = curves["latent-geometry"]
    assert "latent_geometry" in failed["message"] or "0 of 3" in failed["remark"]

    assert all(0.9 < row["ratio"] < 1 for row in results["second"] if row["method"] == "auto")
    assert {row["within"] for row in results["global"] if row["start"] in ("best", "grid, polished")} == {3}
    assert [row["T"] for row in results["segments"] if row["method"] == "auto"] == [4, 8]
    printed = capsys.readouterr().out
    assert "Headlines" in printed
    assert "slope" in printed
    assert "our whole call" in printed


@pytest.mark.slow
def test_what_resolving_costs_is_counted_in_passes_and_in_times_of_one(tmp_path, capsys):
    tiny = ["--resolved-decoders", "tiny-2", "--out", str(tmp_path), "--sections", "resolved"]
    rows = {row["search"]: row for row in solvers.main([*TINY, *tiny])["resolved"]}
    assert list(rows) == list(resolved.SEARCHES)
    assert all(row["message"] == "" and row["converged"] == 3 for row in rows.values())
    assert all(sum(row["segments"].values()) == 3 for row in rows.values())
    assert rows["segments=128"]["segments"] == {128: 3}
    # Four times as many nodes; what is the same for both is the straight line at 32.
    assert 2 < rows["segments=128"]["passes"] / rows["segments=32, tol=1e-6"]["passes"] < 6
    assert all(row["pass_times"] > 1 for row in rows.values())
    assert "pass-times" in capsys.readouterr().out


def test_held_out_points_are_paired_in_the_order_of_a_seed():
    problem = decoder_problem("tiny-2", Path(), 1, 32)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(5))
    chosen = resolved.neighbors(problem, 4)
    assert torch.equal(chosen.start, problem.encodings[order[:4]])
    assert torch.equal(chosen.end, problem.encodings[order[4:8]])


def test_fine_lengths_are_exact_to_fourth_order_and_need_no_derivatives(monkeypatch):
    sphere = geodesic.PullbackManifold(lambda z: torch.stack([z[:, 0].sin(), z[:, 0].cos(), 0 * z[:, 0]], dim=1))
    monkeypatch.setattr(error, "CHORDS", 64)
    path = torch.linspace(0, 3, 5)[None, :, None]
    torch.testing.assert_close(error.fine_length(sphere, path), torch.tensor([3.0]), rtol=1e-6, atol=0)
    with monkeypatch.context() as patch:
        patch.setattr(geodesic.PullbackManifold, "metric_tensor", None)
        error.fine_length(sphere, path)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_stated_errors_hold_on_random_decoders(activation):
    manifold = geodesic.PullbackManifold(error.network(activation, 2))
    found = error.errors(manifold, geodesic.solve(manifold, *error.ends(2, 2)))
    assert len(found.rows) == 2
    assert (found.true <= 3 * found.solution.error + 1e-6).all()


@pytest.mark.slow
def test_a_stated_error_that_is_too_small_is_found():
    manifold = geodesic.PullbackManifold(error.network("tanh", 2))
    solution = geodesic.solve(manifold, *error.ends(2, 4), segments=4)
    claims = dataclasses.replace(
        solution, resolved=torch.ones_like(solution.resolved), error=torch.full_like(solution.error, 1e-8)
    )
    assert (error.errors(manifold, claims).ratio > 3).all()


@pytest.mark.slow
def test_the_errors_of_every_kind_of_decoder_are_listed(tmp_path, capsys):
    rows = solvers.main(["--sections", "error", "--error-pairs", "2", "--out", str(tmp_path)])["error"]
    assert [row["decoder"] for row in rows] == ["elu-2", "elu-8"]
    assert all(row["pairs"] == row["resolved"] == row["honest"] == 1 for row in rows)
    assert "the worst" in capsys.readouterr().out


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own(tmp_path):
    results = solvers.main([*TINY, "--sections", "memory", "--methods", "auto", "--out", str(tmp_path)])
    (memory,) = results["memory"]
    assert memory["message"] == ""
    assert 0 < memory["peak_bytes"] < 1e9
    assert (memory["segments"], memory["dtype"]) == (4, "float32")


def test_a_decoder_that_does_not_exist_is_refused(capsys):
    with pytest.raises(SystemExit):
        solvers.main(["--decoders", "elu"])
    assert "elu-2" in capsys.readouterr().err


# --- geometries -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> list[str]:
    """Options for benchmarks of VAEs: small ones of few digits, each trained by the first test that needs it."""
    folder = tmp_path_factory.mktemp("digits")
    config = folder / "digits.yaml"
    config.write_text(
        "name: digits\ndata: {kind: digits, limit: 200}\nmodel: {network: {hidden_sizes: [8]}}\n"
        "training: {epochs: 1, importance_samples: 0, picture_every: null}\n"
    )
    return ["--config", str(config), "--runs", str(folder / "runs")]


@pytest.mark.slow
def test_every_section_of_the_geometries_runs_with_an_embedding_and_without(digits, tmp_path, capsys):
    few = ["--pairs", "2", "--segments", "4", "--queries", "3", "--candidates", "3", "--query-segments", "4"]
    few += ["--latent-sizes", "2"]
    paths = [*digits, "--out", str(tmp_path / "out")]
    names = ["euclidean", "ensemble, independent"]
    results = geometries.main([*few, *paths, "--geometries", *names])
    assert {section: list(found["2"]) for section, found in results.items()} == dict.fromkeys(results, names)
    assert all(row["converged"] >= 1 for row in results["work"]["2"].values())
    assert all(math.isfinite(row["gain "]) for row in results["data"]["2"].values())
    assert all(0 <= row["geodesic accuracy"] <= 1 for row in results["neighbors"]["2"].values())
    assert (tmp_path / "out" / "keeps-to-the-data.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "out" / "work.json").read_text()) == results["work"]
    assert "neighbors, latent size 2" in capsys.readouterr().out


def test_leaving_out_what_cannot_be_nearest_changes_no_neighbor():
    manifold = geodesic.PullbackManifold(nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 8)))
    queries, references = torch.randn(5, 2), torch.randn(30, 2)
    candidates = torch.cdist(queries, references).topk(20, largest=False).indices
    nearest, solved = geometries._nearest(manifold, queries, references, candidates, 8)
    assert solved < 100
    a, b = queries[:, None].expand(-1, 20, -1), references[candidates]
    length = geodesic.solve(manifold, a, b, segments=8, tol=1e-3).length
    assert torch.equal(nearest, candidates.gather(1, length.argmin(1, keepdim=True))[:, 0])


def test_the_density_is_the_mean_of_the_kernels():
    points, z = torch.randn(40, 2), torch.randn(3, 7, 2)
    h = float(points.var(0).mean().sqrt()) * 40 ** (-1 / 6)
    kernels = torch.distributions.Independent(torch.distributions.Normal(points, h), 1)
    expected = kernels.log_prob(z[..., None, :]).exp().mean(-1).log()
    torch.testing.assert_close(geometries.log_density(z, points), expected, rtol=1e-7, atol=1e-7)


def test_the_mean_along_a_path_does_not_depend_on_how_fast_it_is_run_through():
    points, t = torch.randn(40, 2), torch.linspace(0, 1, 2001)[:, None]
    line = lambda t: torch.tensor([-2.0, 0.0]) + t * torch.tensor([4.0, 1.0])  # noqa: E731
    slow, fast = (geometries._mean_along(line(s)[None], points) for s in (t, t**3))
    torch.testing.assert_close(slow, fast, rtol=1e-4, atol=0)


# --- the Riemannian tools ---------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::geodesic.errors.GeodesicWarning")  # as it should: paths are coarse here
@pytest.mark.slow
def test_the_tools_are_counted_and_the_curvature_is_drawn(digits, tmp_path, capsys):
    few = ["--rows", "2", "--points", "6", "--pairs", "3", "--repeats", "1", "--latent-sizes", "2"]
    few += ["--tool-segments", "4", "--averaged", "4", "--mean-segments", "4"]
    few += ["--segments", "8", "--transports", "connection", "projection"]
    paths = [*digits, "--out", str(tmp_path)]
    riemannian.main([*few, *paths, "--geometries", "euclidean", "ensemble, independent"])
    found = {name: json.loads((tmp_path / f"{name}.json").read_text())["2"] for name in riemannian.SECTIONS}
    assert all(row["passes a row"] > 0 for row in found["tools"].values())
    assert all(row["converged"] == "1 of 1" for row in found["means"].values())
    # The connection at every node, and nothing else of the size of the network: more than the ends alone would take.
    transport = found["tools"]["parallel_transport, projection (4 segments)"]
    assert transport["passes a row"] > 5
    assert list(found["curvature"]) == ["euclidean"]  # independent members have no curvature
    assert found["curvature"]["euclidean"]["points"] == 6
    assert found["transport"]["8"]["connection"] < found["transport"]["8"]["projection"]
    assert (tmp_path / "curvature.png").stat().st_size > 5_000
    assert "tools, elu, latent size 2" in capsys.readouterr().out


def test_planes_are_random_in_the_metric_and_not_in_the_coordinates():
    z = torch.tensor([[1.0, 0.3, -0.2], [0.1, 0.5, 0.4]])
    K = riemannian._section(geodesic.surfaces.StereographicSphere(dimension=3), z, *torch.randn(2, 2, 3))
    torch.testing.assert_close(K, torch.ones(2))
