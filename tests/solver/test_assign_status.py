"""Every status, its explanation and its repair; priorities, deferral, groups, resources."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eccos_rs import Assignment, Status, assign, certify
from eccos_rs.errors import Overloaded, ProblemError
from tests.helpers import problems

COST = np.array([[1.0, 4.0, 9.0]] * 4)
QUALITY = np.array([[0.3, 0.6, 0.9]] * 4)


def solve(**changes: Any) -> Assignment:
    problem: dict[str, Any] = {"cost": COST, "quality": QUALITY} | changes
    found = assign(**problem)
    judged = {k: v for k, v in problem.items() if k not in ("overload", "warm_start", "alternatives")}
    assert certify(assignment=found, **judged)
    return found


def test_optimal() -> None:
    found = solve(min_quality=0.6, tolerance=0.0)
    assert found.status is Status.OPTIMAL
    assert found.status == "optimal"
    assert found.cost == pytest.approx(16.0)
    assert found.explanation is None
    assert found.repair is None
    assert found.reasons == ()
    assert found.violation == 0.0


def test_feasible_when_nothing_whole_lies_near_the_bound() -> None:
    found = solve(min_quality=0.62)
    assert found.status == Status.FEASIBLE
    assert found.gap > 1e-4
    assert found.bound < found.cost
    exact = solve(min_quality=0.62, tolerance=0.0)
    assert exact.status == Status.OPTIMAL
    assert exact.gap == 0.0
    assert exact.bound == exact.cost
    assert exact.dual_bound < exact.bound


def test_quality_above_the_best_models() -> None:
    found = solve(min_quality=0.95)
    assert found.status == Status.QUALITY_UNREACHABLE
    assert found.quality == pytest.approx(0.9)
    assert found.violation == pytest.approx(0.05)
    assert "quality_above_best" in found.reasons
    assert "A mean quality of 0.95 is above 0.9" in str(found.explanation)
    assert found.repair is not None
    assert found.repair.min_quality == pytest.approx(0.9)
    assert solve(min_quality=found.repair.min_quality).status in (Status.OPTIMAL, Status.FEASIBLE)


def test_quality_above_what_the_capacities_allow() -> None:
    limits = {"min_quality": 0.8, "capacity": [4.0, 4.0, 1.0]}
    found = solve(**limits)
    assert found.status == Status.QUALITY_UNREACHABLE
    assert found.quality == pytest.approx((3 * 0.6 + 0.9) / 4)
    assert found.reasons == ("quality_above_capacities",)
    assert "is above 0.675, the most that the limits allow" in str(found.explanation)
    assert found.repair is not None
    floor, more = found.repair.min_quality, found.repair.capacity
    assert floor == pytest.approx(0.675)
    assert solve(min_quality=floor, capacity=limits["capacity"]).status in (Status.OPTIMAL, Status.FEASIBLE)
    if more is not None:
        raised = np.array(limits["capacity"]) + more
        assert solve(min_quality=0.8, capacity=np.ceil(raised)).status in (Status.OPTIMAL, Status.FEASIBLE)


def test_budget_below_the_cheapest() -> None:
    found = solve(budget=3.5)
    assert found.status == Status.BUDGET_UNREACHABLE
    assert found.cost == 4.0
    assert found.violation == pytest.approx(0.5)
    assert "budget_below_cheapest" in found.reasons
    assert "A budget of $3.5 is below $4" in str(found.explanation)
    assert found.repair is not None
    assert found.repair.budget == pytest.approx(4.0)
    assert solve(budget=found.repair.budget).status in (Status.OPTIMAL, Status.FEASIBLE)


def test_budget_below_what_the_capacities_allow() -> None:
    found = solve(budget=6.0, capacity=[2.0, 1.0, 1.0])
    assert found.status == Status.BUDGET_UNREACHABLE
    assert found.cost == 15.0
    assert found.reasons == ("budget_below_capacities",)
    assert "the least that the limits allow" in str(found.explanation)


def test_a_budget_of_nothing() -> None:
    assert solve(budget=0.0).status == Status.BUDGET_UNREACHABLE
    free = solve(cost=COST * [0.0, 1.0, 1.0], budget=0.0)
    assert free.status == Status.OPTIMAL
    assert free.model.tolist() == [0, 0, 0, 0]


def test_overloaded_says_how_much_is_missing_and_what_would_cure_it() -> None:
    found = solve(quality_value=0.0, capacity=[1.0, 1.0, 1.0])
    assert found.status == Status.OVERLOADED
    assert found.deferred.tolist() == [3]
    assert sorted(found.model[:3]) == [0, 1, 2]
    assert found.reasons[0] == "capacity_short"
    assert "The capacities hold 3 of 4 queries: 1 do not fit." in str(found.explanation)
    assert found.repair is not None
    assert found.repair.capacity is not None
    raised = np.ones(3) + found.repair.capacity
    assert solve(quality_value=0.0, capacity=raised).status == Status.OPTIMAL
    with pytest.raises(Overloaded, match="hold 3 of 4"):
        assign(COST, QUALITY, quality_value=0.0, capacity=[1.0, 1.0, 1.0], overload="raise")


def test_overloaded_keeps_the_promise_for_those_who_are_served() -> None:
    found = solve(min_quality=0.6, capacity=[1.0, 1.0, 1.0])
    assert found.status == Status.OVERLOADED
    assert found.quality == pytest.approx(0.6)
    assert found.violation == 0.0


def test_nothing_fits_at_all() -> None:
    found = solve(min_quality=0.6, capacity=[0.0, 0.0, 0.0])
    assert found.status == Status.OVERLOADED
    assert found.model.tolist() == [-1] * 4
    assert found.cost == 0.0
    assert np.isnan(found.quality)


def test_the_lowest_priority_is_deferred_first_then_the_last_come() -> None:
    for priority, deferred in (
        ([0, 0, 0, 0], [2, 3]),
        ([0, 1, 0, 1], [0, 2]),
        ([-5, 1, 2, 0], [0, 3]),
        ([3, 2, 1, 0], [2, 3]),
    ):
        found = solve(quality_value=0.0, capacity=[1.0, 1.0, 0.0], priority=priority)
        assert found.deferred.tolist() == deferred, priority


def test_deferral_is_joint() -> None:
    """A query is served in a full model when another one can make room for it."""
    allowed = np.array(
        [[True, True, False], [True, False, False], [False, False, True], [True, False, False]]
    )
    found = solve(quality_value=0.0, capacity=[1.0, 1.0, 1.0], allowed=allowed)
    assert found.model.tolist() == [1, 0, 2, -1]
    urgent = solve(quality_value=0.0, capacity=[1.0, 1.0, 1.0], allowed=allowed, priority=[0, 0, 0, 1])
    assert urgent.model.tolist() == [1, -1, 2, 0]


def test_a_query_that_no_model_may_take_can_be_left_out() -> None:
    allowed = np.array([[True] * 3, [False] * 3, [True] * 3, [True] * 3])
    found = solve(min_quality=0.6, allowed=allowed, unroutable="defer", tolerance=0.0)
    assert found.model[1] == -1
    assert (found.model[[0, 2, 3]] >= 0).all()
    assert found.quality == pytest.approx(0.6)
    with pytest.raises(ProblemError, match="query 1"):
        assign(COST, QUALITY, min_quality=0.6, allowed=allowed)


def test_floors_of_queries_hold_for_the_very_pair() -> None:
    found = solve(min_quality=0.0, query_floor=[0.0, 0.5, 0.7, np.nan])
    assert found.model.tolist() == [0, 1, 2, 0]
    assert solve(min_quality=0.0, query_floor=0.6).model.tolist() == [1, 1, 1, 1]


def test_groups_have_floors_and_budgets_beside_the_global_floor() -> None:
    found = solve(
        min_quality=0.5,
        group=[0, 0, 1, 1],
        group_min_quality=[0.9, np.nan],
        group_budget=[np.nan, 2.0],
        tolerance=0.0,
    )
    assert found.status == Status.OPTIMAL
    assert found.model.tolist() == [2, 2, 0, 0]
    assert found.duals.group_quality.shape == (2,)


def test_a_group_that_cannot_be_served_as_promised_is_named() -> None:
    found = solve(min_quality=0.3, group=[0, 0, 1, 1], group_min_quality=[0.95, np.nan])
    assert found.status == Status.QUALITY_UNREACHABLE
    assert "group_quality" in found.reasons
    assert "Group 0 was promised a mean quality of 0.95" in str(found.explanation)
    found = solve(budget=100.0, group=[0, 1, 1, 1], group_budget=[np.nan, 2.0])
    assert found.status == Status.BUDGET_UNREACHABLE
    assert "Group 1 was given a budget of $2" in str(found.explanation)


def test_several_resources_hold_at_once() -> None:
    instance = problems.make(64, 6, seed=5, weights="tokens", load=1.4)
    assert instance.load is not None
    load = np.stack([np.ones_like(instance.load), instance.load])
    requests = np.full(6, 16.0)
    capacity = np.stack([requests, instance.capacity])
    found = assign(
        instance.cost, instance.quality, min_quality=instance.min_quality, load=load, capacity=capacity
    )
    proof = certify(
        instance.cost, instance.quality, found, min_quality=instance.min_quality, load=load, capacity=capacity
    )
    assert proof, proof
    assert found.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert found.capacity_price.shape == (2, 6)
    assert (np.bincount(found.model, minlength=6) <= 16).all()


def test_shadow_prices_predict_the_change_of_cost() -> None:
    instance = problems.make(4000, 10, seed=3, tight=0.7, load=1.2)
    problem = {"cost": instance.cost, "quality": instance.quality, "min_quality": instance.min_quality}
    found = assign(**problem, capacity=instance.capacity)
    step = 1e-4
    more = assign(**{**problem, "min_quality": instance.min_quality + step}, capacity=instance.capacity)
    assert (more.bound - found.bound) / step == pytest.approx(found.quality_price, rel=0.02)
    j = int(np.argmax(found.capacity_price))
    wider = instance.capacity + 4.0 * (np.arange(10) == j)
    assert (found.bound - assign(**problem, capacity=wider).bound) / 4 == pytest.approx(
        found.capacity_price[j], rel=0.05
    )


def test_in_budget_mode_prices_are_dollars_too() -> None:
    instance = problems.make(4000, 10, seed=3, mode="budget")
    assert instance.budget is not None
    found = assign(instance.cost, instance.quality, budget=instance.budget, capacity=instance.capacity)
    more = assign(instance.cost, instance.quality, budget=instance.budget * 1.001, capacity=instance.capacity)
    assert instance.budget * 0.001 / (more.bound - found.bound) == pytest.approx(
        found.quality_price, rel=0.02
    )


def test_alternatives() -> None:
    found = solve(min_quality=0.5, capacity=[np.inf, np.inf, np.inf], alternatives=True, tolerance=0.0)
    others = found.alternatives
    assert others is not None
    assert (others.model != found.model).all()
    assert solve(min_quality=0.5).alternatives is None
    one = assign([[1.0]], [[0.5]], min_quality=0.5, alternatives=True).alternatives
    assert one is not None
    assert one.model.tolist() == [-1]
    assert np.isinf(one.price_change).all()


@pytest.mark.parametrize("mode", ["quality", "budget"])
def test_the_price_change_flips_the_query_at_these_prices(mode: str) -> None:
    instance = problems.make(200, 6, seed=2, mode=mode)
    found = assign(instance.cost, instance.quality, **instance.keywords, alternatives=True)
    others = found.alternatives
    assert others is not None
    a, c = instance.quality.astype(float), instance.cost.astype(float)
    y = found.duals
    score = (c - y.requirement * a if mode == "quality" else c - a / y.requirement) + (
        y.capacity if mode == "quality" else y.capacity / y.requirement
    )
    i = np.arange(200)
    rest = score.copy()
    rest[i, found.model] = np.inf
    np.testing.assert_array_equal(others.model, rest.argmin(axis=1))
    expected = rest.min(axis=1) - score[i, found.model]
    np.testing.assert_allclose(others.price_change, expected, rtol=1e-6, atol=1e-12)
    assert (others.price_change >= -1e-12).mean() > 0.9
