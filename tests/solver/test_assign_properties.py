"""Changes of a problem whose effect on the answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_rs import Assignment, Status, assign, certify
from tests.helpers import outside, problems, reference

KINDS = st.sampled_from(problems.KINDS)
SEEDS = st.integers(0, 2**32 - 1)
MODES = st.sampled_from(["quality", "budget"])
families = given(kind=KINDS, seed=SEEDS, n=st.integers(1, 90), m=st.integers(1, 7), mode=MODES)
few = settings(max_examples=40, deadline=None, derandomize=True)


def made(kind: str, seed: int, n: int, m: int, mode: str = "quality", **how: Any) -> dict[str, Any]:
    g = np.random.default_rng(seed)
    how.setdefault("tight", float(g.choice([0.1, 0.6, 0.95])))
    how.setdefault("load", float(g.choice([1.0, 1.3, np.inf])))
    how.setdefault("shape", str(g.choice(["tier", "random", "uniform"])))
    instance = problems.make(n, m, kind, seed=seed, mode=mode, **how)
    return {"cost": instance.cost, "quality": instance.quality, **instance.keywords}


def solved(problem: dict[str, Any], **effort: Any) -> Assignment:
    found = assign(**problem, **effort)
    proof = certify(assignment=found, **problem, tolerance=effort.get("tolerance", 1e-4))
    assert proof, proof
    return found


def near(problem: dict[str, Any], a: Assignment, b: Assignment, rel: float = 1e-6) -> None:
    """Two answers prove the same; what they hold may differ within their gaps."""
    assert a.status == b.status or {a.status, b.status} == {Status.OPTIMAL, Status.FEASIBLE}
    size = max(abs(a.dual_bound), abs(b.dual_bound), 1e-300)
    rounding = 1e-9 * float(np.abs(problem["cost"]).max()) if a.criterion == "cost" else 1e-9
    assert abs(a.dual_bound - b.dual_bound) <= rel * size + rounding


@families
@few
def test_every_answer_is_certified(kind: str, seed: int, n: int, m: int, mode: str) -> None:
    solved(made(kind, seed, n, m, mode))


@families
@few
def test_the_order_of_queries_does_not_matter(kind: str, seed: int, n: int, m: int, mode: str) -> None:
    problem = made(kind, seed, n, m, mode)
    order = np.random.default_rng(seed).permutation(n)
    turned = {**problem, "cost": problem["cost"][order], "quality": problem["quality"][order]}
    near(problem, solved(problem), solved(turned))


@families
@few
def test_the_order_of_models_does_not_matter(kind: str, seed: int, n: int, m: int, mode: str) -> None:
    problem = made(kind, seed, n, m, mode)
    order = np.random.default_rng(seed).permutation(m)
    turned = {
        **problem,
        "cost": problem["cost"][:, order],
        "quality": problem["quality"][:, order],
        "capacity": problem["capacity"][order],
    }
    near(problem, solved(problem), solved(turned))


@families
@few
def test_a_power_of_two_scales_the_answer(kind: str, seed: int, n: int, m: int, mode: str) -> None:
    problem = made(kind, seed, n, m, mode)
    scaled = {**problem, "cost": problem["cost"] * 2.0**-7}
    if mode == "budget":
        scaled["budget"] = problem["budget"] * 2.0**-7
    plain, other = solved(problem), solved(scaled)
    assert plain.model.tobytes() == other.model.tobytes()
    assert other.cost == plain.cost * 2.0**-7


@pytest.mark.parametrize("power", [-12, -6, 6, 12])
@pytest.mark.parametrize("mode", ["quality", "budget"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_currency(power: int, mode: str, dtype: type) -> None:
    problem = made("base", 3, 80, 6, mode, tight=0.6)
    problem["cost"] = problem["cost"].astype(dtype)
    scaled = {**problem, "cost": (problem["cost"] * 10.0**power).astype(dtype)}
    if mode == "budget":
        scaled["budget"] = problem["budget"] * 10.0**power
    plain, other = solved(problem), solved(scaled)
    unit = 10.0**power if mode == "quality" else 1.0
    assert other.dual_bound == pytest.approx(plain.dual_bound * unit, rel=1e-6)
    assert other.status == plain.status


@families
@few
def test_a_model_that_nobody_wants_changes_nothing(kind: str, seed: int, n: int, m: int, mode: str) -> None:
    problem = made(kind, seed, n, m, mode)
    dear = problem["cost"].max(axis=1, keepdims=True) * 2
    wider = {
        **problem,
        "cost": np.hstack([problem["cost"], dear]).astype(np.float32),
        "quality": np.hstack([problem["quality"], np.zeros((n, 1), np.float32)]),
        "capacity": np.append(problem["capacity"], 0.0),
    }
    found = solved(wider)
    near(wider, solved(problem), found)
    assert (found.model < m).all()


@families
@few
def test_a_forbidden_pair_may_hold_nothing(kind: str, seed: int, n: int, m: int, mode: str) -> None:
    problem = made(kind, seed, n, m, mode, load=np.inf)
    g = np.random.default_rng(seed)
    allowed = g.random((n, m)) < 0.6
    allowed[np.arange(n), g.integers(0, m, n)] = True
    masked = {**problem, "allowed": allowed}
    nothing = np.where(allowed, problem["cost"], np.nan), np.where(allowed, problem["quality"], np.nan)
    plain = solved(masked)
    other = solved({**masked, "cost": nothing[0], "quality": nothing[1]})
    assert plain.model.tobytes() == other.model.tobytes()


@families
@few
def test_more_room_never_costs_more(kind: str, seed: int, n: int, m: int, mode: str) -> None:
    problem = made(kind, seed, n, m, mode)
    sign = 1.0 if mode == "quality" else -1.0
    tight = solved(problem)
    wide = solved({**problem, "capacity": problem["capacity"] + 1})
    if tight.criterion == wide.criterion:
        assert sign * wide.dual_bound <= sign * tight.dual_bound + 1e-7 * abs(tight.dual_bound) + 1e-15


@families
@few
def test_exact_mode_is_never_worse(kind: str, seed: int, n: int, m: int, mode: str) -> None:
    problem = made(kind, seed, min(n, 30), m, mode)
    quick, exact = solved(problem), solved(problem, tolerance=0.0, node_limit=3000)
    if quick.status in (Status.OPTIMAL, Status.FEASIBLE):
        assert exact.status in (Status.OPTIMAL, Status.FEASIBLE)
        sign = 1.0 if mode == "quality" else -1.0
        assert sign * exact.objective <= sign * quick.objective * (1 + sign * 1e-9) + 1e-15
        assert sign * exact.bound >= sign * quick.bound * (1 - sign * 1e-9) - 1e-15


@given(seed=SEEDS, n=st.integers(1, 60), m=st.integers(1, 6))
@few
def test_a_floor_exactly_at_the_maximum_is_met(seed: int, n: int, m: int) -> None:
    problem = made("base", seed, n, m, load=np.inf)
    problem["min_quality"] = min(1.0, float(problem["quality"].astype(float).max(axis=1).mean()))
    found = solved(problem)
    assert found.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert found.quality == pytest.approx(problem["min_quality"], rel=1e-9)


@given(seed=SEEDS, n=st.integers(1, 60), m=st.integers(1, 6))
@few
def test_a_budget_exactly_at_the_minimum_is_met(seed: int, n: int, m: int) -> None:
    problem = made("base", seed, n, m, "budget", load=np.inf)
    problem["budget"] = float(problem["cost"].astype(float).min(axis=1).sum())
    found = solved(problem)
    assert found.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert found.cost == pytest.approx(problem["budget"], rel=1e-9)


@given(seed=SEEDS, n=st.integers(2, 60), m=st.integers(2, 6))
@few
def test_float64_gives_what_float32_gives(seed: int, n: int, m: int) -> None:
    problem = made("base", seed, n, m)
    wide = {**problem, "cost": problem["cost"].astype(float), "quality": problem["quality"].astype(float)}
    plain, other = solved(problem), solved(wide)
    assert plain.model.tobytes() == other.model.tobytes()
    assert plain.bound == other.bound


@given(seed=SEEDS, n=st.integers(1, 40), m=st.integers(2, 5), share=st.floats(0.2, 0.95))
@few
def test_an_overload_serves_as_many_as_fit(seed: int, n: int, m: int, share: float) -> None:
    """`certify` checks that no chain of moves makes room for a deferred query that ranks higher."""
    g = np.random.default_rng(seed)
    problem = made("base", seed, n, m, min_quality=0.0, load=np.inf)
    problem["capacity"] = g.multinomial(int(share * n), np.ones(m) / m).astype(float)
    problem["allowed"] = g.random((n, m)) < 0.6
    problem["allowed"][np.arange(n), g.integers(0, m, n)] = True
    problem["priority"] = g.integers(0, 3, n)
    found = solved(problem)
    assert found.status == Status.OVERLOADED
    assert (np.bincount(found.model[found.model >= 0], minlength=m) <= problem["capacity"]).all()


@given(seed=SEEDS)
@few
def test_token_loads_that_fit_the_relaxation_are_placed_or_explained(seed: int) -> None:
    problem = made("base", seed, 40, 5, weights="tokens", load=1.1, shape="random")
    found = solved(problem)
    relaxed = outside.highs_lp(reference.rows(**problem))
    if found.status in (Status.OPTIMAL, Status.FEASIBLE):
        assert relaxed is not None
        assert found.cost >= relaxed * (1 - 1e-6)
    else:
        assert found.explanation
