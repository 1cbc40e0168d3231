"""A session that is killed with answers running: what it had reserved is booked when the next one starts."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from eccos_rs.routing.policy import Policy
from eccos_rs.session import Session
from tests.helpers.paths import ROOT
from tests.helpers.sessions import make_router

KILLED = """
import asyncio, os, signal, sys
sys.path.insert(0, sys.argv[1])
from eccos_rs.routing.policy import Policy
from eccos_rs.session import Session
from tests.helpers.sessions import make_router

async def main():
    session = Session(make_router(), policy=Policy(budget=1.0, per="day"), store=sys.argv[2])
    leases = [await session.acquire(str(row)) for row in range(8)]
    leases.pop().release(output_tokens=100, cost=0.001)
    await asyncio.sleep(1.0)
    print(sum(lease.cost for lease in leases) + 0.001, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_what_was_reserved_is_booked_on_restart(tmp_path):
    store = tmp_path / "eccos.db"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, ROOT, store], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr

    async def spent():
        async with Session(make_router(), policy=Policy(budget=1.0, per="day"), store=store) as session:
            return session.stats().pace.spent

    assert asyncio.run(spent()) == pytest.approx(float(done.stdout))


def test_what_was_settled_is_booked_once(tmp_path):
    async def spend():
        policy = Policy(budget=1.0, per="day")
        async with Session(make_router(), policy=policy, store=tmp_path / "eccos.db") as session:
            lease = await session.acquire("1")
            await asyncio.sleep(0.5)
            lease.release(output_tokens=100, cost=0.25)
        async with Session(make_router(), policy=policy, store=tmp_path / "eccos.db") as session:
            return session.stats().pace.spent

    assert asyncio.run(spend()) == pytest.approx(0.25)
