"""The latency that the gateway adds: the same load straight to an endpoint and through the gateway.

Both servers run in processes of their own on this machine; the endpoint is the replay server, which
answers at once, so that what is measured is the way and not the model. The shipped bundle predicts every
query, each of about 50 tokens and none twice, encoder and search included; `--predictor given` leaves that
out. The two ways take turns, second by second, so that a slow moment falls on both.

    python -m benches.gateway --rate 200 --seconds 20
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tests.helpers.paths import ROOT
from tests.helpers.serving import MODELS, FixedPredictor, chat, pool_at

from eccos_rs.pools.pool import Endpoint, Pool
from eccos_rs.records.record import Output, Record
from eccos_rs.records.table import RecordTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BUNDLE_POOL = ROOT / "models" / "qaserve-pool.toml"
NUMBERS = itertools.count()


BUNDLE = "qaserve-minilm"
WORDS = ("a", "group", "of", "order", "twelve", "acts", "on", "the", "set", "which", "forces", "explain")


def served_table(names: Sequence[str]) -> RecordTable:
    """Return answers of 12 tokens, of every model to one query: others take the mean."""
    outputs = tuple(Output(name, 1.0, 12, 1e-6) for name in names)
    return RecordTable.from_records([Record("What is 2 + 2?", "sums", 8, outputs, "0")])


def serve_endpoint(port: int) -> None:
    from eccos_rs.serve.replay import ReplaySettings, build_replay_app
    from eccos_rs.serve.run import run

    settings = ReplaySettings(tokens_per_second=float("inf"), ttft=0.0, unknown="mean")
    names = [*MODELS, *Pool.load(BUNDLE_POOL).names]
    run(build_replay_app(served_table(names), settings), "127.0.0.1", port, quiet=True)


def serve_gateway(port: int, endpoint: str, predictor: str) -> None:
    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.router import Router
    from eccos_rs.serve.app import build_app
    from eccos_rs.serve.run import run

    if predictor == "given":
        router = Router(pool_at(endpoint, slots=512), FixedPredictor(), Policy(min_quality=0.6))
    else:
        pool = Pool.load(BUNDLE_POOL)
        for name in pool.names:
            pool = pool.replace(name, endpoint=Endpoint(f"{endpoint}/v1"), slots=512)
        router = Router.load(BUNDLE, pool=pool, policy=Policy(min_quality=0.7), threads=1)
    run(build_app(router), "127.0.0.1", port, quiet=True)


def cpu_seconds(pid: int | None) -> float:
    """Return what a process and its threads have worked, where the system tells it; NaN elsewhere."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def question(number: int) -> str:
    """Return a text of about 50 tokens that nobody has asked before."""
    draw = np.random.default_rng(number)
    return " ".join([f"Question {number}:", *draw.choice(WORDS, 45), "?"])


class Client:
    """HTTP over kept connections and nothing else: the load must not cost more than what it measures."""

    def __init__(self, url: str) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port = int(port)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, body: dict[str, object]) -> bytes:
        """Send one request and return the body of its answer."""
        raw = json.dumps(body).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._host}\r\ncontent-length: {len(raw)}\r\n\r\n"
        )
        while True:
            reused = bool(self._idle)
            pair = self._idle.pop() if reused else await asyncio.open_connection(self._host, self._port)
            reader, writer = pair
            try:
                writer.write(head.encode() + raw)
                answer = (await reader.readuntil(b"\r\n\r\n")).lower()
                break
            except (asyncio.IncompleteReadError, ConnectionResetError) as error:
                # The server closes connections that were idle for long; what comes then was never read.
                writer.close()
                if not reused or getattr(error, "partial", b""):
                    raise
        length = int(answer.split(b"content-length: ")[1].split(b"\r\n")[0])
        content = await reader.readexactly(length)
        self._idle.append(pair)
        if not answer.startswith(b"http/1.1 200"):
            raise RuntimeError(content.decode())
        return content

    def close(self) -> None:
        """Close the connections."""
        for _, writer in self._idle:
            writer.close()


async def load(client: Client, model: str, rate: float, seconds: float) -> list[float]:
    """Send requests at fixed moments, whether or not earlier ones have come back; returns their seconds."""
    took: list[float] = []

    async def ask(at: float, text: str) -> None:
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        start = time.perf_counter()
        answer = await client.ask(chat(text, model))
        took.append(time.perf_counter() - start)
        assert json.loads(answer)["choices"][0]["message"]["content"].startswith("unrecorded")

    begin = time.perf_counter() + 0.05
    count = int(rate * seconds)
    await asyncio.gather(*(ask(begin + i / rate, question(next(NUMBERS))) for i in range(count)))
    return took


async def compare(
    endpoint: str, gateway: str, rate: float, seconds: int, begun: Callable[[], None]
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"endpoint": [], "gateway": []}
    ways = (("endpoint", Client(endpoint), "small"), ("gateway", Client(gateway), "eccos"))
    for _, client, model in ways:
        for _ in range(300):
            try:
                await load(client, model, rate, 1.0)
                break
            except OSError:
                await asyncio.sleep(0.2)
    begun()
    for _ in range(seconds):
        for name, client, model in ways:
            times[name] += await load(client, model, rate, 1.0)
    for _, client, _ in ways:
        client.close()
    return times


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rate", type=float, default=200.0, help="requests per second")
    options.add_argument("--seconds", type=int, default=20, help="of each way")
    options.add_argument("--predictor", choices=("bundle", "given"), default="bundle")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    once = bool(os.environ.get("ECCOS_BENCH_ONCE"))
    ports = 18431, 18432
    endpoint, gateway = (f"http://127.0.0.1:{port}" for port in ports)
    spawn = multiprocessing.get_context("spawn")
    servers = [
        spawn.Process(target=serve_endpoint, args=(ports[0],), daemon=True),
        spawn.Process(target=serve_gateway, args=(ports[1], endpoint, given.predictor), daemon=True),
    ]
    for server in servers:
        server.start()
    try:
        worked: list[float] = []
        begun = partial(lambda pid: worked.append(cpu_seconds(pid)), servers[1].pid)
        times = asyncio.run(compare(endpoint, gateway, given.rate, 1 if once else given.seconds, begun))
        cpu = round(1000 * (cpu_seconds(servers[1].pid) - worked[0]) / len(times["gateway"]), 3)
    finally:
        for server in servers:
            server.terminate()
            server.join(10)
    figures = {
        name: {f"p{q}_ms": round(1000 * float(np.percentile(took, q)), 3) for q in (50, 90, 99)}
        for name, took in times.items()
    }
    figures["added"] = {
        key: round(figures["gateway"][key] - figures["endpoint"][key], 3) for key in figures["gateway"]
    }
    if given.json:
        print(
            json.dumps(
                {
                    "predictor": given.predictor,
                    "rate": given.rate,
                    "requests": len(times["gateway"]),
                    **figures,
                }
            )
        )
        return
    print(
        f"{given.rate:g} requests per second, {len(times['gateway'])} each way, on {os.cpu_count()} cores; "
        f"predictor: {BUNDLE if given.predictor == 'bundle' else 'none, predictions are given'}"
    )
    print(f"the gateway worked {cpu:.2f} ms of a core per request")
    for name, row in figures.items():
        print(f"{name:9}", "  ".join(f"{key} {value:8.3f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
