"""Limits that several models share, in sessions: of one process, of one host, and of many."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import pytest

from eccos_rs import Limit
from eccos_rs.domain.query import Query
from eccos_rs.errors import InputError, NoModelError, PoolError
from eccos_rs.routing.policy import Policy
from eccos_rs.session import LocalLimiter, Session
from eccos_rs.session.limits.base import Claim
from eccos_rs.session.limits.opening import open_limits
from tests.helpers.sessions import in_made_up_time, make_pool, make_router, population, rows_of

if TYPE_CHECKING:
    from eccos_rs.pools.pool import Pool

KINDS = ["local", "sqlite", "redis"]
ROWS = rows_of(population(512))


@pytest.fixture
def make(tmp_path, request):
    """Return a function that opens the limiter of a pool where sessions of a kind would."""

    def one(kind: str, pool: Pool, **policy):
        store = {"local": None, "sqlite": str(tmp_path / "store.db")}
        where = request.getfixturevalue("redis_url") if kind == "redis" else store[kind]
        return open_limits(where, pool, Policy(min_quality=0.5, **policy))

    return one


def shared(*limits: Limit, **own) -> Pool:
    return make_pool(**own).with_limits(*limits)


def claim(name: str, model: int, tokens: int = 0) -> Claim:
    return Claim(name, (model,), (tokens,), (0.0,))


def now() -> float:
    return asyncio.get_running_loop().time()


async def reserve(limiter, *claims):
    answer = asyncio.get_running_loop().create_future()
    limiter.reserve(claims, now(), answer.set_result)
    return await asyncio.wait_for(answer, 10)


async def told(limiter) -> None:
    limiter.next_change(now())
    await asyncio.sleep(0.05)


def fits(grants) -> list[bool]:
    return [grant is not None for grant in grants]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_claim_takes_of_its_model_and_of_every_limit_over_it(make, kind) -> None:
    pool = shared(
        Limit("gpu", ("small", "mid"), slots=3), Limit("all", ("small", "mid", "large"), slots=4),
        mid={"slots": 1},
    )  # fmt: skip
    limiter = make(kind, pool)
    assert limiter.free(now()) == [3, 1, 4]
    grants = await reserve(limiter, claim("a", 0), claim("b", 1), claim("c", 1))
    assert fits(grants) == [True, True, False]
    await told(limiter)  # what was granted in vain is given back
    assert fits(await reserve(limiter, claim("d", 0), claim("e", 0))) == [True, False]
    await told(limiter)
    assert limiter.free(now()) == [0, 0, 1]
    assert [(room.models, room.requests) for room in limiter.shared(now())] == [((0, 1), 0), ((0, 1, 2), 1)]
    more = await reserve(limiter, claim("f", 2), claim("g", 2))
    assert fits(more) == [True, False]
    await told(limiter)
    limiter.cancel(grants[0], now())
    limiter.settle(grants[1], 5, 0.1, now())
    await told(limiter)
    assert limiter.free(now()) == [2, 1, 2]
    assert [model.name for model in limiter.models] == list(pool.names)
    await limiter.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_tokens_and_requests_of_a_shared_limit_are_counted_as_really_used(make, kind) -> None:
    pool = shared(Limit("org", ("small", "mid"), requests_per_minute=4, tokens_per_minute=1000))
    limiter = make(kind, pool)
    assert limiter.counts_tokens
    assert limiter.most_tokens == [1000, 1000, float("inf")]
    grants = await reserve(limiter, claim("a", 0, 600), claim("c", 1, 400), claim("b", 1, 500))
    assert fits(grants) == [True, True, False]
    await told(limiter)
    assert limiter.free_tokens(now())[:2] == [0, 0]
    limiter.settle(grants[0], 100, 0.1, now())
    await told(limiter)
    assert limiter.free_tokens(now())[:2] == [500, 500]
    assert fits(await reserve(limiter, claim("d", 0, 501))) == [False]
    await told(limiter)
    assert fits(await reserve(limiter, claim("e", 1, 500))) == [True]
    assert limiter.seconds_until(0, 400, now()) > 1
    assert limiter.seconds_until(1, 1001, now()) == float("inf")
    await limiter.close()


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_sessions_take_from_one_shared_limit(make, kind) -> None:
    pool = shared(Limit("gpu", ("small", "mid"), slots=25), mid={"slots": 10})
    limiters = [make(kind, pool) for _ in range(3)]

    async def take(at, limiter):
        held = []
        for turn in range(12):
            claims = [claim(f"{at}.{turn}.{each}", each % 2) for each in range(4)]
            held += [grant for grant in await reserve(limiter, *claims) if grant is not None]
        return held

    taken = await asyncio.gather(*(take(*each) for each in enumerate(limiters)))
    got = [grant for held in taken for grant in held]
    assert len(got) == 25
    assert sum(grant.model == 1 for grant in got) <= 10
    holder = max(range(3), key=lambda at: len(taken[at]))  # who is first takes most
    other = limiters[(holder + 1) % 3]
    await limiters[holder].close()  # what a session holds comes back when it ends
    end = time.monotonic() + 10
    while not other.free(now())[0] and time.monotonic() < end:
        await told(other)
    assert other.free(now())[0] > 0
    for limiter in (each for at, each in enumerate(limiters) if at != holder):
        await limiter.close()


def test_a_policy_narrows_a_shared_limit(make) -> None:
    async def story():
        pool = shared(Limit("gpu", ("small", "mid"), slots=8))
        limiter = make("local", pool, capacity={"gpu": 3, "large": 2})
        assert limiter.free(now()) == [3, 3, 2]
        await limiter.close()

    in_made_up_time(story())
    with pytest.raises(PoolError, match="gpus"):
        Session(make_router(), policy=Policy(min_quality=0.5, capacity={"gpus": 3}))


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_exceeded_and_nobody_waits_for_ever(seed) -> None:
    async def story():
        pool = shared(
            Limit("gpu", ("small", "mid"), slots=5),
            Limit("org", ("mid", "large"), slots=4, tokens_per_minute=30_000),
            small={"slots": 4},
        )
        rng = random.Random(seed)
        running: dict[str, int] = dict.fromkeys(pool.names, 0)
        async with Session(make_router(pool, Policy(quality_value=0.01))) as session:

            async def client(at):
                await asyncio.sleep(rng.expovariate(2.0))
                lease = await session.acquire(str(at), prediction=ROWS[at])
                running[lease.model] += 1
                assert running["small"] + running["mid"] <= 5
                assert running["mid"] + running["large"] <= 4
                assert running["small"] <= 4
                await asyncio.sleep(rng.expovariate(0.5))
                running[lease.model] -= 1
                if rng.random() < 0.2:
                    lease.cancel()
                else:
                    lease.release(output_tokens=int(rng.expovariate(0.01)))
                return lease.model

            served = await asyncio.wait_for(asyncio.gather(*(client(at) for at in range(200))), 36_000)
            assert len(served) == 200
            assert sum(model.in_flight for model in session.stats().models) == 0

    in_made_up_time(story())


def test_a_large_request_in_front_is_not_starved_by_small_ones_at_another_model_of_its_limit() -> None:
    async def story():
        pool = shared(Limit("org", ("small", "mid"), tokens_per_minute=1000))
        known = rows_of(population(64, tokens=90.0))
        large = rows_of(population(64, tokens=900.0))[0]
        async with Session(make_router(pool, Policy(quality_value=0.01))) as session:
            order = []

            async def client(name, row, **query):
                lease = await session.acquire(Query("?", **query), prediction=row)
                order.append(name)
                lease.release(output_tokens=int(row.output_tokens[0, lease.index]))

            first = [asyncio.create_task(client("first", known[at], models=("mid",))) for at in range(8)]
            await asyncio.sleep(0.1)
            waiting = asyncio.create_task(client("large", large, models=("small",)))
            await asyncio.sleep(0.1)
            rest = [asyncio.create_task(client("rest", known[at], models=("mid",))) for at in range(8, 40)]
            await asyncio.wait_for(asyncio.gather(*first, waiting, *rest), 3600)
            assert order.index("large") == 8

    in_made_up_time(story())


async def test_what_a_shared_limit_never_lets_through_is_refused_at_once() -> None:
    pool = shared(Limit("org", ("small", "mid", "large"), tokens_per_minute=50))
    async with Session(make_router(pool, Policy(quality_value=0.01))) as session:
        with pytest.raises(NoModelError, match="tokens are more than"):
            await session.acquire("1", prediction=rows_of(population(4, tokens=90.0))[1])


async def test_a_limiter_of_the_callers_that_ignores_a_shared_limit_is_refused() -> None:
    pool = shared(Limit("gpu", ("small", "mid"), slots=3))
    with pytest.raises(InputError, match="'gpu'"):
        Session(make_router(pool), limits=LocalLimiter(list(pool)))
