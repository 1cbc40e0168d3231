"""A micro-batch that cannot be built or solved fails the culprit alone, never its neighbours."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest

from eccos_rs.domain.query import Query
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.problem import build_problem
from eccos_rs.session import Session
from eccos_rs.solver.assignment import assign
from tests.helpers.sessions import make_pool, make_router, population, rows_of

ROWS = rows_of(population(512))
CULPRIT = 4


async def together(session, culprit, given):
    """Send ten queries in one micro-batch, one of them as `culprit` makes it; return what came of each."""

    def ask(at):
        query = culprit if at == CULPRIT else Query(str(at))
        prediction = ROWS[at] if given else None
        return session.acquire(query, prediction=prediction)

    return await asyncio.gather(*(ask(at) for at in range(10)), return_exceptions=True)


def check(got, error):
    assert isinstance(got[CULPRIT], error)
    for at, lease in enumerate(got):
        if at != CULPRIT:
            assert lease.model is not None, lease
            lease.release(output_tokens=1)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize(
    "pool", [{}, {name: {"slots": 20, "tokens_per_minute": 100_000} for name in ("small", "mid", "large")}]
)
async def test_a_number_that_no_array_holds(given, pool, monkeypatch, caplog):
    """Queries are bounded where they are made; whatever passes there must still fail alone."""

    def overflowing(pool, prediction, queries, policy):
        if any(query.priority == 13 for query in queries):
            np.array([2**70], dtype=np.int64)
        return build_problem(pool, prediction, queries, policy)

    monkeypatch.setattr("eccos_rs.session.scheduler.admission.build_problem", overflowing)
    async with Session(make_router(make_pool(**pool), Policy(min_quality=0.6))) as session:
        got = await together(session, Query(str(CULPRIT), priority=13), given)
        check(got, OverflowError)
        assert session.stats().in_flight == 0
        assert session.stats().waiting == 0
        assert session.stats().refused == 1
    assert "each request is built alone" in caplog.text


@pytest.mark.parametrize("given", [True, False])
async def test_a_row_that_cannot_be_solved(given, monkeypatch, caplog):
    marked = 0.123456

    def failing(cost, quality, **options):
        if np.isclose(np.asarray(quality), marked).any():
            raise ArithmeticError("this row")
        return assign(cost, quality, **options)

    monkeypatch.setattr("eccos_rs.session.scheduler.dispatch.assign", failing)
    router = make_router(policy=Policy(quality_value=0.01))
    router.predictor.known.quality[CULPRIT] = marked
    rows = rows_of(router.predictor.known)
    async with Session(router) as session:
        got = await asyncio.gather(
            *(session.acquire(str(at), prediction=rows[at] if given else None) for at in range(10)),
            return_exceptions=True,
        )
        check(got, ArithmeticError)
        assert (session.stats().in_flight, session.stats().waiting) == (0, 0)
    assert "each request is decided alone" in caplog.text


async def test_rows_decided_alone_take_no_slot_twice(monkeypatch):
    def failing(cost, quality, **options):
        if len(cost) > 1:
            raise ArithmeticError("never jointly")
        return assign(cost, quality, **options)

    monkeypatch.setattr("eccos_rs.session.scheduler.dispatch.assign", failing)
    pool = make_pool(**{name: {"slots": 2} for name in ("small", "mid", "large")})
    async with Session(make_router(pool, Policy(quality_value=0.01))) as session:
        tasks = [asyncio.create_task(session.acquire(str(at), prediction=ROWS[at])) for at in range(12)]
        served = 0
        while served < 12:
            await asyncio.sleep(0.01)
            assert max(model.in_flight for model in session.stats().models) <= 2
            for task in [task for task in tasks if task.done()]:
                tasks.remove(task)
                task.result().release()
                served += 1


async def test_a_past_that_cannot_be_solved_is_forgotten(monkeypatch, caplog):
    failures = 3

    def failing(cost, quality, **options):
        nonlocal failures
        if failures:
            failures -= 1
            raise ArithmeticError("history")
        return assign(cost, quality, **options)

    monkeypatch.setattr("eccos_rs.session.control.dual.assign", failing)
    async with Session(make_router(policy=Policy(min_quality=0.7))) as session:
        with caplog.at_level(logging.ERROR):
            for at in range(8):
                (await session.acquire(str(at))).release()
        assert session.stats().refused == 0
        assert session.stats().quality_price > 0
    assert caplog.text.count("the prices cannot be computed") == 3
