"""Ten thousand streams at once through the gateway, then churn: memory, slots, handles, threads.

The endpoint is the replay server; gateway, endpoint and load are processes of their own on this machine.
First all streams are begun (300 a second), each longer than that takes: what the slots do not hold
waits in the gateway. Then, for `--seconds`, clients come and go: some read to the end, some leave in the
middle or before the first byte, and the endpoint fails now and then. Afterwards nothing may be left: no
slot, no waiter, no handle, no thread.

    python -m benches.soak --streams 10000 --seconds 60
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.helpers.serving import TEXTS, FixedPredictor, chat, pool_at, recorded

from benches.settings import ONCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

IDLE = 0.0 if ONCE else 31.0
"""Seconds after which both servers have let go of idle connections."""

SLOW = 50.0 if ONCE else 0.3
"""Tokens a second: an answer of 12 or 24 tokens is still under way when the last one begins."""

Figures = dict[str, float]

A_SECOND = 300.0
"""Streams that begin in a second: the kernel refuses what a busy process is thousands behind in accepting."""


def serve_endpoint(port: int, speed: float) -> None:
    from eccos_rs.serve.replay import ReplaySettings, build_replay_app
    from eccos_rs.serve.run import run

    # A cut connection is an exception in the endpoint, which its server would log in full each time.
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process lives
    settings = ReplaySettings(tokens_per_second=speed, ttft=0.1, fault_rate=0.01, faults=("500", "drop"))
    run(build_replay_app(recorded(), settings), "127.0.0.1", port, quiet=True)


def serve_gateway(port: int, endpoint: str, slots: int) -> None:
    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.router import Router
    from eccos_rs.serve.app import GatewaySettings, build_app
    from eccos_rs.serve.run import run

    router = Router(pool_at(endpoint, slots=slots), FixedPredictor(), Policy(min_quality=0.6))
    run(build_app(router, GatewaySettings(wait=600.0, attempts=3)), "127.0.0.1", port, quiet=True)


class Process:
    """What the kernel says of a process."""

    def __init__(self, pid: int) -> None:
        self._place = Path(f"/proc/{pid}")

    @property
    def megabytes(self) -> float:
        """Resident memory."""
        pages = int((self._place / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def handles(self) -> int:
        """Open files and sockets."""
        return len(list((self._place / "fd").iterdir()))

    @property
    def threads(self) -> int:
        """Threads."""
        return len(list((self._place / "task").iterdir()))


async def ask(port: int, path: str, body: dict[str, object] | None, leave: float | None = None) -> bytes:
    """Send a request on a connection of its own; `leave` closes it after so many seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = b"" if body is None else json.dumps(body).encode()
    kind = "GET" if body is None else "POST"
    head = (
        f"{kind} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
    )
    writer.write(head.encode() + raw)
    try:
        async with asyncio.timeout(leave):
            return await reader.read(-1)
    except TimeoutError:
        return b""
    finally:
        writer.close()


async def stats(port: int) -> dict[str, int]:
    """Ask the gateway how many run and wait."""
    answer = await ask(port, "/v1/stats", None)
    found: dict[str, int] = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    return found


async def until_empty(port: int) -> None:
    """Wait until nothing runs and nobody waits, ten seconds at most."""
    end = time.monotonic() + 10
    while (now := await stats(port))["in_flight"] or now["waiting"]:
        assert time.monotonic() < end, f"{now['in_flight']} slots are taken and {now['waiting']} wait"
        await asyncio.sleep(0.1)


