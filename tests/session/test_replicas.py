"""Processes on one store: killed, cut off from the server, paced together."""

from __future__ import annotations

import asyncio
import json
import signal
import time

import pytest

from eccos_rs.domain.query import Query
from eccos_rs.errors import Overloaded, StoreError
from eccos_rs.routing.policy import Policy
from eccos_rs.session import Session
from eccos_rs.session.control.pacing import budget_period
from tests.helpers.replicas import replica
from tests.helpers.sessions import make_pool, make_router, population, rows_of

ROWS = rows_of(population(512))
SLOTS = {name: {"slots": 2} for name in ("small", "mid", "large")}


@pytest.fixture(params=["sqlite", "redis"])
def store(request, tmp_path):
    return str(tmp_path / "s.sqlite") if request.param == "sqlite" else request.getfixturevalue("redis_url")


def only(model):
    return Query("?", models=(model,))


def make(store, pool=SLOTS, **options):
    policy = options.pop("policy", Policy(min_quality=0.6, wait=20.0))
    return Session(make_router(make_pool(**pool), policy), store=store, **options)


async def test_slots_of_a_replica_that_was_killed_come_back(store):
    process = replica(
        store,
        """
        policy = Policy(budget=1000.0, per="month")
        pool = make_pool(**{name: {"slots": 2} for name in ("small", "mid", "large")})
        session = Session(make_router(pool, policy), store=STORE)
        held = [await session.acquire(only("mid"), prediction=ROWS[at]) for at in range(2)]
        await asyncio.sleep(0.5)
        print(sum(lease.cost for lease in held), flush=True)
        await asyncio.sleep(100)
        """,
    )
    reserved = float(await asyncio.to_thread(process.stdout.readline))
    async with make(store, policy=Policy(budget=1000.0, per="month", wait=20.0)) as session:
        began = time.monotonic()
        waiting = asyncio.create_task(session.acquire(only("mid"), prediction=ROWS[0]))
        await asyncio.sleep(1.0)
        assert not waiting.done()  # it is alive
        process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        (await waiting).release(cost=0.0)
        assert time.monotonic() - killed < 5.0, "slots of the dead come back within 5 s"
        assert time.monotonic() - began > 1.0
        # What ran there may have been charged: it counts as spent.
        while session.stats().pace.spent < 0.999 * reserved:
            assert time.monotonic() - killed < 10
            await asyncio.sleep(0.05)
        assert session.stats().pace.spent == pytest.approx(reserved, rel=1e-3)
    process.communicate()


async def use(session, running, most, stop):
    """Ask again and again until told to stop; count what runs at the provider."""
    while not stop.is_set():
        try:
            async with session.lease(only("mid"), prediction=ROWS[0]) as lease:
                running[0] += 1
                most[0] = max(most[0], running[0])
                await asyncio.sleep(0.01)
                running[0] -= 1
                lease.release(output_tokens=1)
        except Overloaded:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("persistent", [True, False])
async def test_no_limit_is_exceeded_while_the_server_is_away(redis_server, persistent, caplog):
    if not persistent:
        redis_server.stop()
        redis_server._options = ("--appendonly", "no")
        redis_server.start()
    url = f"{redis_server.url}?durable=no"
    pool = {"mid": {"slots": 4}}
    running, most, stop = [0], [0], asyncio.Event()
    policy = Policy(min_quality=0.6, wait=0.2, overload="raise")
    async with make(url, pool, policy=policy) as one, make(url, pool, policy=policy) as two:
        await asyncio.sleep(0.3)
        clients = [
            asyncio.create_task(use(session, running, most, stop)) for session in (one, two) for _ in range(6)
        ]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(redis_server.stop, signal.SIGKILL)
        before = one.stats().decisions + two.stats().decisions
        await asyncio.sleep(1.5)
        assert {one.stats().limits, two.stats().limits} == {"local-share"}
        assert one.stats().limit_losses == 1
        during = one.stats().decisions + two.stats().decisions
        assert during > before + 20  # each goes on with its share
        await asyncio.to_thread(redis_server.start)
        end = time.monotonic() + 10
        while {one.stats().limits, two.stats().limits} != {"shared"}:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        await asyncio.sleep(2.5)
        assert one.stats().decisions + two.stats().decisions > during
        stop.set()
        await asyncio.gather(*clients)
        end = time.monotonic() + 10
        while one.stats().in_flight or two.stats().in_flight:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
    assert most == [4]
    assert "are lost" in caplog.text
    assert "are reached again" in caplog.text


async def test_refusing_while_the_server_is_away(redis_server):
    policy = Policy(min_quality=0.6, overload="raise")
    async with make(redis_server.url, policy=policy, on_store_loss="refuse") as session:
        lease = await session.acquire("1")
        await lease.release(quality=1.0)
        redis_server.stop(signal.SIGKILL)
        end = time.monotonic() + 5
        while session.stats().limits == "shared":
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        assert session.stats().limits == "refuse"
        with pytest.raises(Overloaded):
            await session.acquire("2")
        with pytest.raises(StoreError):
            await session.feedback(lease.id, 0.0)
        redis_server.start()
        end = time.monotonic() + 10
        while session.stats().limits != "shared":
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        await asyncio.sleep(2.1)  # every session that is alive registers before anything is granted
        (await session.acquire("2")).release()
        await session.feedback(lease.id, 0.0)  # what was acknowledged is there


async def test_feedback_without_an_append_only_file_is_refused(redis_server):
    redis_server.stop()
    redis_server._options = ("--appendonly", "no")
    redis_server.start()
    async with make(redis_server.url) as session:
        lease = await session.acquire("1")
        with pytest.raises(StoreError, match="append-only file"):
            await lease.release(quality=1.0)
    async with make(f"{redis_server.url}?durable=no") as session:
        lease = await session.acquire("1")
        await lease.release(quality=1.0)


PACED = """
    policy = Policy(budget={budget}, per="month")
    session = Session(make_router(policy=policy), store=STORE)
    (await session.acquire("?", prediction=ROWS[0])).release(cost=0.0)
    print("ready", flush=True)
    sys.stdin.readline()
    end, at = time.monotonic() + {seconds}, 0
    while time.monotonic() < end:
        lease = await session.acquire("?", prediction=ROWS[at % 64])
        lease.release(output_tokens=lease.output_tokens)
        at += 1
        await asyncio.sleep({every})
    await asyncio.sleep(0.5)
    pace = session.stats().pace
    print(json.dumps([pace.spent, pace.on_pace, at]), flush=True)
"""


@pytest.mark.parametrize("processes", [1, 4])
def test_several_processes_keep_one_pace(store, processes):
    """The spend of all follows the pace of one; each alone would spend as much as all may."""
    seconds, every = 45.0, 0.1
    per_query = float(make_router().costs(population(64)).mean())
    # What a tenth to the whole of the queries of an idle machine can spend.
    per_second = 2.5 * per_query * processes
    budget = per_second * (budget_period("month", time.time())[1] - time.time())
    team = [
        replica(store, PACED.format(budget=budget, seconds=seconds, every=every)) for _ in range(processes)
    ]
    for process in team:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in team:
        process.stdin.write("go\n")
        process.stdin.flush()
    found = []
    for process in team:
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, err
        found.append(json.loads(out))
    spent, on_pace, _ = found[-1]
    assert max(each[0] for each in found) <= 1.02 * spent  # all see one spend
    # Each alone would spend as much as all may; in the first seconds they know little of each other.
    # How little a busy machine spends is no fault.
    assert 0.0 < spent / on_pace < 1.06, found
