"""Budgets over time: an even pace, a gentle end, and memory across restarts."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import json
import sqlite3
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eccos_rs.routing.policy import Policy
from eccos_rs.session import Session
from eccos_rs.session.control.clock import WallClock
from eccos_rs.session.control.pacing import EvenPacer, budget_period
from tests.helpers.sessions import in_made_up_time, make_router, population, rows_of

ROWS = rows_of(population(2000, seed=4))
CHEAP = float(make_router().costs(population(2000, seed=4))[:, 0].mean())


@given(st.floats(0, 4e9), st.sampled_from(["hour", "day", "month"]))
def test_periods_hold_their_moment_and_join(now, per):
    start, end = budget_period(per, now)
    assert start <= now < end
    assert budget_period(per, end)[0] == end
    begins = dt.datetime.fromtimestamp(start, dt.UTC)
    assert (begins.minute, begins.second) == (0, 0)
    assert per == "hour" or begins.hour == 0
    assert per != "month" or begins.day == 1


def test_wall_time_does_not_jump():
    ticks = itertools.count(100.0)
    wall = WallClock(lambda: next(ticks), lambda: 5000.0)
    assert [wall(), wall()] == [5001.0, 5002.0]


def test_the_allowance_spreads_what_is_left_over_what_is_expected():
    now = [0.0]
    pacer = EvenPacer(10.0, "hour", lambda: now[0])
    for second in range(600):
        now[0] = float(second)
        pacer.arrive(1)
    # One query per second, 3,000 more to come; what was not spent is caught up with a quarter more than even.
    catch_up = 0.25 * 10.0 / 3600
    assert pacer.allowance() == pytest.approx(10.0 / 3001 + catch_up, rel=0.02)
    assert pacer.pace().on_pace == pytest.approx(10.0 * 599 / 3600)
    pacer.reserve(1.5)
    pacer.settle(0.5, 0.5)
    assert pacer.pace().remaining == pytest.approx(8.5)
    # What is left is spread over what is to come.
    assert pacer.allowance() == pytest.approx(8.5 / 3001 + catch_up, rel=0.02)
    pacer.settle(1.0, 20.0)
    assert pacer.allowance() == 0.0
    now[0] = 3600.0
    assert pacer.roll()
    assert pacer.pace().spent == 0.0
    assert pacer.allowance() > 0.0


def test_a_spend_off_the_pace_is_brought_back():
    def allowance(spent):
        now = [0.0]
        pacer = EvenPacer(10.0, "hour", lambda: now[0])
        for second in range(1801):
            now[0] = float(second)
            pacer.arrive(1)
        pacer.settle(spent, spent)
        return pacer.allowance() * 1800

    # Halfway, 5 of 10 dollars are on the pace, and 2.5 cents more or less are not worth a correction.
    assert allowance(5.0) == pytest.approx(5.0, rel=0.02)
    # Each dollar beyond comes off as fast as if it were to be made good within an eighth of the hour.
    assert allowance(5.2) == pytest.approx(4.8 - 0.175 * 1800 / 450, rel=0.02)
    assert allowance(5.5) == pytest.approx(4.5 - 0.475 * 1800 / 450, rel=0.02)
    assert allowance(7.0) == 0.0
    # What was not spent is spread over the rest, with at most a quarter more than even.
    assert allowance(4.9) == pytest.approx(5.1 + 0.075 * 1800 / 450, rel=0.02)
    assert allowance(4.0) == pytest.approx(6.0 + 0.25 * 5.0, rel=0.02)


def test_dearer_answers_than_predicted_are_reckoned_with():
    now = [0.0]
    pacer = EvenPacer(1e6, "hour", lambda: now[0])
    assert pacer.cost_ratio == 1.0
    for _ in range(1000):
        pacer.reserve(0.01)
        pacer.settle(0.01, 0.03)
    assert pacer.cost_ratio == pytest.approx(3.0, rel=0.1)
    even = pacer.allowance()
    for _ in range(200):
        pacer.settle(0.01, 0.0, failed=True)  # an answer that never came says nothing of what one costs
    assert pacer.allowance() == pytest.approx(even)


def test_a_restart_expects_the_traffic_it_knew():
    now = [0.0]
    fresh, knowing = (EvenPacer(10.0, "hour", lambda: now[0]) for _ in range(2))
    knowing.expect(0.01)
    knowing.arrive(1)
    fresh.arrive(1)
    # 36 queries an hour were known; one that came at the very start is no evidence of thousands.
    assert 10.0 / 120 < knowing.allowance() < 10.0 / 36
    assert fresh.allowance() < 10.0 / 3600


async def day(session, *, queries, every, length=1.0):
    """Send one query at a time, evenly; return the predicted quality of each and the spend after it.

    Answers are `length` times as long as predicted.
    """
    quality, spent = [], []
    for at in range(queries):
        row = ROWS[at % len(ROWS)]
        lease = await session.acquire("?", prediction=row)
        quality.append(lease.predicted_quality)
        lease.release(output_tokens=length * float(row.output_tokens[0, lease.index]))
        spent.append(session.stats().pace.spent)
        await asyncio.sleep(every)
    return np.array(quality), np.array(spent)


@pytest.mark.parametrize("share", [2.0, 8.0])
def test_the_spend_follows_the_pace_and_uses_the_budget(share, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 7200.0)
    budget = share * CHEAP * 1800

    async def story():
        async with Session(make_router(policy=Policy(budget=budget, per="hour"))) as session:
            return await day(session, queries=1795, every=2.0)

    quality, spent = in_made_up_time(story())
    assert spent[-1] <= 1.001 * budget
    assert spent[-1] >= 0.97 * budget
    pace = budget * np.arange(1, 1796) / 1800
    assert np.abs(spent - pace)[100:].max() < 0.08 * budget
    # Dearer budgets buy quality, and no quarter of the hour is starved for another.
    quarters = quality[:1792].reshape(4, -1).mean(axis=1)
    assert np.ptp(quarters) < 0.05
    assert quality.mean() > {2.0: 0.50, 8.0: 0.64}[share]


def test_a_surge_spends_no_more_than_the_pace_and_a_burst(monkeypatch):
    """Hardly any traffic, then twenty times as much: what one query may cost must shrink within seconds."""
    monkeypatch.setattr("time.time", lambda: 7200.0)
    budget = 20.0 * CHEAP * 3600  # of which the cheapest model alone takes half

    async def story():
        async with Session(make_router(policy=Policy(budget=budget, per="hour"))) as session:
            slow, _ = await day(session, queries=300, every=2.0)
            fast, spent = await day(session, queries=4000, every=0.1)
            return slow, fast, spent

    slow, fast, spent = in_made_up_time(story())
    pace = budget * (600 + 0.1 * np.arange(1, 4001)) / 3600
    assert (spent - pace).max() < 0.03 * budget
    assert slow[-100:].mean() > 0.7
    assert fast[300:].mean() > 0.45
    assert spent[-1] > 0.9 * pace[-1]


def test_answers_twice_as_dear_as_predicted_keep_the_pace(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 7200.0)
    budget = 4.0 * CHEAP * 3600

    async def story():
        async with Session(make_router(policy=Policy(budget=budget, per="hour"))) as session:
            return await day(session, queries=3500, every=1.0, length=2.0)

    _, spent = in_made_up_time(story())
    assert (spent - budget * np.arange(1, 3501) / 3600).max() < 0.03 * budget
    assert spent[-1] > 0.95 * budget * 3500 / 3600


def test_quality_glides_down_when_the_traffic_doubles(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 7200.0)
    budget = 8.0 * CHEAP * 1800
    alarms = []

    async def story():
        router = make_router(policy=Policy(budget=budget, per="hour"))
        async with Session(router, on_alarm=alarms.append) as session:
            slow, _ = await day(session, queries=900, every=2.0)
            price = session.stats().quality_price
            fast, spent = await day(session, queries=1750, every=1.0)
            assert session.stats().quality_price < 0.7 * price
            return slow, fast, spent[-1]

    slow, fast, spent = in_made_up_time(story())
    assert spent <= 1.02 * budget
    steps = fast.reshape(7, 250).mean(axis=1)
    assert fast.mean() < slow.mean() - 0.02
    # No cliff: from one 250 s to the next the mean falls by a few points at most, the last one included.
    assert np.diff(steps).min() > -0.08
    assert abs(steps[-1] - steps[-2]) < 0.05


def test_with_no_money_left_the_cheapest_still_serves(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 7200.0)

    async def story():
        async with Session(make_router(policy=Policy(budget=0.0, per="day"))) as session:
            lease = await session.acquire("?", prediction=ROWS[0])
            assert lease.model == "small"
            lease.release(output_tokens=100)
            await asyncio.sleep(1)
            return session.stats()

    stats = in_made_up_time(story())
    assert stats.pace.remaining < 0
    assert stats.quality_price == 0.0


def test_overspending_raises_an_alarm(monkeypatch, tmp_path):
    monkeypatch.setattr("time.time", lambda: 7200.0)
    alarms = []

    async def story():
        router = make_router(policy=Policy(budget=1.0, per="hour"))
        async with Session(router, store=tmp_path / "s.sqlite", on_alarm=alarms.append) as session:
            lease = await session.acquire("?", prediction=ROWS[0])
            lease.release(cost=0.5)
            await asyncio.sleep(1.0)
            assert [alarm.constraint for alarm in session.stats().alarms] == ["budget"]

    in_made_up_time(story())
    assert alarms[0].realised == pytest.approx(0.5)


def test_spend_and_price_survive_a_restart(tmp_path):
    store = tmp_path / "spend.sqlite"
    policy = Policy(budget=5.0, per="month")

    async def first():
        async with Session(make_router(policy=policy), store=store) as session:
            for row in ROWS[:200]:
                (await session.acquire("?", prediction=row)).release(cost=0.001)
            return session.stats()

    async def second():
        async with Session(make_router(policy=policy), store=store) as session:
            before = session.stats()
            lease = await session.acquire("?", prediction=ROWS[0])
            lease.release(cost=0.1)
            return before, session.stats()

    earlier = asyncio.run(first())
    resumed, later = asyncio.run(second())
    assert earlier.pace.spent == pytest.approx(0.2)
    assert resumed.pace.spent == pytest.approx(0.2)
    assert resumed.quality_price == pytest.approx(earlier.quality_price)
    assert later.pace.spent == pytest.approx(0.3)
    assert later.spend == pytest.approx(0.1)
    with contextlib.closing(sqlite3.connect(store)) as db:
        kept = db.execute("SELECT value FROM state WHERE name = 'price'").fetchone()[0]
    assert json.loads(kept)["arrivals_per_second"] > 1.0


def test_the_price_of_another_goal_is_not_taken_over(tmp_path):
    async def run(policy):
        async with Session(make_router(policy=policy), store=tmp_path / "s.sqlite") as session:
            start = session.stats().quality_price
            (await session.acquire("?", prediction=ROWS[0])).release()
            return start

    assert np.isnan(asyncio.run(run(Policy(min_quality=0.7))))
    assert not np.isnan(asyncio.run(run(Policy(min_quality=0.7))))
    assert np.isnan(asyncio.run(run(Policy(min_quality=0.6))))


class SteppedTime:
    """The time of day of a machine, which somebody sets."""

    def __init__(self, monkeypatch, begin):
        self.step, self._begin, self._read = 0.0, begin, time.monotonic()
        monkeypatch.setattr("time.time", lambda: self._begin + self.step + time.monotonic() - self._read)


NOON = 1_700_006_400.0 + 12 * 3600


@pytest.mark.parametrize("step", [-3600.0, 11 * 3600.0, 12 * 3600.0 + 50, 30.0])
def test_a_time_of_day_that_is_set_within_the_period_moves_nothing(monkeypatch, step, caplog):
    wall = SteppedTime(monkeypatch, NOON)

    async def story():
        async with Session(make_router(policy=Policy(budget=5.0, per="day"))) as session:
            (await session.acquire("?", prediction=ROWS[0])).release(cost=0.5)
            before = session.stats().pace
            wall.step += step
            (await session.acquire("?", prediction=ROWS[1])).release(cost=0.5)
            after = session.stats().pace
            assert (after.started, after.ends) == (before.started, before.ends)
            assert after.spent == pytest.approx(1.0)

    asyncio.run(story())
    assert "time of day" not in caplog.text


@pytest.mark.parametrize(("step", "day"), [(13 * 3600.0, 1), (-13 * 3600.0, -1), (40 * 86400.0, 40)])
def test_a_time_of_day_that_is_set_over_a_boundary_is_followed(monkeypatch, step, day, caplog):
    wall = SteppedTime(monkeypatch, NOON)

    async def story():
        async with Session(make_router(policy=Policy(budget=5.0, per="day"))) as session:
            (await session.acquire("?", prediction=ROWS[0])).release(cost=0.5)
            before = session.stats().pace
            wall.step += step
            (await session.acquire("?", prediction=ROWS[1])).release(cost=0.25)
            after = session.stats().pace
            assert after.started == before.started + day * 86400
            assert after.spent == pytest.approx(0.25)
            wall.step -= step  # and back: what was spent before still counts
            (await session.acquire("?", prediction=ROWS[1])).release(cost=0.125)
            again = session.stats().pace
            assert again.started == before.started
            assert again.spent == pytest.approx(0.625)

    asyncio.run(story())
    assert caplog.text.count("the time of day was set") == 2


def test_a_pacer_of_ones_own_sets_the_allowance():
    class Lavish(EvenPacer):
        def allowance(self):
            return 1.0

    async def story(pacer):
        policy = Policy(budget=1e-6, per="month")
        async with Session(make_router(policy=policy), pacer=pacer) as session:
            (await session.acquire("?", prediction=ROWS[0])).release()
            return session.stats().quality_price

    assert asyncio.run(story(None)) == 0.0
    assert asyncio.run(story(Lavish(1e-6, "month", time.time))) > 0.0
