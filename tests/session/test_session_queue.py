"""Who is served when: order, deadlines, refusal, deferral, cancellation."""

from __future__ import annotations

import asyncio
import gc

import numpy as np
import pytest

from eccos_rs.domain.query import Query
from eccos_rs.errors import InputError, Overloaded
from eccos_rs.routing.policy import Policy
from eccos_rs.session import Session
from eccos_rs.solver.assignment import assign
from tests.helpers.sessions import in_made_up_time, make_pool, make_router, population, rows_of

ROWS = rows_of(population(512))
ONE_SLOT = {name: {"slots": 1} for name in ("small", "mid", "large")}


def only(model, **fields):
    return Query("?", models=(model,), **fields)


async def test_a_lease_says_what_was_expected():
    async with Session(make_router(policy=Policy(quality_value=0.003))) as session:
        lease = await session.acquire("7", prediction=ROWS[7])
        cost = ROWS[7].input_tokens[0] * np.array([0.1, 0.5, 2.5])
        cost = (cost + ROWS[7].output_tokens[0] * np.array([0.4, 2.0, 10.0])) / 1e6
        best = int(np.argmin(cost - 0.003 * ROWS[7].quality[0]))
        assert lease.model == session.pool.names[best] == lease.llm.name
        assert lease.predicted_quality == pytest.approx(ROWS[7].quality[0, best])
        assert lease.cost == pytest.approx(cost[best])
        assert lease.output_tokens == pytest.approx(ROWS[7].output_tokens[0, best])
        assert lease.runner_up not in (None, lease.model)
        assert lease.model in lease.reason
        assert lease.runner_up in lease.reason
        assert not lease.released
        lease.release(output_tokens=100)
        assert lease.released


async def test_a_micro_batch_is_decided_jointly_within_the_slots():
    pool = make_pool(small={"slots": 8}, mid={"slots": 8}, large={"slots": 4})
    router = make_router(pool, Policy(quality_value=0.01))
    async with Session(router) as session:
        leases = await asyncio.gather(*(session.acquire(str(at), prediction=ROWS[at]) for at in range(20)))
        got = np.array([lease.index for lease in leases])
        joint = population(512).rows(slice(0, 20))
        best = assign(router.costs(joint), joint.quality, quality_value=0.01, capacity=[8, 8, 4])
        assert np.bincount(got, minlength=3).tolist() == [8, 8, 4]
        value = sum(lease.cost - 0.01 * lease.predicted_quality for lease in leases)
        assert value == pytest.approx(best.objective, rel=1e-4)
        for lease in leases:
            lease.release()


async def test_queries_are_predicted_together_when_no_prediction_is_given():
    router = make_router()
    async with Session(router) as session:
        leases = await asyncio.gather(*(session.acquire(str(at)) for at in range(40)))
        for at, lease in enumerate(leases):
            assert lease.predicted_quality == pytest.approx(ROWS[at].quality[0, lease.index])
            lease.release()
    assert sum(router.predictor.batches) == 40
    assert len(router.predictor.batches) < 10


def test_first_come_first_served_among_equals_and_priorities_first():
    async def story():
        async with Session(make_router(make_pool(**ONE_SLOT))) as session:
            held = await session.acquire(only("mid"), prediction=ROWS[0])
            served = []

            async def client(name, priority):
                lease = await session.acquire(only("mid", priority=priority), prediction=ROWS[1])
                served.append(name)
                await asyncio.sleep(1)
                lease.release()

            tasks = []
            for name, priority in [("a", 0), ("b", 0), ("urgent", 5), ("c", 0), ("late urgent", 5)]:
                tasks.append(asyncio.create_task(client(name, priority)))
                await asyncio.sleep(0.1)
            assert session.stats().waiting == 5
            held.release()
            await asyncio.gather(*tasks)
            return served

    assert in_made_up_time(story()) == ["urgent", "late urgent", "a", "b", "c"]


def test_one_that_waits_for_a_full_model_is_in_nobody_elses_way():
    async def story():
        async with Session(make_router(make_pool(**ONE_SLOT))) as session:
            held = await session.acquire(only("large"), prediction=ROWS[0])
            stuck = [
                asyncio.create_task(session.acquire(only("large"), prediction=ROWS[1])) for _ in range(300)
            ]
            await asyncio.sleep(0.1)
            lease = await asyncio.wait_for(session.acquire(only("small"), prediction=ROWS[2]), 1)
            lease.release()
            held.release()
            for each in stuck:
                (await each).release()

    in_made_up_time(story())


