"""What a session refuses, and what it survives: malformed arguments, failing parts, closing, overload."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from eccos_rs.domain.query import Query
from eccos_rs.errors import EccosError, InputError, NoModelError, Overloaded, PolicyError, PoolError
from eccos_rs.pools.pool import LLM, Pool
from eccos_rs.routing.policy import Policy
from eccos_rs.session import Session
from eccos_rs.solver.assignment import assign
from tests.helpers.sessions import ByNumber, make_pool, make_router, population, rows_of

ROWS = rows_of(population(512))
WIDE = ("quality", "output_tokens", "quality_std", "log_tokens_std")
ONE_SLOT = {name: {"slots": 1} for name in ("small", "mid", "large")}


def only(model, **fields):
    return Query("?", models=(model,), **fields)


async def test_what_no_model_may_take():
    pool = make_pool(mid={"tokens_per_minute": 50}, large={"slots": 0})
    async with Session(make_router(pool)) as session:
        with pytest.raises(NoModelError, match="vision"):
            await session.acquire(Query("?", vision=True), prediction=ROWS[0])
        with pytest.raises(NoModelError, match="whole minute"):
            await session.acquire(only("mid"), prediction=ROWS[0])
        with pytest.raises(NoModelError, match="without a slot are large"):
            await session.acquire(only("large"), prediction=ROWS[0])
        with pytest.raises(NoModelError, match=r"above \$1e-09"):
            await session.acquire("?", prediction=ROWS[0], max_cost=1e-9)
        with pytest.raises(NoModelError, match="excluded are small"):
            await session.acquire(only("small"), prediction=ROWS[0], exclude="small")
        with pytest.raises(NoModelError, match="floor"):
            await session.acquire(Query("?", min_quality=1.0), prediction=ROWS[0])
        # None of them has hurt the one that came with them.
        mixed = await asyncio.gather(
            session.acquire(Query("?", vision=True), prediction=ROWS[0]),
            session.acquire("?", prediction=ROWS[1]),
            return_exceptions=True,
        )
        assert isinstance(mixed[0], NoModelError)
        mixed[1].release()
    async with Session(make_router(policy=Policy(unroutable="defer"))) as session:
        assert (await session.acquire(Query("?", vision=True), prediction=ROWS[0])).deferred


async def test_malformed_arguments_are_named():
    with pytest.raises(InputError, match="window"):
        Session(make_router(), window=-1)
    with pytest.raises(PolicyError, match="needs a period"):
        Session(make_router(), policy=Policy(budget=1.0))
    with pytest.raises(PolicyError, match="group_budget is for a batch"):
        Session(make_router(), policy=Policy(min_quality=0.6, group_budget={"a": 1.0}))
    with pytest.raises(PoolError, match="medium"):
        Session(make_router(), policy=Policy(capacity={"medium": 3}))
    async with Session(make_router()) as session:
        with pytest.raises(PoolError, match="lage"):
            await session.acquire(Query("?", models=("lage",)), prediction=ROWS[0])
        with pytest.raises(PoolError, match="nobody"):
            await session.acquire("?", prediction=ROWS[0], exclude=["nobody"])
        with pytest.raises(InputError, match="timeout"):
            await session.acquire("?", prediction=ROWS[0], timeout=-1)
        with pytest.raises(InputError, match="1; use"):
            await session.acquire("?", prediction=population(2))
        bad = rows_of(population(1))[0]
        bad.quality[0, 1] = np.nan
        got = await asyncio.gather(
            session.acquire("?", prediction=bad),
            session.acquire("?", prediction=ROWS[0]),
            return_exceptions=True,
        )
        assert isinstance(got[0], InputError)
        assert "nan" in str(got[0])
        got[1].release()
        assert session.stats().waiting == 0


async def test_a_predictor_that_fails_on_one_query_fails_that_one():
    router = make_router()
    async with Session(router) as session:
        got = await asyncio.gather(
            session.acquire("1"), session.acquire("not a number"), session.acquire("2"),
            return_exceptions=True,
        )  # fmt: skip
        assert isinstance(got[1], ValueError)
        assert got[0].model is not None
        assert got[2].model is not None
        got[0].release()
        got[2].release()


async def test_a_model_that_the_router_learns_of_later_is_the_next_sessions():
    router = make_router()
    session = Session(router)
    wider = population(512)
    extra = {name: np.hstack([getattr(wider, name), getattr(wider, name)[:, :1]]) for name in WIDE}
    router.predictor = ByNumber(replace(wider, models=(*wider.models, "new"), **extra))
    router.predictor.models = (*wider.models, "new")
    router.pool = Pool([*router.pool, LLM("new", 0.0, 0.0)])
    lease = await session.acquire("5")
    assert lease.model in ("small", "mid", "large")
    lease.release()
    await session.close()


async def test_whatever_goes_wrong_inside_nobody_waits_for_ever(monkeypatch):
    router = make_router()
    good = router.predictor.predict
    async with Session(router) as session:
        router.predictor.predict = lambda queries: good(queries).select(("small", "mid"))
        with pytest.raises(InputError, match="large"):
            await asyncio.wait_for(session.acquire("3"), 1)
        router.predictor.predict = good
        monkeypatch.setattr("eccos_rs.session.scheduler.dispatch.assign", lambda *_, **__: 1 / 0)
        for prediction in (None, ROWS[3]):
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(session.acquire("3", prediction=prediction), 1)
        monkeypatch.setattr("eccos_rs.session.scheduler.dispatch.assign", assign)
        (await session.acquire("3")).release()
        stats = session.stats()
        assert (stats.in_flight, stats.waiting, stats.refused) == (0, 0, 3)


async def test_a_model_that_is_down_takes_nothing_until_it_is_up():
    async with Session(make_router()) as session:
        session.down("mid")
        with pytest.raises(PoolError, match="nobody"):
            session.down("nobody")
        for at in range(50):
            lease = await session.acquire("?", prediction=ROWS[at])
            assert lease.model != "mid"
            lease.release()
        waiting = asyncio.create_task(session.acquire(only("mid"), prediction=ROWS[0]))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert not session.stats().models[1].up
        session.up("mid")
        (await asyncio.wait_for(waiting, 1)).release()


async def test_closing_serves_those_who_wait_and_takes_no_more():
    session = Session(make_router(make_pool(**ONE_SLOT)))
    held = await session.acquire(only("mid"), prediction=ROWS[0])
    waiting = asyncio.create_task(session.acquire(only("mid"), prediction=ROWS[1]))
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(session.close())
    await asyncio.sleep(0.01)
    with pytest.raises(EccosError, match="closed"):
        await session.acquire("?", prediction=ROWS[0])
    assert not closing.done()
    held.release()
    last = await waiting
    await asyncio.sleep(0.01)
    assert not closing.done()
    last.release()
    await asyncio.wait_for(closing, 1)
    assert session.closed


async def test_closing_does_not_wait_for_ever():
    session = Session(make_router(make_pool(**ONE_SLOT)))
    held = await session.acquire(only("mid"), prediction=ROWS[0])
    waiting = asyncio.create_task(session.acquire(only("mid"), prediction=ROWS[1]))
    await asyncio.sleep(0.01)
    await session.close(timeout=0.05)
    with pytest.raises(Overloaded, match="closes"):
        await waiting
    held.release()


async def test_closing_refuses_those_who_are_still_being_predicted():
    router = make_router()
    slow, begun = router.predictor.predict, threading.Event()
    router.predictor.predict = lambda queries: (begun.set(), time.sleep(0.3), slow(queries))[2]
    session = Session(router)
    waiting = [asyncio.create_task(session.acquire(str(at))) for at in range(3)]
    await asyncio.to_thread(begun.wait)
    late = asyncio.create_task(session.acquire("4"))
    await asyncio.sleep(0.01)
    await session.close(timeout=0.01)
    for each in (*waiting, late):
        with pytest.raises(Overloaded, match="closes"):
            await each
    assert session.stats().waiting == 0


async def test_too_many_waiting_are_refused():
    async with Session(make_router(make_pool(**ONE_SLOT)), max_waiting=3) as session:
        held = await session.acquire(only("mid"), prediction=ROWS[0])
        waiting = [asyncio.create_task(session.acquire(only("mid"), prediction=ROWS[1])) for _ in range(3)]
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded, match="3 queries are waiting") as refused:
            await session.acquire(only("mid"), prediction=ROWS[1])
        assert refused.value.retry_after > 0
        held.release()
        for each in waiting:
            (await each).release()


def test_a_session_belongs_to_one_loop():
    session = Session(make_router())

    async def once():
        (await session.acquire("?", prediction=ROWS[0])).release()

    asyncio.run(once())
    with pytest.raises(EccosError, match="another event loop"):
        asyncio.run(once())
    asyncio.run(session.close())
