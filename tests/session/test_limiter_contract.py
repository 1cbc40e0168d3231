"""What every rate limiter keeps to: one suite over all of them."""

from __future__ import annotations

import asyncio
import time

import pytest

from eccos_rs.pools.pool import LLM
from eccos_rs.session.limits import LocalLimiter
from eccos_rs.session.limits.base import Claim
from eccos_rs.session.limits.local import model_limits
from eccos_rs.session.limits.redis_backend import RedisBackend
from eccos_rs.session.limits.shared import SharedLimiter
from eccos_rs.session.limits.sqlite_backend import SqliteBackend
from eccos_rs.session.redis_client import RedisAddress

SHARED = ["sqlite", "redis"]
KINDS = ["local", *SHARED]
SPAN = 2.0


@pytest.fixture
def make(tmp_path, request):
    """Return a function that makes a limiter of a kind; all of one kind share, but the local ones."""

    def one(kind, *llms):
        if kind == "local":
            return LocalLimiter(llms, span=SPAN)
        limits = model_limits(llms, None)
        if kind == "sqlite":
            backend = SqliteBackend(tmp_path / "limits", limits, span=SPAN)
        else:
            address = RedisAddress.parse(request.getfixturevalue("redis_url"))
            backend = RedisBackend(address, limits, span=SPAN)
        return SharedLimiter(llms, backend, span=SPAN)

    return one


def claim(name, model=0, tokens=0):
    return Claim(name, (model,), (tokens,), (0.0,))


async def reserve(limiter, *claims):
    answer = asyncio.get_running_loop().create_future()
    limiter.reserve(claims, now(), answer.set_result)
    return await asyncio.wait_for(answer, 10)


def now():
    return asyncio.get_running_loop().time()


def fits(grants):
    return [grant is not None for grant in grants]


async def settled(limiter):
    """Wait until what was released is known wherever it is counted."""
    limiter.next_change(now())
    await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", KINDS)
async def test_slots_are_granted_up_to_the_limit_and_come_back(make, kind):
    limiter = make(kind, LLM("a", 1, 1, slots=3), LLM("b", 1, 1))
    grants = await reserve(limiter, *(claim(f"a{at}") for at in range(5)), claim("b", 1))
    assert fits(grants) == [True, True, True, False, False, True]
    assert [grant.model for grant in grants if grant] == [0, 0, 0, 1]
    assert limiter.free(now())[0] == 0
    assert [model.in_flight for model in limiter.models] == [3, 1]
    limiter.settle(grants[0], 0, 1.5, now())
    limiter.cancel(grants[1], now())
    await settled(limiter)
    assert limiter.free(now())[0] == 2
    assert limiter.models[0].seconds == 1.5
    assert fits(await reserve(limiter, claim("x"), claim("y"), claim("z"))) == [True, True, False]
    await limiter.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_requests_and_tokens_slide(make, kind):
    limiter = make(kind, LLM("a", 1, 1, requests_per_minute=2), LLM("b", 1, 1, tokens_per_minute=100))
    began = time.monotonic()
    grants = await reserve(
        limiter, claim("1"), claim("2"), claim("3"), claim("4", 1, 60), claim("5", 1, 41), claim("6", 1, 40)
    )
    assert fits(grants) == [True, True, False, True, False, True]
    for grant in grants:
        if grant is not None:
            limiter.settle(grant, grant.tokens, 0.0, now())
    await settled(limiter)
    assert limiter.free(now()) == [0, 0]  # a request that has ended counts for its minute
    assert limiter.free_tokens(now())[1] == 0
    assert 0 < limiter.seconds_until(0, 0, now()) <= SPAN * 1.01
    while not fits(await reserve(limiter, claim("7")))[0]:
        assert time.monotonic() - began < SPAN + 1
        await asyncio.sleep(0.02)
    assert time.monotonic() - began >= SPAN - 0.01
    await limiter.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_real_tokens_take_the_place_of_reserved_ones(make, kind):
    limiter = make(kind, LLM("a", 1, 1, tokens_per_minute=1000))
    first, second, third = await reserve(limiter, claim("1", 0, 300), claim("2", 0, 300), claim("3", 0, 300))
    limiter.settle(first, 50, 0.1, now())
    limiter.settle(second, 400, 0.1, now())
    limiter.cancel(third, now())
    await settled(limiter)
    assert limiter.free_tokens(now()) == [550]
    assert fits(await reserve(limiter, claim("4", 0, 551), claim("5", 0, 550))) == [False, True]
    await limiter.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_model_that_is_down_takes_nothing(make, kind):
    limiter = make(kind, LLM("a", 1, 1, slots=5))
    limiter.set_up(0, False)
    assert limiter.free(now()) == [0]
    assert 0 < limiter.seconds_until(0, 0, now()) < 60
    limiter.set_up(0, True)
    assert limiter.free(now()) == [5]
    await limiter.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_never_allowed_never_fits(make, kind):
    limiter = make(kind, LLM("a", 1, 1, slots=0), LLM("b", 1, 1, tokens_per_minute=10))
    assert fits(await reserve(limiter, claim("1"), claim("2", 1, 11))) == [False, False]
    assert limiter.seconds_until(0, 0, now()) == float("inf")
    assert limiter.seconds_until(1, 11, now()) == float("inf")
    await limiter.close()


@pytest.mark.parametrize("kind", SHARED)
async def test_two_sessions_take_from_one_limit(make, kind):
    llms = (
        LLM("a", 1, 1, slots=4),
        LLM("b", 1, 1, requests_per_minute=5),
        LLM("c", 1, 1, tokens_per_minute=90),
    )
    one, two = make(kind, *llms), make(kind, *llms)
    mine = await reserve(one, *(claim(f"1a{at}") for at in range(3)), claim("1b", 1), claim("1c", 2, 50))
    assert fits(mine) == [True] * 5
    yours = await reserve(
        two, claim("2a"), claim("2a'"), *(claim(f"2b{at}", 1) for at in range(5)), claim("2c", 2, 41),
        claim("2c'", 2, 40),
    )  # fmt: skip
    assert fits(yours) == [True, False, True, True, True, True, False, False, True]
    assert two.free(now()) == [0, 0, 0]
    one.settle(mine[0], 0, 0.1, now())
    await settled(one)
    await settled(two)
    assert two.free(now())[0] == 1
    await one.close()  # what a session holds still comes back when it ends
    await settled(two)
    assert two.free(now())[0] == 3
    await two.close()


@pytest.mark.parametrize("kind", SHARED)
async def test_contention_grants_exactly_the_limit(make, kind):
    llms = LLM("a", 1, 1, slots=100), LLM("b", 1, 1, requests_per_minute=77)
    limiters = [make(kind, *llms) for _ in range(3)]

    async def take(at, limiter):
        granted = [0, 0]
        for turn in range(20):
            claims = [claim(f"{at}.{turn}.{each}", each % 2) for each in range(8)]
            for grant in await reserve(limiter, *claims):
                if grant is not None:
                    granted[grant.model] += 1
        return granted

    got = await asyncio.gather(*(take(at, limiter) for at, limiter in enumerate(limiters)))
    assert [sum(each) for each in zip(*got, strict=True)] == [100, 77]
    for limiter in limiters:
        await limiter.close()
