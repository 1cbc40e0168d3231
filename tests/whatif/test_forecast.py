"""What worlds come to, against what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from eccos_rs import LLM, Limit, Pool
from eccos_rs.errors import InputError, PoolError
from eccos_rs.whatif import forecast
from eccos_rs.whatif.scenario import (
    added,
    batch_share,
    commitment,
    goal,
    limit,
    outage,
    price,
    traffic_factor,
)  # fmt: skip
from tests.whatif.given import POOL, given_traffic, today


def outcomes(*changes, pool=POOL, traffic=None, lanes=None, resamples=20, **goals):
    first = today(pool, **goals)
    traffic = given_traffic() if traffic is None else traffic
    worlds = [first, *(change(first) for change in changes)]
    return forecast(traffic, worlds, lanes=lanes, resamples=resamples).outcomes


def test_prices_outages_traffic_and_goals():
    """At a promise of 0.59 `small` answers all; what it costs follows from prices and tokens."""
    now, dearer, without, twice, better, rich = outcomes(
        price("small", factor=3.0), outage("small"), traffic_factor(2.0), goal("min_quality", 0.75),
        goal("budget", 10.0),
    )  # fmt: skip
    assert now.cost.value == pytest.approx(0.1)
    assert now.quality.value == pytest.approx(0.6)
    assert now.shares == {"small": 1.0, "large": 0.0}
    assert dearer.cost.value == pytest.approx(0.3)
    assert dearer.saved.value == pytest.approx(-0.2)
    assert (without.cost.value, without.quality.value) == pytest.approx((1.0, 0.9))
    assert without.shares == {"large": 1.0}
    assert twice.cost.value == pytest.approx(0.2)
    # 15 points more: the requests that `small` answers worst go to `large`.
    assert better.quality.value == pytest.approx(0.75, abs=2e-3)
    assert 0.4 < better.shares["large"] < 0.5
    assert better.gained.value == pytest.approx(0.15, abs=2e-3)
    assert rich.quality.value == pytest.approx(0.9)


def test_intervals_hold_the_figure_and_a_world_without_change_saves_nothing():
    now, same = outcomes(lambda world: world.becomes("the same"), min_quality=0.75, resamples=60)
    for estimate in (now.cost, now.quality):
        assert estimate.low < estimate.value < estimate.high
    # A level is known to 0.1 in log odds and lengths to 15 %: some points, some tens of percent.
    assert 0.01 < now.quality.high - now.quality.low < 0.15
    assert 1.2 < now.cost.high / now.cost.low < 2.5
    assert tuple(same.saved) == tuple(same.gained) == (0.0, 0.0, 0.0)


def test_a_batch_lane_takes_its_price_from_the_pool_and_no_live_slots():
    lanes = Pool([LLM("small", 1.0, 1.0, slots=1), LLM("small", 0.25, 0.25, lane="batch", lane_hours=24.0)])
    live = lanes.select([model.name for model in lanes if model.lane is None])
    name = live.names[0]
    now, half = outcomes(
        batch_share(0.5), pool=live, lanes=lanes, traffic=given_traffic(2_000, (name,)), min_quality=0.5
    )
    share = 1 - (1 - half.cost.value / now.cost.value) / 0.75
    assert share == pytest.approx(0.5, abs=0.04)
    assert half.waiting[0].busy.value == pytest.approx(now.waiting[0].busy.value * share, rel=0.05)


def test_a_batch_lane_that_nobody_has_is_an_error():
    with pytest.raises(PoolError, match=r"50% in the batch lane.*no model has a batch lane"):
        outcomes(batch_share(0.5))


def test_a_commitment_is_kept_and_its_worth_told():
    now, bound = outcomes(commitment("large", 30))
    assert bound.shares["large"] == pytest.approx(0.3)
    assert bound.saved.value == pytest.approx(-30 * 0.009)
    (told,) = bound.worth
    assert (told.limit, told.step) == ("large", "3 fewer requests per day promised")
    assert told.saved.value == pytest.approx(3 * 0.009, rel=1e-3)
    assert now.worth == []


def test_a_commitment_beyond_the_traffic_is_an_error():
    with pytest.raises(PoolError, match=r"large is promised 101 requests per day; the log has 100"):
        outcomes(commitment("large", 101))


@pytest.mark.parametrize("shared", [False, True])
def test_worth_of_a_limit_is_what_the_raised_world_saves(shared):
    """The slots of `large` cover 20 requests; the promise of 0.72 would like more of the mid-priced model."""
    slots, span = 1, 86_400.0
    traffic = given_traffic(
        names=("small", "mid", "large"), tokens_per_second=500 * 20 / span, utilisation=1.0
    )
    models = [
        LLM("small", 1.0, 1.0),
        LLM("mid", 2.0, 2.0, slots=None if shared else slots),
        LLM("large", 10.0, 10.0),
    ]
    pool = Pool(models, [Limit("gpu", ["mid"], slots=slots)] if shared else [])
    name = "gpu" if shared else "mid"
    now, more = outcomes(limit(name, "slots", 10, more=True), pool=pool, traffic=traffic, min_quality=0.75)
    assert now.shares["mid"] == pytest.approx(0.2, abs=0.011)
    (told,) = [each for each in now.worth if each.limit == name]
    assert told.step == "10 more slots"
    assert told.saved.value == pytest.approx(more.saved.value, rel=0.02)
    assert told.saved.value > 0.1
    assert told.saved.low < told.saved.value < told.saved.high
    assert f"{name}: 10 more slots" in more.free


def test_what_does_not_fit_is_not_served_and_more_serves_it():
    pool = Pool([LLM("small", 1.0, 1.0, requests_per_minute=40 / 1440), LLM("large", 10.0, 10.0, slots=0)])
    now, enough = outcomes(limit("small", "requests_per_minute", 1.0), pool=pool, min_quality=0.5)
    assert now.status == "overloaded"
    assert now.deferred.value == pytest.approx(0.6)
    told = {each.limit: each for each in now.worth}
    assert told["small"].served.value == pytest.approx(4.0)
    assert enough.deferred.value == 0.0


def test_a_new_model_takes_what_it_does_best():
    traffic = given_traffic(names=("small", "large", "new"))
    now, more = outcomes(added(LLM("new", 1.5, 1.5)), traffic=traffic, min_quality=0.75)
    assert more.shares["new"] > 0.4 > more.shares["large"] == 0.0
    assert more.saved.value > 0.3 * now.cost.value
    assert more.saved.low > 0.0


def test_todays_point_lies_on_the_frontier_and_the_logs_own_above_it():
    traffic = given_traffic(answered_by=np.ones(100, dtype=np.intp))
    assert traffic.goal(POOL, 0.97, strongest=False) == ("min_quality", pytest.approx(0.9))
    assert traffic.goal(POOL, 0.5, strongest=True) == ("min_quality", pytest.approx(0.45))
    found = forecast(traffic, [today(min_quality=0.75)], resamples=20)
    quality, cost = zip(*found.frontier, strict=True)
    now = found.outcomes[0]
    # A whole request is US$ 0.009.
    assert now.cost.value == pytest.approx(np.interp(now.quality.value, quality, cost), abs=0.01)
    assert found.as_is.cost.value == pytest.approx(1.0)
    assert found.as_is.quality.value == pytest.approx(0.9)


def test_a_sampled_log_stands_for_the_whole():
    (now,) = outcomes(traffic=given_traffic(scale=10.0, days=2.0))
    assert now.cost.value == pytest.approx(0.1 * 10.0 / 2.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("days", 0.0), ("days", float("nan")), ("tokens_per_second", -1.0), ("utilisation", 1.5)],
)
def test_numbers_out_of_their_range_are_named(field, value):
    with pytest.raises(InputError, match=f"{field} must .* got"):
        given_traffic(**{field: value})


def test_no_request_is_an_error():
    with pytest.raises(InputError, match="the log holds no request"):
        given_traffic(0)
