"""What was acknowledged is kept, whatever befalls the file: full disks, damage, another program."""

from __future__ import annotations

import asyncio
import logging
import resource
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest

from eccos_rs.errors import InputError, StoreError
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from eccos_rs.session import Session
from eccos_rs.session.store import LeaseRow, SqliteStore
from tests.helpers.sessions import ByNumber, make_pool, make_router, population, rows_of

ROWS = rows_of(population(512))


def a_lease(name, **fields):
    values = {
        "id": name, "model": "mid", "at": 1e9, "predicted": 0.5, "expected": 0.6, "output_tokens": 100.0,
        "cost": 0.001, "embedding": None,
    }  # fmt: skip
    return LeaseRow(**(values | fields))


@pytest.fixture
def store(tmp_path):
    made = SqliteStore(tmp_path / "store.sqlite", clock=lambda: 1e9)
    yield made
    made.close()


def test_feedback_comes_back_after_reopening(store):
    vector = np.random.default_rng(0).normal(size=8).astype(np.float32)
    store.lease(a_lease("a", embedding=vector))
    store.settle("a", 42.0, 0.5, False)
    first = store.feedback("a", 1.0).result(5)
    assert (first.first, first.previous, first.real_tokens) == (True, None, 42.0)
    again = store.feedback("a", 0.0).result(5)
    assert (again.first, again.previous) == (False, 1.0)
    store.close()
    reopened = SqliteStore(store.path, clock=lambda: 1e9)
    (kept,) = reopened.judged()
    assert kept.quality == 0.0
    assert kept.lease.id == "a"
    np.testing.assert_allclose(kept.lease.embedding, vector, atol=2e-3)
    reopened.close()


def test_nobody_knows_that_lease(store):
    store.lease(a_lease("a"))
    with pytest.raises(InputError, match="no lease 'b'"):
        store.feedback("b", 1.0).result(5)
    assert store.feedback("a", 1.0).result(5).first
    assert store.errors == 0


def ids(store):
    return [each.lease.id for each in store.judged()]


def judge(store, name, at):
    store.lease(a_lease(name, at=at))
    store.feedback(name, 1.0).result(5)


def until(store, known):
    """Wait until the store knows these leases and no others."""
    end = time.monotonic() + 10
    while (found := ids(store)) != known:
        assert time.monotonic() < end, found
        time.sleep(0.02)


def test_old_leases_are_forgotten(tmp_path):
    now = [1e9]
    for _ in range(2):
        store = SqliteStore(tmp_path / "s.sqlite", keep=1500.0, clock=lambda: now[0])
        judge(store, f"at {now[0]}", now[0])
        store.close()
        now[0] += 1000.0
    store = SqliteStore(tmp_path / "s.sqlite", keep=1500.0, clock=lambda: now[0])
    assert ids(store) == ["at 1000001000.0"]
    store.close()


def test_old_leases_are_forgotten_while_the_store_is_open(tmp_path):
    now, running = [1e9], [0.0]
    store = SqliteStore(
        tmp_path / "s.sqlite", keep=7200.0, clock=lambda: now[0], monotonic=lambda: running[0]
    )
    judge(store, "early", now[0])
    for _ in range(3):
        now[0] += 3601.0
        running[0] += 3601.0
        judge(store, f"at {running[0]}", now[0])
    assert ids(store) == ["at 7202.0", "at 10803.0"]
    store.close()


def test_a_clock_that_jumps_ahead_deletes_nothing(tmp_path):
    now, running = [1e9], [0.0]

    def opened():
        return SqliteStore(
            tmp_path / "s.sqlite", keep=90 * 86400.0, clock=lambda: now[0], monotonic=lambda: running[0]
        )

    store = opened()
    judge(store, "early", now[0])
    now[0] += 10 * 365 * 86400.0  # while it is open
    running[0] += 3601.0
    judge(store, "late", now[0])
    store.close()
    for _ in range(3):  # and whenever it is opened again
        store = opened()
        assert ids(store) == ["early", "late"]
        store.close()
    # Ninety days that have really passed count, whatever the time of day is.
    store = opened()
    assert ids(store) == ["early", "late"]
    running[0] += 91 * 86400.0
    judge(store, "last", now[0])
    until(store, ["late", "last"])
    store.close()


