"""Capacities that several models share: against brute force, HiGHS, and capacities that say the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eccos_rs import PooledCapacity, Status, assign, certify, frontier
from tests.helpers import outside, problems, reference, small
from tests.helpers.judging import MET, agrees_with_brute_force, judged


@pytest.mark.parametrize("block", range(10))
def test_brute_force_agrees(block: int) -> None:
    for seed in range(block * 60, (block + 1) * 60):
        agrees_with_brute_force(small.draw_pooled(seed), seed)


@pytest.mark.parametrize("mode", ["quality", "budget"])
@pytest.mark.parametrize("weights", ["unit", "tokens"])
def test_highs_agrees(weights: str, mode: str) -> None:
    for seed in (1, 2):
        problem = small.pooled_family(60, 6, seed, weights, mode)
        rows = reference.rows(**problem)
        relaxed, best = outside.highs_lp(rows), outside.highs_milp(rows, gap=1e-4, time_limit=20.0)
        found = assign(**problem)
        judged(problem, found)
        assert relaxed is not None
        assert best is not None
        unit = -1.0 / 60 if mode == "budget" else 1.0
        assert found.status in MET
        assert found.dual_bound / unit == pytest.approx(relaxed, rel=1e-6)
        assert mode == "budget" or (found.pool_price > 0).any()
        assert reference.value(rows, found.model) <= best[0] + 0.02 * abs(best[0])


@pytest.mark.parametrize("weights", ["unit", "tokens"])
def test_many_queries_are_screened(weights: str) -> None:
    problem = small.pooled_family(20_000, 6, 3, weights, "quality")
    found = assign(**problem)
    judged(problem, found)
    assert found.status == Status.OPTIMAL
    assert found.passes > 0
    assert (found.pool_price > 0).any()
    again = assign(**problem, threads=2)
    assert again.model.tobytes() == found.model.tobytes()


def test_requests_in_overlapping_pools_are_exchanged() -> None:
    """Annealing, which is for loads, left 16 times the gap."""
    found = assign(**small.pooled_family(1024, 6, 3, "unit", "quality"))
    assert found.status == Status.OPTIMAL


@pytest.mark.parametrize("goal", [{"min_quality": 0.6}, {"budget": 0.05}, {"quality_value": 3e-4}])
def test_a_pool_of_one_model_is_its_capacity(goal: dict[str, float]) -> None:
    made = problems.make(200, 6, seed=4)
    own = assign(made.cost, made.quality, capacity=made.capacity, **goal)
    pools = [PooledCapacity([j], limit) for j, limit in enumerate(made.capacity)]
    pooled = assign(made.cost, made.quality, pools=pools, **goal)
    assert pooled.model.tobytes() == own.model.tobytes()
    assert pooled.pool_price.tolist() == own.capacity_price.tolist()
    assert pooled.bound == own.bound


def test_the_price_is_what_one_more_slot_saves() -> None:
    cost = np.array([[1.0, 2.0, 7.0]] * 6)
    problem = {"cost": cost, "quality": np.full((6, 3), 0.5), "min_quality": 0.0}
    found = assign(**problem, pools=[PooledCapacity([0, 1], 4)])
    more = assign(**problem, pools=[PooledCapacity([0, 1], 5)])
    assert found.cost - more.cost == pytest.approx(float(found.pool_price[0]), rel=1e-6)
    assert certify(assignment=found, **problem, pools=[PooledCapacity([0, 1], 4)]).pool_load.tolist() == [4]


@pytest.mark.parametrize("with_load", [False, True])
def test_what_does_not_fit_is_deferred_and_the_repair_is_enough(with_load: bool) -> None:
    g = np.random.default_rng(5)
    for seed in range(40):
        n, m = 30, 4
        problem: dict[str, Any] = {
            "cost": g.random((n, m)), "quality": g.random((n, m)), "min_quality": 0.3,
            "priority": g.integers(0, 3, n),
        }  # fmt: skip
        size = 1.0
        if with_load:
            problem["load"] = np.rint(g.random((n, m)) * 9 + 1)
            size = 5.0
        problem["pools"] = [
            PooledCapacity([0, 1], float(g.integers(4, 16)) * size, name="left"),
            PooledCapacity([2, 3], float(g.integers(4, 13)) * size, name="right"),
            PooledCapacity([0, 3], float(g.integers(4, 13)) * size),
        ]
        found = assign(**problem)
        judged(problem, found)
        if found.status in MET:
            continue
        assert len(found.deferred), seed
        assert found.repair is not None, seed
        if found.status is not Status.OVERLOADED:
            continue
        assert "capacity_short" in found.reasons
        assert found.repair.pools is not None, (seed, found.explanation)
        assert "Cheapest repair: raise the capacity of" in str(found.explanation)
        pools = [
            replace(pool, capacity=pool.capacity + more)
            for pool, more in zip(problem["pools"], found.repair.pools, strict=True)
        ]
        repaired = assign(**problem | {"pools": pools})
        assert not len(repaired.deferred), (seed, repaired.explanation)


def test_without_a_mask_as_many_requests_are_served_as_fit_by_priority() -> None:
    cost, quality = np.ones((10, 4)), np.full((10, 4), 0.5)
    pools = [PooledCapacity([0, 1, 2], 5, name="all"), PooledCapacity([0, 1], 3), PooledCapacity([3], 2)]
    found = assign(cost, quality, quality_value=0.0, pools=pools, priority=range(10))
    assert found.status is Status.OVERLOADED
    assert found.deferred.tolist() == [0, 1, 2]
    assert "hold 7 of 10 queries: 3 do not fit" in str(found.explanation)


def test_the_certificate_finds_a_broken_pool_and_a_false_price() -> None:
    problem = small.pooled_family(40, 6, 2, "unit", "quality")
    found = assign(**problem)
    duals = found.duals
    lies = {
        "pooled capacities": replace(found, model=np.zeros(40, np.int32)),
        "dual bound": replace(found, duals=replace(duals, pool=duals.pool * 3.0)),
        "multipliers": replace(found, duals=replace(duals, pool=-np.ones(3))),
    }
    for claim, lie in lies.items():
        assert claim in [failed.name for failed in certify(assignment=lie, **problem).failed], claim


def test_a_warm_start_takes_the_prices_of_the_pools() -> None:
    problem = small.pooled_family(3000, 6, 6, "unit", "quality")
    cold = assign(**problem)
    warm = assign(**problem, warm_start=cold)
    judged(problem, warm)
    assert warm.steps < cold.steps
    without = assign(**{name: value for name, value in problem.items() if name != "pools"}, warm_start=cold)
    assert without.status in MET


def test_alternatives_count_the_prices_of_the_pools() -> None:
    problem = small.pooled_family(200, 6, 7, "tokens", "quality")
    found = assign(**problem, alternatives=True)
    assert found.alternatives is not None
    load, mu = np.asarray(problem["load"], float), found.duals.capacity.copy()
    for pool, price in zip(problem["pools"], found.duals.pool, strict=True):
        mu[list(pool.models)] += price
    score = problem["cost"] - found.duals.requirement * problem["quality"].astype(float) + mu * load
    i = np.arange(200)
    score[i, found.model], own = np.inf, score[i, found.model]
    assert found.alternatives.price_change == pytest.approx(score.min(axis=1) - own, rel=1e-6, abs=1e-12)


def test_the_frontier_keeps_the_pools() -> None:
    problem = small.pooled_family(120, 6, 8, "unit", "quality")
    wanted = problem.pop("min_quality")
    curve = frontier(**problem)
    assert curve.complete
    for least in (wanted, wanted * 0.9, wanted * 1.05):
        relaxed = outside.highs_lp(reference.rows(**problem, min_quality=least))
        assert relaxed is None or curve.cost_at(least) == pytest.approx(relaxed, rel=1e-6)


def test_capacities_that_are_no_whole_requests_are_certified() -> None:
    """Half a slot is none, in the bound too: the certificate once took it as half of one."""
    made = problems.make(40, 6, seed=9)
    own = np.floor(made.capacity) + 0.5
    problem = {"cost": made.cost, "quality": made.quality, "min_quality": made.min_quality, "capacity": own}
    assert certify(assignment=assign(**problem), **problem)
    pooled = problem | {"pools": [PooledCapacity([0, 1], own[0] + own[1] - 2.5)], "capacity": None}
    assert certify(assignment=assign(**pooled), **pooled)
