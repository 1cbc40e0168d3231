"""The promise holds over the stream: one steered price, feedback, priced capacity, alarms."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest

from eccos_rs.routing.policy import Policy
from eccos_rs.session import Session
from eccos_rs.solver.assignment import assign
from tests.helpers.sessions import in_made_up_time, make_pool, make_router, population, rows_of

N = 4000
PEOPLE = population(N, seed=3)
ROWS = rows_of(PEOPLE)


async def stream(session, rows=ROWS, *, seconds=0.0, judge=None, at_once=8, every=0.01):
    """Send queries in small groups; return the leases."""
    leases = []

    async def client(row):
        lease = await session.acquire("?", prediction=row)
        leases.append(lease)
        await asyncio.sleep(seconds)
        at = lease.index
        lease.release(
            output_tokens=float(row.output_tokens[0, at]),
            quality=None if judge is None else judge(row, at),
        )

    tasks = []
    for start in range(0, len(rows), at_once):
        tasks += [asyncio.create_task(client(row)) for row in rows[start : start + at_once]]
        await asyncio.sleep(every)
    await asyncio.gather(*tasks)
    return leases


@pytest.mark.parametrize("floor", [0.55, 0.65, 0.72])
def test_the_mean_of_the_stream_meets_the_floor_at_nearly_the_batch_cost(floor):
    async def story():
        router = make_router(policy=Policy(min_quality=floor))
        async with Session(router) as session:
            leases = await stream(session)
            best = assign(router.costs(PEOPLE), PEOPLE.quality, min_quality=floor)
            return leases, best, session.stats()

    leases, best, stats = in_made_up_time(story())
    mean = np.mean([lease.predicted_quality for lease in leases])
    assert mean == pytest.approx(floor, abs=0.003)
    assert stats.predicted_quality == pytest.approx(mean)
    assert stats.promised_quality == floor
    # Knowing all 4,000 queries beforehand is worth at most two percent of the cost.
    assert sum(lease.cost for lease in leases) <= 1.02 * best.cost
    assert stats.quality_price == pytest.approx(best.duals.requirement, rel=0.25)


def test_a_floor_on_every_micro_batch_would_cost_more():
    # What the one price saves: the same floor forced on each group of eight costs several percent more.
    cost, floor = make_router().costs(PEOPLE), 0.65
    forced = sum(
        assign(cost[at : at + 8], PEOPLE.quality[at : at + 8], min_quality=floor).cost
        for at in range(0, N, 8)
    )

    async def story():
        async with Session(make_router(policy=Policy(min_quality=floor))) as session:
            return sum(lease.cost for lease in await stream(session))

    assert in_made_up_time(story()) < 0.95 * forced


def test_the_default_promise_is_relative_to_the_strongest():
    async def story():
        async with Session(make_router()) as session:
            leases = await stream(session)
            return np.mean([lease.predicted_quality for lease in leases]), session.stats()

    mean, stats = in_made_up_time(story())
    assert mean == pytest.approx(0.97 * PEOPLE.quality[:, 2].mean(), abs=0.005)
    assert stats.promised_quality == pytest.approx(mean, abs=0.02)


def test_feedback_takes_back_what_was_predicted_too_high():
    rng = np.random.default_rng(5)

    def judge(row, at):
        # The mid model is really 15 points worse than predicted.
        odds = row.quality[0, at] - (0.15 if at == 1 else 0.0)
        return float(rng.random() < odds)

    async def story(judged):
        async with Session(make_router(policy=Policy(min_quality=0.65))) as session:
            leases = await stream(session, judge=judge if judged else None)
            real = [lease.predicted_quality - (0.15 if lease.index == 1 else 0.0) for lease in leases]
            return np.mean(real[N // 2 :]), session.stats()

    blind, _ = in_made_up_time(story(judged=False))
    steered, stats = in_made_up_time(story(judged=True))
    assert blind < 0.60
    assert steered == pytest.approx(0.65, abs=0.02)
    record = stats.models[1].record
    assert record.predicted_quality - record.realised_quality == pytest.approx(0.15, abs=0.06)
    assert stats.feedback == N


def test_a_promise_with_confidence_aims_higher():
    async def story(confidence):
        policy = Policy(min_quality=0.6, confidence=confidence)
        async with Session(make_router(policy=policy)) as session:
            leases = await stream(session, ROWS[:3000])
            return np.mean([lease.predicted_quality for lease in leases[1000:]])

    plain, sure = in_made_up_time(story(None)), in_made_up_time(story(0.95))
    # 1.645 standard errors of the mean of 1,024 coin flips.
    assert sure - plain == pytest.approx(1.645 * np.sqrt(0.24 / 1024), abs=0.006)


def test_a_price_of_quality_is_used_as_it_is():
    async def story():
        router = make_router(policy=Policy(quality_value=0.004))
        async with Session(router) as session:
            leases = await stream(session, ROWS[:500])
            cost = router.costs(PEOPLE.rows(slice(0, 500)))
            best = (cost - 0.004 * PEOPLE.quality[:500]).argmin(axis=1)
            got = {lease._request.order[1]: lease.index for lease in leases}
            assert [got[at + 1] for at in range(500)] == best.tolist()
            assert session.stats().quality_price == 0.004

    in_made_up_time(story())


def test_scarce_slots_go_to_the_queries_that_gain_most_from_them():
    # 40 queries a second, each 0.5 s long: the six slots of the large model carry 12 of them.
    pool = make_pool(large={"slots": 6})
    policy = Policy(quality_value=0.02)

    async def story():
        router = make_router(pool, policy)
        async with Session(router) as session:
            leases = await stream(session, ROWS[:3000], seconds=0.5, at_once=1, every=0.025)
            return leases[1000:], session.stats(), router.costs(PEOPLE)

    leases, stats, cost = in_made_up_time(story())
    value = sum(0.02 * lease.predicted_quality - lease.cost for lease in leases)
    rows = np.array([lease._request.order[1] - 1 for lease in leases])
    capacity = [np.inf, np.inf, 12 / 40 * len(rows)]
    best = assign(cost[rows], PEOPLE.quality[rows], quality_value=0.02, capacity=capacity)
    greedy = _first_come(cost[rows], PEOPLE.quality[rows])
    assert stats.models[2].slot_price > 0
    # `best` knows all queries beforehand and is never out of slots by chance; half of what it gains over
    # first come first served is there for a stream, which knows neither.
    assert value - greedy > 0.4 * (-best.objective - greedy)


def _first_come(cost, quality):
    """Return the value when each takes its own best among what is free."""
    free_at, value = [0.0] * 6, 0.0
    for row in range(len(cost)):
        now = 0.025 * row
        worth = 0.02 * quality[row] - cost[row]
        slot = int(np.argmin(free_at))
        if free_at[slot] > now:
            worth = worth[:2]
        best = int(np.argmax(worth))
        if best == 2:
            free_at[slot] = now + 0.5
        value += worth[best]
    return value


def test_a_broken_promise_raises_an_alarm_once_and_calls_it_off(caplog):
    alarms = []
    outcome = 0.0

    async def story():
        nonlocal outcome
        session = Session(make_router(policy=Policy(min_quality=0.6)), on_alarm=alarms.append)
        async with session:
            await stream(session, ROWS[:200], judge=lambda row, at: outcome)
            assert [alarm.constraint for alarm in session.stats().alarms] == ["quality"]
            outcome = 1.0
            await stream(session, ROWS[200:2000], judge=lambda row, at: outcome)
            assert session.stats().alarms == ()
            assert session.stats().alarms_raised == 1

    with caplog.at_level(logging.INFO, logger="eccos_rs.session"):
        in_made_up_time(story())
    assert [(alarm.constraint, alarm.raised) for alarm in alarms] == [("quality", True), ("quality", False)]
    assert alarms[0].promised == 0.6
    assert alarms[0].realised < 0.6
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "realised quality" in caplog.text


def test_longer_answers_than_reserved_raise_an_alarm():
    alarms = []

    async def story():
        pool = make_pool(**{name: {"tokens_per_minute": 10_000_000} for name in ("small", "mid", "large")})
        session = Session(make_router(pool, Policy(min_quality=0.6)), on_alarm=alarms.append)
        async with session:
            for row in ROWS[:200]:
                lease = await session.acquire("?", prediction=row)
                lease.release(output_tokens=3 * lease.output_tokens, quality=1.0)
            await asyncio.sleep(1)

    in_made_up_time(story())
    assert alarms
    assert all(alarm.constraint.startswith("tokens:") and alarm.raised for alarm in alarms)


def test_a_callback_that_fails_fails_nobody(caplog):
    def on_alarm(alarm):
        raise RuntimeError("pager")

    async def story():
        async with Session(make_router(policy=Policy(min_quality=0.6)), on_alarm=on_alarm) as session:
            await stream(session, ROWS[:200], judge=lambda row, at: 0.0)
            return session.stats()

    assert in_made_up_time(story()).feedback == 200
    assert "pager" in caplog.text