@pytest.mark.parametrize("end", ["", "-wal"])
def test_a_file_that_was_deleted_takes_no_feedback(tmp_path, caplog, end):
    path = tmp_path / "s.sqlite"
    store = SqliteStore(path)
    judge(store, "before", time.time())
    Path(f"{path}{end}").unlink()
    store.lease(a_lease("after", at=time.time()))
    with pytest.raises(StoreError, match="was deleted while the store was open"):
        store.feedback("after", 1.0).result(5)
    assert "was deleted" in caplog.text
    assert store.fault is not None
    # The next one goes to a file that is there, decisions of the meantime with it.
    assert store.feedback("after", 1.0).result(5).quality == 1.0
    assert store.fault is None
    store.close()
    reopened = SqliteStore(path)
    assert "after" in ids(reopened)
    reopened.close()


def test_a_file_that_was_replaced_takes_no_feedback(tmp_path):
    path = tmp_path / "s.sqlite"
    store, other = SqliteStore(path), SqliteStore(tmp_path / "other.sqlite")
    other.close()
    judge(store, "before", time.time())
    (tmp_path / "other.sqlite").rename(path)
    with pytest.raises(StoreError, match="was replaced"):
        store.feedback("before", 0.0).result(5)
    store.close()


def test_a_closed_store_takes_nothing(store):
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.feedback("a", 1.0).result(5)


@pytest.mark.parametrize("damage", ["header", "middle", "text"])
def test_a_damaged_store_is_refused_with_what_to_do(tmp_path, damage):
    path = tmp_path / "store.sqlite"
    store = SqliteStore(path)
    for at in range(2000):
        store.lease(a_lease(f"lease {at}", at=1e12))
    store.close()
    data = bytearray(path.read_bytes())
    if damage == "header":
        data[:100] = bytes(100)
    elif damage == "middle":
        for page in range(2, len(data) // 4096):
            data[4096 * page : 4096 * page + 64] = bytes(range(64))
    else:
        data = bytearray(b"this is no database at all, but a note to myself\n" * 100)
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match=r"is damaged .* Move it away"):
        SqliteStore(path)
    assert path.read_bytes() == bytes(data)


def test_a_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE recipes (name)")
    db.close()
    with pytest.raises(StoreError, match="another program"):
        SqliteStore(path)


def test_a_newer_store_is_refused(tmp_path, store):
    store.close()
    with sqlite3.connect(store.path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="schema 99"):
        SqliteStore(store.path)


async def serve_some(session):
    lease = await session.acquire("?", prediction=ROWS[0])
    receipt = lease.release(output_tokens=10, quality=1.0)
    with pytest.raises(StoreError):
        await receipt
    with pytest.raises(StoreError):
        await session.feedback(lease.id, 1.0)
    assert session.stats().in_flight == 0


async def test_a_store_that_cannot_be_made_refuses_feedback_and_serves(caplog):
    with caplog.at_level(logging.ERROR):
        async with Session(make_router(), store="/proc/eccos/store.sqlite") as session:
            await serve_some(session)
            stats = session.stats()
            assert stats.store == "failing"
            assert stats.store_errors >= 2
    assert "feedback is refused" in caplog.text


