"""One store and several processes: killed, of another user, at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from eccos_rs.session.store import SqliteStore
from eccos_rs.session.store.schema import open_database
from tests.helpers.paths import ROOT

CHILD = """
    import asyncio, sys, os
    sys.path.insert(0, {root!r})
    from tests.helpers.sessions import make_router, population, rows_of
    from eccos_rs.session import Session
    from eccos_rs.routing.policy import Policy

    ROWS = rows_of(population(64))

    async def main():
        {body}

    asyncio.run(main())
"""


def child(body):
    code = textwrap.dedent(CHILD).format(root=str(ROOT), body=textwrap.indent(textwrap.dedent(body), " " * 4))
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(os.name != "posix", reason="file permissions")
def test_a_read_only_store_refuses_feedback_and_serves(tmp_path):
    path = tmp_path / "store.sqlite"
    SqliteStore(path).close()
    for place in (tmp_path, *tmp_path.parents[:3]):
        place.chmod(0o755)
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    # The superuser may write everything, so the child becomes somebody else.
    process = child(
        f"""
        import numpy.ma  # loaded on first use, which somebody else may not be able to do
        from eccos_rs.errors import StoreError
        if os.getuid() == 0:
            os.setuid(65534)
        async with Session(make_router(), store={str(path)!r}) as session:
            lease = await session.acquire("?", prediction=ROWS[0])
            try:
                await lease.release(quality=1.0)
            except StoreError as error:
                print(session.stats().store, session.stats().decisions, error)
        """
    )
    out, err = process.communicate(timeout=60)
    tmp_path.chmod(0o755)
    assert out.startswith("failing 1 "), err
    assert "read" in out


@pytest.mark.parametrize("after", [1, 37, 200])
def test_kill_9_loses_no_acknowledged_feedback(tmp_path, after):
    path = tmp_path / "store.sqlite"
    process = child(
        f"""
        async with Session(make_router(), store={str(path)!r}) as session:
            async def client(at):
                lease = await session.acquire("?", prediction=ROWS[at % 64])
                await lease.release(output_tokens=5, quality=(at % 2) / 1)
                print(lease.id, at % 2, flush=True)
            at = 0
            while True:
                await asyncio.gather(*(client(at + i) for i in range(20)))
                at += 20
        """
    )
    acknowledged = {}
    for line in process.stdout:
        lease, quality = line.split()
        acknowledged[lease] = float(quality)
        if len(acknowledged) >= after:
            break
    process.send_signal(signal.SIGKILL)
    rest, errors = process.communicate(timeout=60)
    for line in rest.splitlines():
        parts = line.split()
        if len(parts) == 2 and line.endswith(("0", "1")):
            acknowledged[parts[0]] = float(parts[1])
    store = SqliteStore(path)
    kept = {each.lease.id: each.quality for each in store.judged()}
    store.close()
    assert len(acknowledged) >= after, errors
    assert {lease: kept.get(lease) for lease in acknowledged} == acknowledged


def test_a_store_that_several_make_at_once_is_whole_for_each(tmp_path):
    """SQLite tells some that it is busy, and shows others a file that is half way to being a store."""
    refused = []
    for number in range(40):
        path, together = tmp_path / f"{number}.sqlite", threading.Barrier(4)

        def make(path=path, together=together):
            together.wait()
            made = open_database(path, refused.append)
            assert made is not None
            made.execute("INSERT INTO state VALUES (?, '')", (str(threading.get_ident()),))
            made.close()

        with ThreadPoolExecutor(4) as pool:
            for each in [pool.submit(make) for _ in range(4)]:
                each.result()
    assert refused == []


def test_two_processes_share_a_store_and_a_budget(tmp_path):
    path = tmp_path / "store.sqlite"
    body = f"""
        policy = Policy(budget=10.0, per="month")
        async with Session(make_router(policy=policy), store={str(path)!r}) as session:
            for at in range(100):
                lease = await session.acquire("?", prediction=ROWS[at % 64])
                await lease.release(cost=0.01, quality=1.0)
            await asyncio.sleep(0.3)
            print("done", flush=True)
            # Keeps asking until it has seen what the other one spent.
            for _ in range(600):
                (await session.acquire("?", prediction=ROWS[0])).release(cost=0.0)
                await asyncio.sleep(0.05)
                if session.stats().pace.spent > 1.999:
                    break
            print(round(session.stats().pace.spent, 6), session.stats().store_errors)
    """
    outs = [process.communicate(timeout=100) for process in [child(body), child(body)]]
    for out, err in outs:
        assert out.split() == ["done", "2.0", "0"], (out, err)
    store = SqliteStore(path)
    assert len(store.judged()) == 200
    store.close()
