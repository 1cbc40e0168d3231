"""Leases that end without an answer: given up as if never taken, or left by the caller."""

from __future__ import annotations

import pytest

from eccos_rs.routing.policy import Policy
from eccos_rs.session import Session
from tests.helpers.sessions import in_made_up_time, make_pool, make_router

LIMITED = {
    name: {"slots": 1, "requests_per_minute": 2, "tokens_per_minute": 1e6}
    for name in ("small", "mid", "large")
}


async def _cancelled():
    router = make_router(make_pool(**LIMITED), Policy(quality_value=0.01, overload="raise"))
    async with Session(router) as session:
        for _ in range(30):
            lease = await session.acquire("1")
            lease.cancel()
            assert lease.released
        return session.stats()


def test_a_cancelled_lease_was_never_taken():
    stats = in_made_up_time(_cancelled())
    assert (stats.decisions, stats.failures, stats.spend, stats.in_flight) == (0, 0, 0.0, 0)
    assert all(model.requests_used == 0 and model.tokens_used == 0 for model in stats.models)


async def _abandoned():
    async with Session(make_router(policy=Policy(quality_value=0.01))) as session:
        lease = await session.acquire("1")
        lease.release(abandoned=True, output_tokens=7, cost=0.5)
        return session.stats()


def test_a_caller_that_leaves_pays_and_blames_nobody():
    stats = in_made_up_time(_abandoned())
    assert (stats.decisions, stats.failures, stats.in_flight) == (0, 0, 0)
    assert stats.spend == pytest.approx(0.5)
