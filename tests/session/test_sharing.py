"""Sessions in one process on one store: limits, budget, prices, corrections and breakers are shared."""

from __future__ import annotations

import asyncio
import time

import pytest

from eccos_rs.domain.query import Query
from eccos_rs.errors import InputError, StoreError
from eccos_rs.routing.policy import Policy
from eccos_rs.session import Session
from tests.helpers.sessions import make_pool, make_router, population, rows_of

ROWS = rows_of(population(512))
KINDS = ["sqlite", "redis"]
SLOTS = {name: {"slots": 2} for name in ("small", "mid", "large")}


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    return str(tmp_path / "s.sqlite") if request.param == "sqlite" else request.getfixturevalue("redis_url")


def only(model, **fields):
    return Query("?", models=(model,), **fields)


def make(store, policy=None, pool=SLOTS, **options):
    return Session(make_router(make_pool(**pool), policy or Policy(min_quality=0.6)), store=store, **options)


async def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def test_slots_are_counted_over_both(store):
    async with make(store) as one, make(store) as two:
        assert one.stats().limits == "shared"
        held = [await one.acquire(only("mid"), prediction=ROWS[0]) for _ in range(2)]
        waiting = asyncio.create_task(two.acquire(only("mid"), prediction=ROWS[1]))
        other = await two.acquire(only("small"), prediction=ROWS[2])
        await asyncio.sleep(0.2)
        assert not waiting.done()
        assert two.stats().models[1].in_flight == 2
        held[0].release(output_tokens=1)
        (await asyncio.wait_for(waiting, 2)).release()
        held[1].release()
        other.release()
        await until(lambda: two.stats().in_flight == 0)


async def test_many_queries_never_hold_more_than_the_slots(store):
    running = most = 0
    async with make(store) as one, make(store) as two, make(store) as three:

        async def client(session, at):
            nonlocal running, most
            async with session.lease(str(at)) as lease:
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.005)
                running -= 1
                lease.release(output_tokens=5)

        sessions = (one, two, three)
        await asyncio.gather(*(client(sessions[at % 3], at) for at in range(240)))
        await until(lambda: one.stats().in_flight == 0)
        assert sum(session.stats().decisions for session in sessions) == 240
    assert most <= 6


async def test_cancelled_and_dropped_requests_leave_no_slot_behind(store):
    async with make(store) as one, make(store) as two:
        tasks = [asyncio.create_task(one.acquire(str(at))) for at in range(40)]
        await asyncio.sleep(0.01)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.sleep(0.05)

        async def finish():
            for task in tasks[1::2]:
                (await task).release(failed=True)

        _, *others = await asyncio.gather(finish(), *tasks[::2], return_exceptions=True)
        for lease in others:
            if not isinstance(lease, BaseException):
                lease.release(failed=True)  # it was there before its task was cancelled
        await until(lambda: two.stats().in_flight == one.stats().in_flight == 0)
        got = await asyncio.gather(*(two.acquire(only("mid"), prediction=ROWS[at]) for at in range(2)))
        for lease in got:
            lease.release()


async def test_a_query_that_may_not_wait_gets_what_fits(store):
    async with make(store, Policy(min_quality=0.6, overload="raise")) as session:
        for at in range(5):
            (await session.acquire(str(at))).release()
        held = [await session.acquire(only("mid"), prediction=ROWS[0]) for _ in range(2)]
        with pytest.raises(Exception, match="no model is free"):
            await session.acquire(only("mid"), prediction=ROWS[0])
        for lease in held:
            lease.release()


async def test_requests_per_minute_are_counted_over_both(store):
    pool = {"mid": {"requests_per_minute": 5}}
    policy = Policy(min_quality=0.6, overload="raise")
    async with make(store, policy, pool) as one, make(store, policy, pool) as two:
        granted = 0
        for at in range(10):
            try:
                (await (one, two)[at % 2].acquire(only("mid"), prediction=ROWS[0])).release()
            except Exception as error:
                assert "no model is free" in str(error)  # noqa: PT017
            else:
                granted += 1
        assert granted == 5


async def test_budget_and_reservations_are_known_to_both(store):
    policy = Policy(budget=100.0, per="month")
    async with make(store, policy, {}) as one, make(store, policy, {}) as two:
        (await one.acquire("?", prediction=ROWS[0])).release(cost=1.5)
        (await two.acquire("?", prediction=ROWS[0])).release(cost=0.25)
        held = await two.acquire("?", prediction=ROWS[1])
        await until(lambda: one.stats().pace.spent == two.stats().pace.spent == pytest.approx(1.75))
        await until(lambda: one.stats().pace.reserved == pytest.approx(held.cost))
        assert one.stats().pace.on_pace == pytest.approx(two.stats().pace.on_pace, abs=0.01)
        held.release()
    async with make(store, policy, {}) as three:
        assert three.stats().pace.spent == pytest.approx(1.75 + held.cost, rel=0.01)


async def test_a_model_that_one_takes_out_is_out_for_both_until_it_is_in_again(store):
    async with make(store) as one, make(store) as two:
        (await two.acquire("1")).release()
        one.down("mid")
        await until(lambda: not two.stats().models[1].up)
        one.up("mid")
        await until(lambda: two.stats().models[1].up)
        two.down("mid")
        await until(lambda: not one.stats().models[1].up)
    async with make(store) as later:
        assert later.stats().models[1].up  # who took it out is gone


async def test_corrections_and_prices_reach_the_other(store):
    async with make(store) as one, make(store) as two:
        for at in range(60):
            lease = await one.acquire(only("mid"), prediction=ROWS[at])
            await lease.release(output_tokens=1, quality=0.0)
        await until(lambda: two.stats().models[1].record.feedback == 60)
        record, mine = two.stats().models[1].record, one.stats().models[1].record
        assert record.realised_quality == 0.0
        assert record.predicted_quality == pytest.approx(mine.predicted_quality, rel=0.05)
        assert two.stats().quality_price == pytest.approx(one.stats().quality_price)
    # And a head begins with what all know.
    async with make(store) as one:
        (await one.acquire(only("mid"), prediction=ROWS[0])).release(quality=0.0)
        async with make(store) as three:
            await until(lambda: three.stats().quality_price == pytest.approx(one.stats().quality_price))


async def test_feedback_given_to_the_other_is_taken(store):
    async with make(store) as one, make(store) as two:
        lease = await one.acquire("1")
        lease.release(output_tokens=3)
        await asyncio.sleep(0.2)
        await two.feedback(lease.id, 1.0)
        assert two.stats().feedback == 1


async def test_limits_that_differ_are_said(store, caplog):
    async with (
        make(store),
        make(store, pool={"mid": {"slots": 9}, "small": {"slots": 2}, "large": {"slots": 2}}),
    ):
        pass
    assert "mid" in caplog.text
    assert "states other limits" in caplog.text


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1"):
        Session(make_router(), store="redis://:secret@127.0.0.1:1/0")
    with pytest.raises(InputError, match="on_store_loss"):
        Session(make_router(), on_store_loss="panic")
    with pytest.raises(InputError, match="namespace"):
        Session(make_router(), store="redis://127.0.0.1:1/0?namespace=a{b}")