async def together(port: int, process: Process, streams: int, slots: int) -> Figures:
    """Begin all streams and read each to its end."""
    before, peak, most, waited = process.megabytes, 0.0, 0, 0
    done = asyncio.Event()
    begin = time.monotonic()

    async def one(at: int) -> bytes:
        await asyncio.sleep(begin + at / A_SECOND - time.monotonic())
        return await ask(port, "/v1/chat/completions", chat(TEXTS[at % 40], stream=True))

    async def watch() -> None:
        nonlocal peak, most, waited
        while not done.is_set():
            now = await stats(port)
            peak = max(peak, process.megabytes)
            most, waited = max(most, now["in_flight"]), max(waited, now["waiting"])
            await asyncio.sleep(0.5)

    watching = asyncio.create_task(watch())
    answers = await asyncio.gather(*(one(at) for at in range(streams)))
    took = time.monotonic() - begin
    done.set()
    await watching
    whole = sum(b"data: [DONE]" in answer for answer in answers)
    # The endpoint cuts some off in the middle, as it was told; the client hears of it.
    broken = sum(b"upstream_broke" in answer for answer in answers)
    assert whole + broken == streams, f"{streams - whole - broken} streams ended without a word"
    assert broken <= 2 + 0.02 * streams
    assert most <= 2 * slots
    return {
        "streams": streams,
        "read to the end": whole,
        "cut off by the endpoint, and told so": broken,
        "most in flight": most,
        "most waiting": waited,
        "seconds": round(took, 1),
        "gateway MB before": round(before, 1),
        "gateway MB at its peak": round(peak, 1),
        "kB a stream": round(1024 * (peak - before) / streams, 1),
    }


async def churn(port: int, seconds: float) -> Figures:
    """Come and go for so many seconds."""
    draw = random.Random(0)
    came = left = 0
    end = time.monotonic() + seconds

    async def client() -> None:
        nonlocal came, left
        while time.monotonic() < end:
            leave = draw.uniform(0.0, 1.0) if draw.random() < 0.5 else None
            body = chat(draw.choice(TEXTS), stream=draw.random() < 0.8)
            came += 1
            left += leave is not None
            await ask(port, "/v1/chat/completions", body, leave)

    await asyncio.gather(*(client() for _ in range(100)))
    return {"came": came, "meant to leave early": left}


async def ready(port: int) -> None:
    """Wait until the gateway answers."""
    for _ in range(200):
        try:
            await ask(port, "/v1/chat/completions", chat(TEXTS[0]))
            return
        except OSError:
            await asyncio.sleep(0.1)
    raise RuntimeError("the gateway does not answer")


def served(work: Callable[[int, Process], Awaitable[Figures]], *, speed: float, slots: int) -> Figures:
    """Do the work in front of a gateway and an endpoint that live as long as it takes."""
    spawn = multiprocessing.get_context("spawn")
    ports = 18441, 18442
    endpoint = spawn.Process(target=serve_endpoint, args=(ports[0], speed), daemon=True)
    address = f"http://127.0.0.1:{ports[0]}"
    gateway = spawn.Process(target=serve_gateway, args=(ports[1], address, slots), daemon=True)
    for server in (endpoint, gateway):
        server.start()

    async def story() -> Figures:
        await ready(ports[1])
        await asyncio.sleep(IDLE)
        process = Process(gateway.pid or 0)
        before = process.handles, process.threads
        figures = await work(ports[1], process)
        await until_empty(ports[1])
        await asyncio.sleep(IDLE)
        after = process.handles, process.threads
        # Run once, in a hurry, idle connections are still open.
        assert ONCE or after[0] <= before[0], f"{after[0]} handles, {before[0]} before"
        assert after[1] <= before[1], f"{after[1]} threads, {before[1]} before"
        left = {"handles before": before[0], "handles after": after[0], "threads after": after[1]}
        return {**figures, **left, "gateway MB after": round(process.megabytes, 1)}

    try:
        return asyncio.run(story())
    finally:
        for server in (endpoint, gateway):
            server.terminate()
            server.join(10)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--streams", type=int, default=10_000)
    options.add_argument("--slots", type=int, default=2_500, help="of each of the two models")
    options.add_argument("--seconds", type=float, default=60.0, help="of churn")
    given = options.parse_args()
    need = 2 * given.streams + 2_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, need), hard), hard))
    first = served(
        lambda port, process: together(port, process, given.streams, given.slots),
        speed=SLOW, slots=given.slots,
    )  # fmt: skip
    print("together", json.dumps(first, indent=2))
    print(
        "churn",
        json.dumps(served(lambda port, _: churn(port, given.seconds), speed=20.0, slots=30), indent=2),
    )


if __name__ == "__main__":
    main()
