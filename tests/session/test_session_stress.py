"""Thousands of tasks that come, go and are cancelled: no slot too many, none lost, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eccos_rs.domain.query import Query
from eccos_rs.errors import EccosError
from eccos_rs.routing.policy import Policy
from eccos_rs.session import Session, SyncSession
from tests.helpers.sessions import MODELS, in_made_up_time, make_pool, make_router, population, rows_of

ROWS = rows_of(population(512))
SLOTS = {"small": 7, "mid": 5, "large": 3}
POOL = {name: {"slots": slots} for name, slots in SLOTS.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_never_more_in_flight_than_slots_whatever_is_cancelled(seed):
    async def story():
        rng = random.Random(seed)
        running = dict.fromkeys(MODELS, 0)
        most = dict.fromkeys(MODELS, 0)
        served = 0
        async with Session(make_router(make_pool(**POOL), Policy(min_quality=0.6, wait=3.0))) as session:

            async def client(at):
                nonlocal served
                await asyncio.sleep(rng.random() * 5)
                names = rng.choice([None, None, ("large",), ("small", "mid")])
                query = Query("?", models=names, priority=rng.choice([0, 0, 0, 1]))
                async with session.lease(query, prediction=ROWS[at % len(ROWS)]) as lease:
                    if lease.deferred:
                        return
                    running[lease.model] += 1
                    most[lease.model] = max(most[lease.model], running[lease.model])
                    try:
                        await asyncio.sleep(rng.expovariate(10.0))
                        if rng.random() < 0.1:
                            raise ConnectionError("endpoint")
                        served += 1
                        lease.release(output_tokens=rng.random() * 500, quality=float(rng.random() < 0.6))
                    finally:
                        running[lease.model] -= 1

            tasks = [asyncio.create_task(client(at)) for at in range(2000)]

            async def canceller():
                while any(not task.done() for task in tasks):
                    await asyncio.sleep(0.05)
                    for task in rng.sample(tasks, 10):
                        task.cancel()

            await asyncio.gather(canceller(), *tasks, return_exceptions=True)
            stats = session.stats()
        assert most == SLOTS  # reached, and never exceeded
        assert served > 500
        assert (stats.in_flight, stats.waiting) == (0, 0)
        assert stats.cancelled > 50
        assert [model.in_flight for model in session.stats().models] == [0, 0, 0]

    in_made_up_time(story())


def test_ten_thousand_wait_in_bounded_memory():
    async def story():
        pool = make_pool(**{name: {"slots": 50} for name in MODELS})
        async with Session(make_router(pool)) as session:

            async def client(at):
                async with session.lease("?", prediction=ROWS[at % len(ROWS)]):
                    await asyncio.sleep(0.1)

            gc.collect()
            tracemalloc.start()
            tasks = [asyncio.create_task(client(at)) for at in range(10_000)]
            await asyncio.sleep(0.001)
            assert session.stats().waiting == 10_000 - 150
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            # Task, coroutine, future and arrays together: some kilobytes a waiting query.
            assert held < 10_000 * 8_000
            await asyncio.gather(*tasks)
            stats = session.stats()
            assert (stats.decisions, stats.in_flight, stats.waiting) == (10_000, 0, 0)

    in_made_up_time(story())


def handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts file handles in /proc")
def test_churn_leaves_nothing_behind(tmp_path):
    # Imports, executors and SQLite's own caches are there after the first round; later rounds add nothing.
    def a_round(number):
        async def story():
            rng = random.Random(number)
            router = make_router(make_pool(**POOL), Policy(min_quality=0.6, wait=0.05))
            session = Session(router, store=tmp_path / "store.sqlite")

            async def client(at):
                try:
                    async with session.lease(str(at % 512)) as lease:
                        await asyncio.sleep(rng.random() * 0.002)
                        if not lease.deferred and rng.random() < 0.2:
                            await lease.release(output_tokens=50, quality=1.0)
                except EccosError:
                    pass

            tasks = [asyncio.create_task(client(at)) for at in range(400)]
            await asyncio.sleep(0.03)
            for task in rng.sample(tasks, 100):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            stats = session.stats()
            await session.close()
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            return stats.in_flight, stats.waiting, len(left)

        return asyncio.run(story())

    assert a_round(0) == (0, 0, 0)
    before = handles(), threading.active_count()
    for number in range(1, 5):
        assert a_round(number) == (0, 0, 0)
    assert (handles(), threading.active_count()) == before


def test_threads_share_the_slots():
    lock = threading.Lock()
    running = dict.fromkeys(MODELS, 0)
    most = dict.fromkeys(MODELS, 0)
    with SyncSession(make_router(make_pool(**POOL))) as session:

        def client(at):
            with session.acquire("?", prediction=ROWS[at % len(ROWS)]) as lease:
                with lock:
                    running[lease.model] += 1
                    most[lease.model] = max(most[lease.model], running[lease.model])
                os.sched_yield()
                with lock:
                    running[lease.model] -= 1

        with ThreadPoolExecutor(24) as pool:
            list(pool.map(client, range(600)))
        stats = session.stats()
        assert stats.decisions == 600
        assert all(most[name] <= SLOTS[name] for name in MODELS)
        lease = session.acquire("3")
        session.feedback(lease.id, 1.0)
        lease.release(output_tokens=3).result(1)
        session.down("mid")
        assert not session.stats().models[1].up
        session.up("mid")
        assert session.stats().feedback == 1
    with pytest.raises(EccosError, match="closed"):
        session.acquire("3")


def test_the_sync_face_refuses_what_would_block_itself():
    with SyncSession(make_router()) as session:

        async def inside():
            with pytest.raises(EccosError, match="own thread"):
                session.acquire("3")

        asyncio.run_coroutine_threadsafe(inside(), session._loop).result(5)


async def test_a_taker_cancelled_between_grant_and_handover_leaves_no_lease():
    granted, gone = threading.Event(), threading.Event()
    with SyncSession(make_router(make_pool(**POOL))) as threads:
        acquire = threads.session.acquire

        async def acquire_and_dawdle(query, **options):
            lease = await acquire(query, **options)
            granted.set()
            assert gone.wait(10)  # the session's thread stands still between its grant and the news of it
            return lease

        threads.session.acquire = acquire_and_dawdle
        taker = asyncio.create_task(threads.acquire_async("1"))
        assert await asyncio.to_thread(granted.wait, 10)
        taker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taker
        gone.set()
        stats = threads.stats()
        assert (stats.in_flight, stats.decisions, stats.failures) == (0, 0, 0)
