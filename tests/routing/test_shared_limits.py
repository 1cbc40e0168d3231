"""Limits that several models of a pool share: a routed batch keeps to them."""

from __future__ import annotations

import numpy as np
import pytest

from eccos_rs import Limit, Overloaded, Plan, PolicyError, Pool, Query, Router, certify
from tests.helpers.given import TRIO, texts, trio


def limited(*limits: Limit) -> Router:
    return trio(pool=TRIO.with_limits(*limits))


def taken(plan: Plan, *names: str) -> int:
    return sum(model in names for model in plan.models)


def test_the_models_of_a_limit_take_no_more_requests_than_it_holds() -> None:
    free = trio().route(texts(40), min_quality=0.55)
    assert taken(free, "small", "middle") > 20
    for limit in (
        Limit("host", ("small", "middle"), slots=20),
        Limit("host", ("small", "middle"), slots=30, requests_per_minute=20.0),
    ):
        plan = limited(limit).route(texts(40), min_quality=0.55)
        assert taken(plan, "small", "middle") == 20
        assert plan.assignment.pool_price[0] > 0
        assert plan.total_cost > free.total_cost
        assert any("its capacity is taken" in row.reason for row in plan)


def test_the_tokens_of_a_limit_are_counted() -> None:
    free = trio().route(texts(40), min_quality=0.55)
    rows = [row for row in free if row.model in ("small", "middle")]
    used = sum(row.input_tokens + row.output_tokens for row in rows)
    limit = Limit("provider", ("small", "middle"), tokens_per_minute=0.5 * used)
    plan = limited(limit).route(texts(40), min_quality=0.55)
    now = sum(row.input_tokens + row.output_tokens for row in plan if row.model in ("small", "middle"))
    assert 0 < now <= 0.5 * used * (1 + 1e-9)
    assert not plan.assignment.deferred.size


def test_a_pool_file_carries_its_limits_to_the_decision() -> None:
    text = TRIO.with_limits(Limit("host", ("small", "middle"), slots=7)).to_toml()
    assert "[[limit]]" in text
    plan = trio(pool=Pool.from_toml(text)).route(texts(30), min_quality=0.3)
    assert taken(plan, "small", "middle") == 7


def test_what_a_limit_does_not_hold_is_deferred_by_priority_and_named() -> None:
    every = Limit("organisation", TRIO.names, requests_per_minute=12.0)
    batch = [Query(text, priority=at % 2) for at, text in enumerate(texts(20))]
    plan = limited(every).route(batch, min_quality=0.0)
    assert plan.status == "overloaded"
    assert plan.assignment.deferred.tolist() == list(range(4, 20, 2))
    assert "of limit 'organisation' (requests) by 8" in plan.explanation
    with pytest.raises(Overloaded, match="organisation"):
        limited(every).route(batch, min_quality=0.0, overload="raise")


def test_a_policy_sets_the_requests_of_a_limit_for_one_batch() -> None:
    router = limited(Limit("host", ("small", "middle"), slots=2))
    plan = router.route(texts(20), min_quality=0.3, capacity={"host": 9})
    assert taken(plan, "small", "middle") == 9
    with pytest.raises(PolicyError, match=r"capacity names 'hots'.*did you mean 'host'"):
        router.route(texts(20), capacity={"hots": 9})


def test_a_confidence_and_a_budget_keep_to_them_too() -> None:
    router = limited(Limit("host", ("small", "middle"), slots=30))
    for policy in ({"min_quality": 0.5, "confidence": 0.9}, {"budget": 10.0}, {"quality_value": 0.01}):
        plan = router.route(texts(100), **policy)
        assert taken(plan, "small", "middle") <= 30


def test_the_decision_is_certified_with_its_limits() -> None:
    router = limited(Limit("host", ("small", "middle"), slots=20), Limit("all", TRIO.names, slots=60))
    queries = [Query(text) for text in texts(60)]
    policy = router.policy.replace(min_quality=0.5)
    problem = router.problem(router.predict(queries), queries, policy)
    assert [pool.name for pool in problem.pools] == ["limit 'host' (requests)", "limit 'all' (requests)"]
    assert np.asarray(problem.pools[0].models).tolist() == [0, 1]
    plan = router.route(texts(60), min_quality=0.5)
    assert certify(
        problem.cost,
        problem.quality,
        plan.assignment,
        min_quality=0.5,
        pools=problem.pools,
        unroutable="defer",
    )