def test_a_large_query_is_not_overtaken_for_ever_by_small_ones():
    small, large = rows_of(population(1, tokens=10))[0], rows_of(population(1, tokens=900))[0]
    pool = make_pool(mid={"tokens_per_minute": 1000})

    async def story():
        loop = asyncio.get_running_loop()
        async with Session(make_router(pool)) as session:
            done = {}

            async def client(name, prediction):
                lease = await session.acquire(only("mid"), prediction=prediction)
                done[name] = loop.time()
                lease.release()

            tasks = [asyncio.create_task(client("before", small)) for _ in range(50)]
            await asyncio.sleep(1)
            tasks.append(asyncio.create_task(client("large", large)))
            for at in range(200):
                await asyncio.sleep(0.5)
                tasks.append(asyncio.create_task(client(f"small {at}", small)))
            await asyncio.gather(*tasks)
            return done

    done = in_made_up_time(story())
    assert done["large"] - 1000.0 < 62
    assert done["small 20"] >= done["large"]  # it came 10 s after the large one


def test_requests_per_minute_hold_over_every_minute():
    pool = make_pool(mid={"requests_per_minute": 10})

    async def story():
        loop = asyncio.get_running_loop()
        async with Session(make_router(pool)) as session:
            starts = []

            async def client():
                lease = await session.acquire(only("mid"), prediction=ROWS[0])
                starts.append(loop.time())
                lease.release()

            await asyncio.gather(*(client() for _ in range(35)))
            return starts

    starts = sorted(in_made_up_time(story()))
    assert all(later - earlier >= 60 for earlier, later in zip(starts, starts[10:], strict=False))
    assert starts[-1] - starts[0] < 3 * 60 + 5


def test_refused_at_once_with_the_time_to_come_back():
    async def story():
        pool = make_pool(mid={"requests_per_minute": 1})
        async with Session(make_router(pool, Policy(overload="raise"))) as session:
            (await session.acquire(only("mid"), prediction=ROWS[0])).release()
            await asyncio.sleep(20)
            with pytest.raises(Overloaded, match="no model is free") as refused:
                await session.acquire(only("mid"), prediction=ROWS[0])
            assert refused.value.retry_after == pytest.approx(40, abs=1)
            await asyncio.sleep(refused.value.retry_after)
            (await session.acquire(only("mid"), prediction=ROWS[0])).release()
            return session.stats()

    stats = in_made_up_time(story())
    assert stats.refused == 1
    assert stats.decisions == 2


@pytest.mark.parametrize("overload", ["raise", "defer"])
def test_waiting_ends_at_the_deadline(overload):
    async def story():
        loop = asyncio.get_running_loop()
        policy = Policy(overload=overload, wait=3.0)
        async with Session(make_router(make_pool(**ONE_SLOT), policy)) as session:
            held = await session.acquire(only("mid"), prediction=ROWS[0])
            began = loop.time()
            if overload == "raise":
                with pytest.raises(Overloaded):
                    await session.acquire(only("mid"), prediction=ROWS[1])
            else:
                lease = await session.acquire(only("mid"), prediction=ROWS[1])
                assert lease.deferred
                assert lease.model is None
                assert lease.retry_after > 0
                lease.release()
            assert loop.time() - began == pytest.approx(3.0, abs=0.01)
            began = loop.time()
            waiting = asyncio.create_task(session.acquire(only("mid"), prediction=ROWS[1], timeout=10))
            await asyncio.sleep(5)
            held.release()
            (await waiting).release()
            assert loop.time() - began == pytest.approx(5.0, abs=0.01)
            assert session.stats().waiting == 0

    in_made_up_time(story())


async def test_cancelled_while_waiting_and_after_the_grant():
    async with Session(make_router(make_pool(**ONE_SLOT))) as session:
        held = await session.acquire(only("mid"), prediction=ROWS[0])
        waiting = asyncio.create_task(session.acquire(only("mid"), prediction=ROWS[1]))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert session.stats().waiting == 0
        second = asyncio.create_task(session.acquire(only("mid"), prediction=ROWS[1]))
        await asyncio.sleep(0.01)
        held.release()
        # The slot is granted in the very turn in which the caller is cancelled.
        session._scheduler._flush()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        stats = session.stats()
        assert (stats.in_flight, stats.waiting, stats.cancelled) == (0, 0, 2)


