"""Limits and budgets over several processes: latency, throughput, pace, loss of the server or of a replica.

A redis-server is started on loopback (it must be installed), and everything runs on this machine. Predictions
are given, so what is timed is the decision and what sharing adds to it.

    python -m benches.replicas                    # all of it
    python -m benches.replicas latency decisions  # some of it
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.helpers.redis import RedisServer
from tests.helpers.sessions import ByNumber, make_pool, make_router, population, rows_of

from benches.settings import ONCE
from eccos_rs.domain.query import Query
from eccos_rs.errors import EccosError
from eccos_rs.pools.pool import LLM, Pool
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from eccos_rs.session import Session
from eccos_rs.session.control.pacing import budget_period

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

SECONDS = 2.0 if ONCE else 20.0
QUERY = Query("What is the capital of France?")


def wide_pool(**limits: Any) -> Pool:
    """Ten models, each with slots and limits per minute."""
    return Pool([LLM(f"m{at}", 0.1 * (at + 1), 0.4 * (at + 1), **limits) for at in range(10)])


def wide_rows(n: int = 512) -> list[Any]:
    narrow = population(n)
    rng = np.random.default_rng(1)
    fields = {
        name: np.repeat(getattr(narrow, name), 4, axis=1)[:, :10] for name in
        ("quality", "output_tokens", "quality_std", "log_tokens_std")
    }  # fmt: skip
    fields["quality"] = np.clip(fields["quality"] + rng.normal(0, 0.05, (n, 10)), 0, 1).astype(np.float32)
    wide = type(narrow)(
        models=tuple(f"m{at}" for at in range(10)), input_tokens=narrow.input_tokens, embedding=None, **fields
    )
    return rows_of(wide)


def wide_session(store: str | None, **limits: Any) -> Session:
    known = population(8)
    predictor = ByNumber(known)
    predictor.models = tuple(f"m{at}" for at in range(10))
    return Session(Router(wide_pool(**limits), predictor, Policy(min_quality=0.6)), store=store)


LIMITS = {"slots": 100_000, "requests_per_minute": 10_000_000, "tokens_per_minute": 10_000_000_000}


async def latencies(store: str | None, queries: int, every: float) -> np.ndarray:
    """Return seconds from asking to the lease, one query after the other at an even pace."""
    rows, took = wide_rows(), []
    async with wide_session(store, **LIMITS) as session:
        for at in range(queries):
            began = time.perf_counter()
            lease = await session.acquire(QUERY, prediction=rows[at % len(rows)])
            took.append(time.perf_counter() - began)
            lease.release(output_tokens=100)
            await asyncio.sleep(every)
    return np.array(took[queries // 10 :])


def latency(server: RedisServer, folder: Path) -> dict[str, float]:
    """Measure what sharing adds to a decision, at 200 queries per second."""
    queries = 50 if ONCE else 3000
    found = {}
    for name, store in (
        ("alone", None),
        ("Redis", f"{server.url}?namespace=latency&durable=no"),
        ("SQLite", str(folder / "l")),
    ):  # fmt: skip
        took = asyncio.run(latencies(store, queries, 0.004)) * 1e3
        found[f"{name}, p50 in ms"] = float(np.quantile(took, 0.5))
        found[f"{name}, p99 in ms"] = float(np.quantile(took, 0.99))
    for share in ("Redis", "SQLite"):
        for quantile in ("p50", "p99"):
            key = f"{quantile} in ms"
            found[f"added by {share}, {key}"] = found[f"{share}, {key}"] - found[f"alone, {key}"]
    return found


async def _decide(store: str, seconds: float, clients: int) -> int:
    rows, count = wide_rows(), 0
    async with wide_session(store, **LIMITS) as session:
        await (await _first(session, rows)).release(output_tokens=1)
        end = time.monotonic() + seconds

        async def client(at: int) -> None:
            nonlocal count
            while time.monotonic() < end:
                lease = await session.acquire(QUERY, prediction=rows[at % len(rows)])
                lease.release(output_tokens=100)
                count += 1
                at += 1

        await asyncio.gather(*(client(at) for at in range(clients)))
    return count


async def _first(session: Session, rows: list[Any]) -> Any:
    return await session.acquire(QUERY, prediction=rows[0])


def _run(work: Callable[..., Coroutine[Any, Any, Any]], arguments: tuple[Any, ...], answers: Any) -> None:
    answers.put(asyncio.run(work(*arguments)))


def team(processes: int, work: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> list[Any]:
    """Run a coroutine in several processes at once; return their answers."""
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    each = [context.Process(target=_run, args=(work, arguments, answers)) for _ in range(processes)]
    for process in each:
        process.start()
    found = [answers.get() for _ in each]
    for process in each:
        process.join()
    return found


def decisions(server: RedisServer, folder: Path) -> dict[str, float]:
    """Count decisions per second through shared limits."""
    found = {}
    for name, store in (
        ("Redis", f"{server.url}?namespace=decisions&durable=no"), ("SQLite", str(folder / "d")),
    ):  # fmt: skip
        for processes in (1,) if ONCE else (1, 4):
            counts = team(processes, _decide, store, SECONDS / 2, 256)
            found[f"{name}, {processes} processes, decisions per second"] = sum(counts) / (SECONDS / 2)
    return found


async def _spend(store: str, budget: float, seconds: float, every: float, begin: float) -> list[float]:
    rows, at = rows_of(population(512)), random.Random(os.getpid()).randrange(512)
    rng = random.Random(os.getpid())
    policy = Policy(budget=budget, per="month")
    # All open at once: an even pace begins with the first session.
    await asyncio.sleep(max(begin - time.time(), 0.0))
    async with Session(make_router(policy=policy), store=store) as session:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            lease = await session.acquire(QUERY, prediction=rows[at % 512])
            lease.release(output_tokens=lease.output_tokens * rng.uniform(0.5, 1.5))
            at += 1
            await asyncio.sleep(rng.expovariate(1.0 / every))
        await asyncio.sleep(0.5)
        pace = session.stats().pace
        return [pace.spent, pace.on_pace]


def pace(server: RedisServer, folder: Path) -> dict[str, float]:
    """Compare the spend of several processes on one budget with an even pace."""
    found = {}
    seconds, every = (4.0, 0.02) if ONCE else (60.0, 0.1)
    mean = float(make_router().costs(population(512)).mean())
    for processes in (2,) if ONCE else (1, 2, 4, 8):
        store = f"{server.url}?namespace=pace{processes}&durable=no"
        # As much as makes a query cost 0.7 of the mean over models; a month's end is far away.
        left = budget_period("month", time.time())[1] - time.time()
        budget = 0.7 * mean * processes / (every + 0.002) * left
        answers = team(processes, _spend, store, budget, seconds, every, time.time() + 5 + 3 * processes)
        spent, on_pace = max(answers)
        found[f"{processes} processes, ahead of the pace in %"] = 100 * (spent / on_pace - 1)
    return found


PROVIDER_SLOTS = 40


async def _serve(
    store: str, seconds: float, clients: int, counts: tuple[Any, Any], begin: float
) -> list[Any]:
    """Ask from many clients; count at the "provider" what runs there over all processes."""
    running, most = counts
    rows = rows_of(population(512))
    pool = make_pool(mid={"slots": PROVIDER_SLOTS})
    await asyncio.sleep(max(begin - time.time(), 0.0))
    policy = Policy(min_quality=0.6, wait=0.5, overload="raise")
    served, lost, acknowledged = 0, 0, []
    async with Session(make_router(pool, policy), store=store) as session:
        end = time.monotonic() + seconds

        async def client(at: int) -> None:
            nonlocal served, lost
            while time.monotonic() < end:
                try:
                    lease = await session.acquire(Query("?", models=("mid",)), prediction=rows[at % 512])
                except EccosError:
                    await asyncio.sleep(0.02)
                    continue
                with running.get_lock():
                    running.value += 1
                    most.value = max(most.value, running.value)
                await asyncio.sleep(random.uniform(0.01, 0.1))
                with running.get_lock():
                    running.value -= 1
                served += 1
                try:
                    await lease.release(output_tokens=10, quality=1.0)
                    acknowledged.append(lease.id)
                except EccosError:
                    lost += 1

        await asyncio.gather(*(client(at) for at in range(clients)))
    return [served, lost, acknowledged]


def _run_provider(arguments: tuple[Any, ...], answers: Any) -> None:
    answers.put(asyncio.run(_serve(*arguments)))


def restart(server: RedisServer, folder: Path) -> dict[str, float]:
    """Kill the server under load and start it again: limits exceeded, acknowledged feedback lost."""
    context = multiprocessing.get_context("spawn")
    running, most, answers = context.Value("i", 0), context.Value("i", 0), context.Queue()
    store = f"{server.url}?namespace=restart"
    seconds = 6.0 if ONCE else 40.0
    begin = time.time() + (5.0 if ONCE else 25.0)  # when all processes are there
    each = [
        context.Process(target=_run_provider, args=((store, seconds, 75, (running, most), begin), answers))
        for _ in range(2 if ONCE else 4)
    ]
    for process in each:
        process.start()
    time.sleep(max(begin - time.time(), 0.0) + 2.0)
    for _ in range(1 if ONCE else 3):
        time.sleep(seconds / 6)
        server.stop(signal.SIGKILL)
        time.sleep(seconds / 20)
        server.start()
    found = [answers.get() for _ in each]
    for process in each:
        process.join()
    kept = {judged.lease.id for judged in _all_judged(store)}
    acknowledged = {lease for _, _, leases in found for lease in leases}
    return {
        "slots at the provider": PROVIDER_SLOTS,
        "most that ran there": most.value,
        "answers served": sum(each[0] for each in found),
        "feedback refused while the server was away": sum(each[1] for each in found),
        "feedback acknowledged": len(acknowledged),
        "acknowledged feedback lost": len(acknowledged - kept),
    }


def _all_judged(store: str) -> list[Any]:
    from eccos_rs.session import open_store

    opened = open_store(store)
    try:
        return opened.judged()
    finally:
        opened.close()


async def _hold(store: str, ready: Any) -> None:
    session = Session(make_router(make_pool(mid={"slots": 4}), Policy(min_quality=0.6)), store=store)
    held = [
        await session.acquire(Query("?", models=("mid",)), prediction=rows_of(population(8))[0])
        for _ in range(4)
    ]
    ready.set()
    await asyncio.sleep(600)
    del held


def _run_hold(store: str, ready: Any) -> None:
    asyncio.run(_hold(store, ready))


async def _wait_for_slot(store: str) -> float:
    row = rows_of(population(8))[0]
    async with Session(
        make_router(make_pool(mid={"slots": 4}), Policy(min_quality=0.6)), store=store
    ) as session:
        began = time.monotonic()
        (await session.acquire(Query("?", models=("mid",)), prediction=row)).release()
        return time.monotonic() - began


def killed(server: RedisServer, folder: Path) -> dict[str, float]:
    """Kill a replica that holds every slot; measure how long they are taken."""
    context = multiprocessing.get_context("spawn")
    took = []
    for turn in range(1 if ONCE else 5):
        store, ready = f"{server.url}?namespace=killed{turn}&durable=no", context.Event()
        process = context.Process(target=_run_hold, args=(store, ready))
        process.start()
        ready.wait()
        os.kill(process.pid or 0, signal.SIGKILL)
        took.append(asyncio.run(_wait_for_slot(store)))
        process.join()
    return {"seconds until the slots are free, at most": max(took)}


PARTS: dict[str, Callable[[RedisServer, Path], dict[str, float]]] = {
    "latency": latency, "decisions": decisions, "pace": pace, "restart": restart, "killed": killed,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="all, unless some are named")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory(prefix="eccos-") as folder:
        (Path(folder) / "redis").mkdir()
        server = RedisServer(Path(folder) / "redis")
        try:
            for name in arguments.part or PARTS:
                found[name] = PARTS[name](server, Path(folder))
                if not arguments.json:
                    print(f"\n{name}: {(PARTS[name].__doc__ or '').splitlines()[0]}")
                    for key, value in found[name].items():
                        print(f"  {key:60} {value:12.4g}")
        finally:
            server.stop()
    if arguments.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
