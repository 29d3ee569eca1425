"""Laws of plans: they repeat answers, say why, fit one manifold, follow costs, and bound what is held at once."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import geodesic
from geodesic.door.door import visit
from geodesic.errors import InputError
from geodesic.geometry.costs import Meter
from geodesic.solvers import Plan
from tests.decoders import network, pairs

_HOW: dict[str, Any] = {"segments": 8, "tol": 1e-3, "max_steps": 10}


def solved(d: int, **how: Any) -> tuple[geodesic.Manifold, Any, geodesic.GeodesicSolution]:
    manifold, ends = geodesic.PullbackManifold(network(d)), pairs(2, d)
    return manifold, ends, geodesic.solve(manifold, *ends, **_HOW | how)


def same(one: geodesic.GeodesicSolution, other: geodesic.GeodesicSolution) -> bool:
    """Bit for bit, NaN included."""
    values = [(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one)]
    return all(
        torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)) if isinstance(a, torch.Tensor) else a == b for a, b in values
    )


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called on, nothing may be measured."""

    def forbidden(*_: object) -> float:
        raise AssertionError("measured anew")

    def forbid() -> None:
        for name in ("_watched", "_timed"):
            monkeypatch.setattr(Meter, name, forbidden)

    return forbid


# --- repeating ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("d", "how"),
    [(2, {}), (8, {}), (36, {}), (3, {"memory": 6e4}), (3, {"solver": geodesic.LBFGS(history=3)})],
    ids=["clear", "timed", "many coordinates", "little memory", "asked for"],
)
def test_a_plan_given_again_gives_the_same_answer_bit_for_bit_and_measures_nothing(
    d: int, how: dict[str, Any], unmeasured: Callable[[], None]
) -> None:
    manifold, ends, first = solved(d, **how)
    unmeasured()
    again = geodesic.solve(manifold, *ends, **_HOW, plan=first.plan)
    assert same(first, again)
    assert again.plan == first.plan


@pytest.mark.slow
def test_a_plan_read_from_a_file_gives_the_same_answer_in_any_tool(
    tmp_path: Path, unmeasured: Callable[[], None]
) -> None:
    manifold, ends, first = solved(8)
    first.save(tmp_path / "solution.npz")
    plan = geodesic.GeodesicSolution.load(tmp_path / "solution.npz").plan
    assert plan == first.plan
    unmeasured()
    assert same(first, geodesic.solve(manifold, *ends, **_HOW, plan=plan))
    search = geodesic.Search(**_HOW, plan=plan)
    with pytest.warns(geodesic.errors.GeodesicWarning, match="of 2 geodesics"):
        found = geodesic.distance(manifold, *ends, search=search)
    torch.testing.assert_close(found, first.length)


def test_a_plan_whose_solver_no_file_can_hold_is_read_and_refused(tmp_path: Path) -> None:
    manifold, ends = geodesic.PullbackManifold(lambda z: torch.cat([z, z.square()], dim=1)), pairs(1, 2)
    solver = geodesic.GradientDescent("encoder", encoder=lambda x: x[:, :2], epsilon=1.0)
    geodesic.solve(manifold, *ends, segments=4, max_steps=2, solver=solver).save(tmp_path / "solution.npz")
    plan = geodesic.GeodesicSolution.load(tmp_path / "solution.npz").plan
    with pytest.raises(InputError, match=r"^plan: expected one with its solver, and GradientDescent\(.* give solver="):
        geodesic.solve(manifold, *ends, segments=4, plan=plan)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("manifold", "d", "dtype", "said"),
    [
        (lambda: geodesic.PullbackManifold(network(3)), 3, torch.float64, "3 latent coordinates"),
        (lambda: geodesic.PullbackManifold(nn.Sequential(network(2), nn.Linear(20, 7))), 2, torch.float64, "7 outputs"),
        (lambda: geodesic.PullbackManifold(network(2).float()), 2, torch.float32, "20 outputs, float32 on cpu"),
        (lambda: geodesic.EnsembleManifold([network(2), network(2)]), 2, torch.float64, "EnsembleManifold with"),
    ],
    ids=["latent size", "output size", "dtype", "geometry"],
)
def test_a_plan_made_for_another_manifold_is_refused_with_both(
    manifold: Callable[[], geodesic.Manifold], d: int, dtype: torch.dtype, said: str
) -> None:
    _, _, first = solved(2)
    ends = (z.to(dtype) for z in pairs(1, d))
    with pytest.raises(InputError, match=rf"^plan: expected one made for .*{said}.*, got one for Pull.*leave plan out"):
        geodesic.solve(manifold(), *ends, **_HOW, plan=first.plan)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"solver": geodesic.LBFGS()}, "plan: it decides the solver already, got solver=LBFGS"),
        ({"memory": 1e9}, r"plan: it decides the memory already, got memory=1000000000\.0"),
    ],
)
def test_a_plan_beside_what_it_decides_is_refused(how: dict[str, Any], said: str) -> None:
    _, _, first = solved(2)
    with pytest.raises(InputError, match=f"^{said}"):
        geodesic.Search(plan=first.plan, **how)