async def test_a_block_gives_its_slot_back_on_every_way_out():
    async with Session(make_router(make_pool(**ONE_SLOT))) as session:
        async with session.lease(only("mid"), prediction=ROWS[0]) as lease:
            assert session.stats().in_flight == 1
        assert lease.released
        with pytest.raises(ValueError, match="endpoint"):
            async with session.lease(only("mid"), prediction=ROWS[0]):
                raise ValueError("endpoint")

        async def client():
            async with session.lease(only("mid"), prediction=ROWS[0]):
                await asyncio.sleep(60)

        task = asyncio.create_task(client())
        await asyncio.sleep(0.01)
        assert session.stats().in_flight == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        stats = session.stats()
        assert stats.in_flight == 0
        assert stats.failures == 2


async def test_a_dropped_lease_gives_its_slot_back_and_says_so():
    async with Session(make_router(make_pool(**ONE_SLOT))) as session:

        async def careless():
            await session.acquire(only("mid"), prediction=ROWS[0])
            await asyncio.sleep(0)  # the loop's own callback holds what it has just handed over
            gc.collect()

        with pytest.warns(ResourceWarning, match="dropped without release"):
            await careless()
        assert session.stats().in_flight == 0


async def test_a_failed_answer_costs_nothing_and_promises_nothing():
    async with Session(make_router(make_pool(mid={"tokens_per_minute": 10_000}))) as session:
        lease = await session.acquire(only("mid"), prediction=ROWS[0])
        assert session.stats().models[1].tokens_used > 0
        lease.release(failed=True)
        second = await session.acquire(Query("?"), prediction=ROWS[0], exclude=["mid"])
        assert second.model != "mid"
        second.release(output_tokens=100, cost=0.5)
        stats = session.stats()
        assert stats.decisions == 1
        assert stats.failures == 1
        assert stats.spend == pytest.approx(0.5)
        assert stats.predicted_quality == pytest.approx(second.predicted_quality)
        assert stats.models[1].tokens_used == int(np.ceil(ROWS[0].input_tokens[0]))


async def test_a_second_release_changes_nothing():
    async with Session(make_router()) as session:
        lease = await session.acquire("?", prediction=ROWS[0])
        lease.release(output_tokens=10)
        lease.release(output_tokens=99, failed=True)
        assert session.stats().in_flight == 0
        assert session.stats().failures == 0


async def test_an_absurd_report_is_refused_and_the_slot_is_free():
    async with Session(make_router(make_pool(**ONE_SLOT))) as session:
        for report in ({"quality": 1.5}, {"output_tokens": -1}, {"cost": float("nan")}, {"quality": "good"}):
            lease = await session.acquire(only("mid"), prediction=ROWS[0])
            with pytest.raises(InputError, match=next(iter(report))):
                lease.release(**report)
            assert session.stats().in_flight == 0


def decision_times(arrivals, *, rate, window):
    """Seconds from the first arrival to each decision, when queries come at these seconds."""

    async def story():
        async with Session(make_router(), window=window) as session:
            session._scheduler.window.rate.expect(rate)
            loop = asyncio.get_running_loop()
            begin = loop.time()

            async def client(at):
                await asyncio.sleep(at)
                lease = await session.acquire("?", prediction=ROWS[0])
                lease.release()
                return loop.time() - begin

            return await asyncio.gather(*(client(at) for at in arrivals))

    return in_made_up_time(story())


def test_nobody_waits_for_company_that_is_not_to_be_expected():
    assert max(decision_times([0.0], rate=10.0, window=0.02)) == 0.0


def test_a_window_ends_when_nobody_comes_any_more():
    # 1,000 a second: after 4 ms without another the burst is over, well before the window is.
    took = decision_times([0.0, 0.001, 0.003], rate=1000.0, window=0.02)
    assert took == pytest.approx([0.0075] * 3, abs=6e-4)


def test_a_window_ends_at_its_end_though_others_keep_coming():
    took = decision_times(np.arange(30) * 0.002, rate=1000.0, window=0.02)
    assert took[0] == pytest.approx(0.02, abs=1e-3)
    assert took[5] == took[0] < took[12] == pytest.approx(took[11])


def test_a_dense_stream_is_decided_when_a_turn_of_the_loop_brings_nobody():
    took = decision_times([0.0] * 64, rate=20_000.0, window=0.02)
    assert took == [0.0] * 64
