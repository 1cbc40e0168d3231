"""Problems that once broke the search: scales, tight loads, time limits, warm starts, repairs as printed."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eccos_rs import Status, assign, certify, frontier
from tests.helpers import outside, reference

MET = (Status.OPTIMAL, Status.FEASIBLE)


def tight(seed: int, n: int = 14, m: int = 6, spare: float = 0.05, decades: float = 1.0) -> dict[str, Any]:
    """Token loads of so many decades in capacities that they fill but for a little."""
    g = np.random.default_rng([seed, n, m])
    load = 10.0 ** g.uniform(0.0, decades, (n, 1)) * g.uniform(0.8, 1.2, (n, m))
    cost, quality = g.random((n, m)), g.random((n, m))
    capacity = load.mean(axis=1).sum() * (1 + spare) * g.dirichlet(np.full(m, 5.0))
    return {"cost": cost, "quality": quality, "min_quality": 0.5, "load": load, "capacity": capacity}


def test_the_depth_of_the_search_takes_no_stack() -> None:
    """On a thread with 256 KiB, where a frame for each level does not fit."""
    failed: list[object] = []

    def solve() -> None:
        try:
            for seed in range(30):
                problem = tight(seed)
                found = assign(**problem, tolerance=0.0, node_limit=3000)
                assert certify(assignment=found, tolerance=0.0, **problem)
        except BaseException as error:
            failed.append(error)
            raise

    size = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=solve)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
    assert not failed


@pytest.mark.parametrize("huge", [1e6, 1e10, 1e15])
def test_a_proof_holds_at_any_scale(huge: float) -> None:
    """A model that nobody should take, written as one that costs a great deal."""
    found = assign([[1.0, 1.5, huge]] * 20, [[0.5] * 3] * 20, min_quality=0.0, tolerance=0.0)
    assert (found.cost, found.bound, found.status) == (20.0, 20.0, Status.OPTIMAL)


@pytest.mark.parametrize("block", range(4))
def test_brute_force_agrees_over_many_decades(block: int) -> None:
    for seed in range(block * 25, block * 25 + 25):
        g = np.random.default_rng(seed)
        n, m = int(g.integers(2, 6)), int(g.integers(2, 4))
        problem = tight(seed, n, m, spare=0.6, decades=float(g.choice([1.0, 4.0, 9.0])))
        problem["cost"] = 10.0 ** g.uniform(-6, 6, (n, m))
        best = reference.brute_force(reference.rows(**problem))
        found = assign(**problem, tolerance=0.0)
        assert certify(assignment=found, tolerance=0.0, **problem), seed
        if best is None:
            assert found.status not in MET, seed
        else:
            assert found.status is Status.OPTIMAL, (seed, found)
            assert found.cost == pytest.approx(best[0], rel=1e-7), seed


@pytest.mark.parametrize("limit", [0.0, 1e-4, 3e-3])
@pytest.mark.parametrize("goal", [{"min_quality": 0.7}, {"budget": 900.0}, {"quality_value": 0.3}])
def test_what_a_time_limit_cuts_off_claims_nothing(limit: float, goal: dict[str, float]) -> None:
    g = np.random.default_rng(5)
    n, m = 6000, 8
    problem: dict[str, Any] = {"cost": g.random((n, m)), "quality": g.random((n, m)), **goal}
    allowed = g.random((n, m)) < 0.7
    allowed[:, 0] = True
    for extra in (
        {"capacity": np.full(m, n / 6.0)},
        {"capacity": np.full(m, n / 6.0), "allowed": allowed},
        {"capacity": np.full(m, n / 5.0), "load": g.uniform(0.5, 1.5, (n, m))},
    ):
        found = assign(**problem, **extra, time_limit=limit)
        assert certify(assignment=found, **problem, **extra)
        assert found.status not in (Status.QUALITY_UNREACHABLE, Status.BUDGET_UNREACHABLE, Status.OVERLOADED)


def test_what_was_not_found_is_not_called_impossible() -> None:
    """Bin packing: split queries fit, whole ones do not, and no search is complete."""
    g = np.random.default_rng(3)
    n, m = 60, 5
    load = np.repeat(g.integers(50, 100, (n, 1)).astype(float), m, axis=1)
    capacity = np.full(m, load[:, 0].sum() / m)
    found = assign(g.random((n, m)), g.random((n, m)), min_quality=0.0, load=load, capacity=capacity)
    assert found.status in (Status.UNDECIDED, *MET)
    if found.status is Status.UNDECIDED:
        assert found.reasons[0] in ("not_placed", "not_found")
        assert "not proven" in str(found.explanation)


def test_overloaded_is_said_of_loads_that_cannot_fit() -> None:
    problem = tight(1, n=30, spare=-0.3)
    assert assign(**problem).status is Status.OVERLOADED


@pytest.mark.parametrize("seed", range(6))
def test_frontier_keeps_token_limits(seed: int) -> None:
    """Capacities are tokens, not requests: the curve agrees with HiGHS at both ends and between."""
    problem = tight(seed, n=25, m=4, spare=0.5)
    del problem["min_quality"]
    curve = frontier(**problem)
    assert curve.complete
    for share in (0.0, 0.4, 0.9):
        wanted = float(curve.quality[0] + share * (curve.quality[-1] - curve.quality[0]))
        best = outside.highs_lp(reference.rows(**problem, min_quality=wanted))
        assert best is not None
        assert float(curve.cost_at(wanted)) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_a_matching_under_a_mask_serves_as_many_as_fit(seed: int) -> None:
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    g = np.random.default_rng(seed)
    n, m = 300, 6
    allowed = g.random((n, m)) < 0.25
    allowed[np.arange(n), g.integers(0, m, n)] = True
    capacity = g.integers(5, 90, m)
    found = assign(np.ones((n, m)), np.ones((n, m)), min_quality=0.0, allowed=allowed, capacity=capacity)
    slots = np.repeat(allowed, capacity, axis=1)
    most = int((maximum_bipartite_matching(csr_matrix(slots), perm_type="column") >= 0).sum())
    assert len(found.model) - len(found.deferred) == most
    assert certify(
        np.ones((n, m)), np.ones((n, m)), found, min_quality=0.0, allowed=allowed, capacity=capacity
    )


@pytest.mark.parametrize("seed", range(12))
def test_prices_of_another_aim_start_nothing(seed: int) -> None:
    """An earlier answer of the same goal whose criterion was the extreme: its prices have another unit."""
    g = np.random.default_rng(seed)
    n, m = 40, 5
    cost, quality = g.random((n, m)) * 10.0 ** g.integers(-4, 9), g.random((n, m))
    limits = {"capacity": np.full(m, 9.0)}
    beyond = assign(cost, quality, min_quality=1.0, **limits)
    assert beyond.criterion == "quality"
    wanted = beyond.quality - 0.02
    warm = assign(cost, quality, min_quality=wanted, **limits, warm_start=beyond)
    cold = assign(cost, quality, min_quality=wanted, **limits)
    assert (warm.cost, warm.bound) == (cold.cost, cold.bound)
    assert certify(cost, quality, warm, min_quality=wanted, **limits)


@pytest.mark.parametrize("seed", range(10))
def test_the_printed_repair_works_when_typed_in(seed: int) -> None:
    g = np.random.default_rng([seed, 77])
    n, m = 50, 4
    cost, quality = g.random((n, m)) * 1e-3, g.random((n, m))
    capacity = g.multinomial(n, np.full(m, 1 / m)).astype(float)
    limits: dict[str, Any] = {"capacity": capacity}
    if seed % 2:
        limits = {"load": g.lognormal(0, 0.7, (n, m)), "capacity": np.full(m, 24.0)}
    missed = assign(cost, quality, min_quality=0.99, **limits)
    assert missed.status not in MET
    if typed := re.search(r"lower min_quality to ([\d.e+-]*\d)", str(missed.explanation)):
        assert assign(cost, quality, min_quality=float(typed[1]), **limits).status in MET
    missed = assign(cost, quality, budget=float(cost.min(axis=1).sum()), **limits)
    if typed := re.search(r"raise the budget to \$([\d.e+-]*\d)", str(missed.explanation)):
        assert assign(cost, quality, budget=float(typed[1]), **limits).status in MET
    short = {**limits, "capacity": limits["capacity"] * 0.15}
    missed = assign(cost, quality, min_quality=0.0, **short)
    assert missed.status is Status.OVERLOADED
    raised = short["capacity"].copy()
    for model, by in re.findall(r"of model (\d+) by ([\d.e+-]*\d)", str(missed.explanation)):
        raised[int(model)] += float(by)
    assert assign(cost, quality, min_quality=0.0, **{**limits, "capacity": raised}).status in MET


def test_certify_refutes_a_false_proof() -> None:
    """What once was answered: 23, called proven, where 20 is possible."""
    problem = {"cost": [[1.0, 1.5, 1e10]] * 20, "quality": [[0.5] * 3] * 20, "min_quality": 0.0}
    good = assign(**problem, tolerance=0.0)
    model = good.model.copy()
    model[:6] = 1
    bad = replace(good, model=model, cost=23.0, objective=23.0, bound=23.0, nodes=5, proven=True)
    proof = certify(assignment=bad, tolerance=0.0, **problem)
    assert [claim.name for claim in proof.failed] == ["bound"]
    assert "REFUTED" in proof.failed[0].detail


def test_certify_wants_a_proof_of_unreachable() -> None:
    g = np.random.default_rng(2)
    problem: dict[str, Any] = {"cost": g.random((30, 3)), "quality": g.random((30, 3))}
    top = assign(**problem, min_quality=1.0)
    assert top.status is Status.QUALITY_UNREACHABLE
    assert certify(assignment=top, min_quality=1.0, **problem)
    # The same claim of a promise that can be kept, with an assignment that misses it.
    low = assign(**problem, min_quality=0.0)
    wanted = low.quality + 0.05
    said = replace(
        low, status=Status.QUALITY_UNREACHABLE, criterion="quality", violation=0.05, objective=low.quality,
        bound=top.bound, dual_bound=top.dual_bound, duals=top.duals, gap=abs(low.quality / top.bound - 1),
    )  # fmt: skip
    proof = certify(assignment=said, min_quality=wanted, **problem)
    assert "status" in [claim.name for claim in proof.failed]


@pytest.mark.parametrize("limits", [{}, {"capacity": [3000.0] * 4}], ids=["hulls", "bases"])
def test_a_frontier_hears_a_time_limit(limits: dict[str, Any]) -> None:
    g = np.random.default_rng(8)
    cost, quality = g.random((9000, 4)), g.random((9000, 4))
    cut = frontier(cost, quality, **limits, time_limit=0.0)
    assert not cut.complete
    assert len(cut) < 9000
