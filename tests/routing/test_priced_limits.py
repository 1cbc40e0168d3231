"""Overage, minimum and side limits of a routed batch: kept, paid, proven, explained, refused by name."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from eccos_rs import (
    Limit,
    Minimum,
    OverageTier,
    Plan,
    Policy,
    PolicyError,
    Pool,
    PoolError,
    Query,
    Router,
    Session,
    SideLimit,
    SideRow,
    certify,
)
from eccos_rs.bulk.limits import check_policy
from eccos_rs.cli.route import without_live_limits
from eccos_rs.routing.side_limits import read_side_limits
from tests.helpers.given import TRIO, texts, trio

CARBON = SideLimit(
    "carbon", at_most=10.0, per_output_token={"small": 1e-3, "middle": 8e-3}, per_request={"large": 0.5}
)


def limited(*limits: Limit) -> Router:
    return trio(pool=TRIO.with_limits(*limits))


def certified(plan: Plan) -> bool:
    problem, goal = plan.problem, plan.policy.goal
    options = {
        name: getattr(problem, name) for name in ("load", "capacity", "pools", "overage", "minimum", "rows")
    }
    return bool(certify(problem.cost, problem.quality, plan.assignment, **{goal[0]: goal[1]}, **options))


def carbon(plan: Plan) -> float:
    total = 0.0
    for row in plan:
        assert row.output_tokens is not None
        total += {"small": 1e-3, "middle": 8e-3}.get(row.model or "", 0.0) * row.output_tokens
        total += 0.5 * (row.model == "large")
    return total


def test_a_side_limit_is_kept_and_has_its_price_and_its_reason() -> None:
    free = trio().route(texts(60), min_quality=0.7)
    between = 0.9 * carbon(free)
    plan = trio().route(texts(60), min_quality=0.7, rows=[replace(CARBON, at_most=between)])
    assert plan.status in ("optimal", "feasible")
    assert plan.mean_quality >= 0.7 - 1e-9
    assert carbon(plan) <= between * (1 + 1e-9)
    assert plan.total_cost > free.total_cost
    assert certified(plan)
    (use,) = plan.limits
    assert (use.name, use.kind, use.limit) == ("carbon", "side", between)
    assert use.used == pytest.approx(carbon(plan))
    assert use.price is not None
    assert use.price > 0
    assert f"carbon: {use.used:,.6g} of at most {between:,.6g}; one unit more is worth $" in str(plan)
    reasons = {row.reason_code: row.reason for row in plan}
    assert "for what it adds to carbon" in reasons["limit_priced"]


def test_what_a_side_limit_is_worth_is_what_more_of_it_saves() -> None:
    batch = texts(400)
    free = trio().route(batch, min_quality=0.7)
    at = 0.9 * carbon(free)
    less, plan, more = (
        trio().route(batch, min_quality=0.7, rows=[replace(CARBON, at_most=limit)])
        for limit in (at - 2.0, at, at + 2.0)
    )
    price = plan.limits[0].price
    assert price is not None
    # The bound is convex in a limit: its price lies between what the next step saves and the last one cost.
    bounds = [each.assignment.dual_bound for each in (less, plan, more)]
    assert 0 < bounds[1] - bounds[2] <= 2.0 * price * 1.001
    assert bounds[0] - bounds[1] >= 2.0 * price * 0.999


def test_a_mean_at_least_over_a_group_alone() -> None:
    batch = [Query(text, group="a" if at % 2 else "b") for at, text in enumerate(texts(40))]
    second = SideLimit(
        "second measure", at_least=0.8, mean=True, group="a",
        per_request={"small": 0.2, "middle": 0.7, "large": 0.95},
    )  # fmt: skip
    plan = trio().route(batch, min_quality=0.5, rows=[second])
    figure = {"small": 0.2, "middle": 0.7, "large": 0.95}
    own = [figure[row.model or ""] for row, query in zip(plan, batch, strict=True) if query.group == "a"]
    assert np.mean(own) >= 0.8 - 1e-9
    assert plan.limits[0].used == pytest.approx(np.mean(own))
    assert "second measure" in str(plan)


def test_a_side_limit_out_of_reach_is_said_by_name() -> None:
    plan = trio().route(texts(20), min_quality=0.0, rows=[replace(CARBON, at_most=0.0)])
    assert str(plan.status) == "row_unreachable"
    assert "carbon" in (plan.explanation or "")


def test_an_array_of_ones_own_is_taken_and_its_shape_checked() -> None:
    batch = texts(30)
    slow = np.tile([0.0, 0.1, 0.5], (30, 1))
    row = SideRow(slow, at_most=0.1, mean=True, name="slow answers")
    plan = trio().route(batch, min_quality=0.55, rows=[row])
    assert plan.limits[0].used <= 0.1 + 1e-9
    with pytest.raises(PolicyError, match=r"'slow answers' must have the shape \(29, 3\)"):
        trio().route(batch[:29], rows=[row])


def test_overage_is_paid_by_tiers_weighed_and_certified() -> None:
    batch = texts(60)
    free = trio().route(batch, min_quality=0.65)
    middle = [row for row in free if row.model == "middle"]
    used = sum(row.input_tokens + (row.output_tokens or 0.0) for row in middle)
    tiers = [OverageTier(0.5, above_tokens=0.3 * used), OverageTier(4.0, above_tokens=0.6 * used)]
    router = limited(Limit("reserved", ("middle",), overage=tiers))
    plan = router.route(batch, min_quality=0.65)
    now = sum(row.input_tokens + (row.output_tokens or 0.0) for row in plan if row.model == "middle")
    charge = max(now - 0.3 * used, 0.0) * 0.5e-6 + max(now - 0.6 * used, 0.0) * 3.5e-6
    (use,) = plan.limits
    assert use.used == pytest.approx(now)
    assert use.charge == pytest.approx(charge)
    assert plan.total_cost == pytest.approx(float(plan.cost.sum()) + charge)
    # Weighed: the plan that knows nothing of it would pay more.
    blind = max(used - 0.3 * used, 0.0) * 0.5e-6 + max(used - 0.6 * used, 0.0) * 3.5e-6
    assert plan.total_cost <= free.total_cost + blind + 1e-12
    assert now < used
    assert certified(plan)
    assert "beyond the" in str(plan)
    assert "it charges" in str(plan)
    assert any("adds to overage of limit 'reserved' (tokens)" in row.reason for row in plan)


def test_a_minimum_draws_queries_that_are_paid_anyhow() -> None:
    batch = texts(40)
    free = trio().route(batch, min_quality=0.5)
    large = sum(row.model == "large" for row in free)
    router = limited(Limit("reserved", ("large",), minimum=Minimum(0.05, requests=large + 8)))
    plan = router.route(batch, min_quality=0.5)
    assert sum(row.model == "large" for row in plan) == large + 8
    assert plan.limits[0].charge == 0
    assert certified(plan)
    cheap = limited(Limit("reserved", ("large",), minimum=Minimum(1e-9, requests=large + 8)))
    left = cheap.route(batch, min_quality=0.5)
    assert left.limits[0].charge == pytest.approx(8e-9)
    assert "unused are paid with $" in str(left)


def test_baselines_pay_their_charges_too() -> None:
    router = limited(Limit("reserved", ("large",), overage=[OverageTier(0.5, above_requests=4)]))
    plan = router.route(texts(10), min_quality=0.5)
    without = trio().route(texts(10), min_quality=0.5)
    strongest, cheapest = (plan.baselines[at].cost - without.baselines[at].cost for at in (0, 1))
    assert strongest == pytest.approx(0.5 * 6)
    assert cheapest == 0


def test_a_budget_and_an_overage_do_not_go_together() -> None:
    router = limited(Limit("reserved", ("large",), overage=[OverageTier(1.0, above_requests=1)]))
    with pytest.raises(PolicyError, match=r"overage of limit 'reserved' .*ask for min_quality"):
        router.route(texts(4), budget=1.0)


def test_the_pool_file_holds_them() -> None:
    made = TRIO.with_limits(
        Limit(
            "a", ("small",), overage=[OverageTier(1.0, above_tokens=5.0), OverageTier(2.0, above_tokens=9.0)]
        ),
        Limit("b", ("small", "large"), slots=3, minimum=Minimum(0.5, tokens=100.0)),
    )
    assert Pool.from_toml(made.to_toml()) == made
    head = 'schema_version = 1\n[[model]]\nname = "m"\ninput_price = 1\noutput_price = 1\n'
    head += '[[limit]]\nname = "x"\nmodels = ["m"]\n'
    for rest, words in {
        "overage = [{above_token = 1, price = 1}]": "unknown key 'above_token'.*above_tokens",
        "overage = [{above_tokens = 1}]": "has no price",
        "overage = [{price = 1}]": "exactly one of above_requests and above_tokens, got neither",
        "overage = [{price = 2, above_tokens = 1}, {price = 1, above_tokens = 2}]": "must rise",
        "overage = [{price = 1, above_tokens = 1}, {price = 2, above_requests = 2}]": "got both",
        "overage = 3": "must be tables, got 3",
        "minimum = 3": "must be a table, got 3",
        "minimum = {requests = -1, price = 1}": "requests of a minimum must",
        "": "limits nothing",
    }.items():
        with pytest.raises(PoolError, match=words):
            Pool.from_toml(head + rest)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": ""}, "needs a name"),
        ({"at_most": None}, "got neither"),
        ({"at_least": 1.0}, "got at_most and at_least"),
        ({"at_most": float("nan")}, "at_most of side limit 'carbon' must be a finite number"),
        ({"mean": 1}, "mean of side limit"),
        ({"per_request": {"large": "much"}}, "per_request of 'large' .* must be a finite number"),
        ({"per_request": None, "per_output_token": None}, "has no figures"),
        ({"group": 3}, "group of side limit"),
    ],
)
def test_a_malformed_side_limit_is_told(fields: dict[str, object], words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        replace(CARBON, **fields)  # type: ignore[arg-type]


def test_every_model_needs_a_figure_and_every_name_a_model() -> None:
    with pytest.raises(PolicyError, match="'carbon' has no figure of 'large'"):
        trio().route(texts(2), rows=[replace(CARBON, per_request=None)])
    with pytest.raises(PolicyError, match=r"names 'smal', which is not in the pool.*'small'"):
        trio().route(texts(2), rows=[replace(CARBON, per_request={"smal": 1.0, "large": 1.0})])
    for rows in (CARBON, [1], [CARBON, CARBON]):
        with pytest.raises(PolicyError, match="rows"):
            Policy(rows=rows)  # type: ignore[arg-type]


def test_a_file_of_side_limits(tmp_path) -> None:
    path = tmp_path / "side.toml"
    path.write_text(
        '[[side_limit]]\nname = "c"\nat_most = 2\nper_request = { small = 1, middle = 1, large = 2 }\n'
    )
    (limit,) = read_side_limits(path)
    assert limit == SideLimit("c", at_most=2, per_request={"small": 1, "middle": 1, "large": 2})
    for text, words in {
        "[[side_limits]]": r"wanted \[\[side_limit\]\] tables alone, got 'side_limits'",
        '[[side_limit]]\nname = "c"\nat_mots = 2': "unknown key 'at_mots'.*at_most",
        "[[side_limit]]\nat_most = 2\nper_request = {a = 1}": "needs a name",
        "nonsense": "not valid TOML",
    }.items():
        path.write_text(text)
        with pytest.raises(PolicyError, match=words):
            read_side_limits(path)
    with pytest.raises(PolicyError, match="No such file"):
        read_side_limits(tmp_path / "none.toml")


def test_policies_with_rows_pickle_and_compare() -> None:
    policy = Policy(min_quality=0.5, rows=[CARBON])
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert policy.replace(min_quality=0.6).rows == (CARBON,)


def test_who_sees_requests_one_by_one_refuses_them_by_name() -> None:
    priced = limited(Limit("reserved", ("large",), overage=[OverageTier(1.0, above_requests=1)]))
    with pytest.raises(PoolError, match=r"limit 'reserved' has 'overage'.* a session decides requests"):
        Session(priced)
    with pytest.raises(PolicyError, match=r"rows holds 'carbon'.* a session decides requests"):
        Session(trio(), policy=Policy(min_quality=0.5, rows=[CARBON]))
    with pytest.raises(PoolError, match=r"limit 'reserved' has 'overage'.*parts of files"):
        check_policy(Policy(), priced.pool)
    with pytest.raises(PolicyError, match=r"rows holds 'carbon'.*parts of files"):
        check_policy(Policy(rows=[CARBON]), TRIO)


def test_a_file_takes_live_limits_off_and_keeps_prices() -> None:
    tiers = [OverageTier(1.0, above_requests=1)]
    router = limited(Limit("reserved", ("large",), slots=2, overage=tiers), Limit("gpu", ("small",), slots=1))
    kept = without_live_limits(router, Policy()).pool.limits
    assert kept == (Limit("reserved", ("large",), overage=tiers),)


def test_the_plan_as_data_holds_its_limits() -> None:
    plan = trio().route(texts(5), min_quality=0.0, rows=[replace(CARBON, at_most=0.0)])
    from eccos_rs.cli.route import whole_plan

    found = json.loads(json.dumps(whole_plan(plan, [{}] * 5, 50.0), allow_nan=False))
    assert found["limits"][0]["name"] == "carbon"