async def test_a_full_disk_refuses_feedback_and_recovers(tmp_path, caplog):
    path = tmp_path / "store.sqlite"
    async with Session(make_router(), store=path) as session:
        lease = await session.acquire("?", prediction=ROWS[0])
        await lease.release(quality=1.0)
        assert session.stats().feedback == 1
        # The write-ahead log may not grow any more: what a full disk does, by the kernel's own limit.
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        wal = Path(f"{path}-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (wal, hard))
        try:
            await serve_some(session)
            assert session.stats().store == "failing"
            assert session.stats().feedback == 1
            lost = await session.acquire("?", prediction=ROWS[1])
            lost.release()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        # There is room again: the leases that were granted meanwhile are known after all.
        await session.feedback(lost.id, 0.0)
        assert session.stats().store == "ok"
        assert session.stats().feedback == 2
    assert "takes feedback again" in caplog.text


class Retrieval:
    """Keeps what it is taught."""

    def __init__(self):
        self.rows = []

    def add(self, embedding, model, quality, log_tokens=float("nan")):
        self.rows.append((embedding, model, quality, log_tokens))


def teachable_router():
    router = make_router(policy=Policy(min_quality=0.6))
    router.predictor = ByNumber(population(512))
    router.predictor.retrieval = Retrieval()
    return router


async def test_the_index_learns_online_and_again_after_a_restart(tmp_path):
    router = teachable_router()
    async with Session(router, store=tmp_path / "s.sqlite") as session:
        for at in range(5):
            lease = await session.acquire(str(at))
            await lease.release(output_tokens=20, quality=at / 4)
        later = await session.acquire("9")
        later.release()
        await session.feedback(later.id, 1.0)
        await session.feedback(later.id, 0.0)
        index = lease.index
    learned = router.predictor.retrieval.rows
    assert [row[2] for row in learned] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 0.0]
    assert learned[4][1] == index
    assert learned[4][3] == pytest.approx(np.log1p(20))
    assert np.isnan(learned[5][3])
    np.testing.assert_allclose(learned[4][0], population(512).embedding[4], atol=1e-3)
    again = teachable_router()
    async with Session(again, store=tmp_path / "s.sqlite") as session:
        (await session.acquire("0")).release()
    taught = again.predictor.retrieval.rows
    assert [row[2] for row in taught] == [0.0, 0.25, 0.5, 0.75, 1.0, 0.0]
    np.testing.assert_array_equal(taught[4][0], learned[4][0])


async def test_the_shipped_bundle_learns(tmp_path):
    router = Router.load()
    question = "Which of these is a prime number: 21, 23, 27?"
    before = router.predict([question])
    async with Session(router, policy=Policy(quality_value=0.0), store=tmp_path / "s.sqlite") as session:
        for _ in range(3):
            lease = await session.acquire(question)
            await lease.release(output_tokens=30, quality=0.0)
        column = lease.index
    after = router.predict([question])
    assert after.quality[0, column] < before.quality[0, column]
    assert after.similarity[0] > 0.999
    # A new process with the same store begins where this one ended.
    again = Router.load()
    async with Session(again, store=tmp_path / "s.sqlite") as session:
        (await session.acquire("Hello")).release()
    assert again.predict([question]).quality[0, column] == pytest.approx(after.quality[0, column], abs=1e-4)


async def test_learning_can_be_left_off(tmp_path):
    router = teachable_router()
    async with Session(router, store=tmp_path / "s.sqlite", learn=False) as session:
        lease = await session.acquire("1")
        await lease.release(quality=1.0)
    assert router.predictor.retrieval.rows == []


async def test_an_index_that_cannot_take_it_stops_nobody(tmp_path, caplog):
    router = teachable_router()
    router.predictor.retrieval.add = lambda *_: 1 / 0
    async with Session(router, store=tmp_path / "s.sqlite") as session:
        lease = await session.acquire("1")
        await lease.release(quality=1.0)
        assert session.stats().feedback == 1
        again = await session.acquire("1")
        await again.release(quality=1.0)
    assert caplog.text.count("did not take") == 1


async def test_feedback_without_a_store_is_known_while_it_is_remembered():
    async with Session(make_router(make_pool())) as session:
        lease = await session.acquire("1")
        await lease.release(quality=1.0)
        await session.feedback(lease.id, 0.0)
        with pytest.raises(InputError, match="no lease 'x'"):
            await session.feedback("x", 0.0)
        with pytest.raises(InputError, match="quality"):
            await session.feedback(lease.id, 2.0)
        assert session.stats().feedback == 1
        assert session.stats().store == "none"


def test_a_lease_outlives_its_loop(tmp_path):
    session = Session(make_router(), store=tmp_path / "s.sqlite")

    async def grant():
        return await session.acquire("1")

    lease = asyncio.run(grant())
    lease.release(quality=1.0).result(5)
    asyncio.run(session.close())