def test_what_is_no_plan_is_refused() -> None:
    with pytest.raises(InputError, match=r"^plan: expected a Plan, such as solution\.plan, got str"):
        geodesic.Search(plan="auto")  # type: ignore[arg-type]


# --- choosing -----------------------------------------------------------------------------------


def costing(monkeypatch: pytest.MonkeyPatch, ratio: float) -> None:
    """Exact Hessians that take as long as so many products."""
    monkeypatch.setattr(Meter, "seconds_a_node", lambda self, work: {"expansion": ratio}.get(work, 1.0))


def plan_of(d: int) -> Plan:
    return solved(d, max_steps=1)[2].plan


@pytest.mark.parametrize(
    ("ratio", "solver", "said"),
    [
        (5.0, geodesic.Newton(), "takes as long as 5 products, no more than"),
        (500.0, geodesic.NewtonKrylov(), "takes as long as 500 products, more than"),
    ],
)
def test_exact_hessians_are_formed_where_they_take_no_longer_than_a_certificate_by_products(
    monkeypatch: pytest.MonkeyPatch, ratio: float, solver: Any, said: str
) -> None:
    costing(monkeypatch, ratio)
    plan = plan_of(8)
    assert plan.solver == solver
    assert said in plan.reason
    assert plan.certificate == ("exact" if ratio == 5.0 else "products")


@pytest.mark.parametrize("ratio", [30.0, 10.0])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Tanh])
def test_exact_hessians_may_cost_less_where_kinks_hold_the_curvature_that_they_do_not_see(
    monkeypatch: pytest.MonkeyPatch, activation: type[nn.Module], ratio: float
) -> None:
    costing(monkeypatch, ratio)
    net = nn.Sequential(network(8, width=64, activation=activation), nn.Sigmoid())
    plan = geodesic.solve(geodesic.PullbackManifold(lambda z: net(z / 4)), *pairs(2, 8), **_HOW).plan
    kinks = activation in (nn.ReLU, nn.LeakyReLU)
    assert ("curvature lies on kinks" in plan.reason) == kinks
    assert plan.solver == (geodesic.NewtonKrylov() if kinks and ratio == 30.0 else geodesic.Newton())


@pytest.mark.parametrize(
    ("d", "solver", "said"),
    [(4, geodesic.Newton(), "Newton: d = 4 is at most 4"), (33, geodesic.NewtonKrylov(), "d = 33 is above 32")],
)
def test_nothing_is_timed_where_the_latent_size_tells(
    monkeypatch: pytest.MonkeyPatch, d: int, solver: Any, said: str
) -> None:
    monkeypatch.setattr(Meter, "_timed", None)
    plan = plan_of(d)
    assert plan.solver == solver
    assert said in plan.reason
    assert not plan.costs.seconds


def test_exact_hessians_that_do_not_fit_give_way_to_products(monkeypatch: pytest.MonkeyPatch) -> None:
    costing(monkeypatch, 1.0)
    monkeypatch.setattr("geodesic.geometry.memory.BUDGET", 5e4)
    plan = plan_of(8)
    assert plan.solver == geodesic.NewtonKrylov()
    assert "exact Hessians of 8 nodes take" in plan.reason


def test_a_plan_says_all_of_it_when_printed() -> None:
    text = str(plan_of(8))
    for said in ("Newton", "exact Hessian", "ms", "MB", "PullbackManifold with 8 latent coordinates and 20 outputs"):
        assert said in text


# --- measuring ----------------------------------------------------------------------------------


def test_a_decoder_costs_what_its_fastest_call_costs() -> None:
    decoder, calls = network(8), []

    def cached(z: torch.Tensor) -> torch.Tensor:  # every third call fills its cache
        calls.append(len(z))
        if len(calls) % 3 == 0:
            time.sleep(0.03)
        return decoder(z)

    meter = Meter(geodesic.PullbackManifold(cached), torch.zeros(1, 8))
    with visit():  # in which the decoder is looked at once
        meter.bytes_a_node("product")
        seconds = [meter.seconds_a_node(work) for work in ("observe", "gradient", "product")]
    assert max(seconds) < 0.03 / 3


@pytest.mark.slow
def test_what_is_measured_once_is_known_for_as_long_as_the_manifold_lives(unmeasured: Callable[[], None]) -> None:
    manifold, ends, first = solved(8)
    seconds = first.plan.costs.seconds
    assert geodesic.solve(manifold, *ends, **_HOW).plan.costs.seconds == seconds


@pytest.mark.slow
def test_measuring_takes_few_passes_of_a_path() -> None:
    rows: list[int] = []
    decoder = network(16)

    def counted(z: torch.Tensor) -> torch.Tensor:
        rows.append(len(z))
        return decoder(z)

    manifold, ends = geodesic.PullbackManifold(counted), pairs(1, 16)
    first = geodesic.solve(manifold, *ends, segments=32, tol=1e-3, max_steps=10)
    spent = sum(rows)
    rows.clear()
    again = geodesic.solve(manifold, *ends, segments=32, tol=1e-3, max_steps=10, plan=first.plan)
    assert same(first, again)
    assert spent - sum(rows) <= 10 * 33
