"""The latency that the gateway adds: the same load straight to an endpoint and through the gateway.

Both servers run in processes of their own on this machine; the endpoint is the replay server, which
answers at once, so that what is measured is the way and not the model. Predictions are given: the encoder
has its own bench. The two ways take turns, second by second, so that a slow moment falls on both.

    python benches/gateway.py --rate 200 --seconds 20
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.helpers.serving import TEXTS, FixedPredictor, chat, pool_at, recorded


def serve_endpoint(port: int) -> None:
    from eccos_rs.serve.replay import ReplaySettings, build_replay_app
    from eccos_rs.serve.run import run

    settings = ReplaySettings(tokens_per_second=float("inf"), ttft=0.0)
    run(build_replay_app(recorded(), settings), "127.0.0.1", port, quiet=True)


def serve_gateway(port: int, endpoint: str) -> None:
    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.router import Router
    from eccos_rs.serve.app import build_app
    from eccos_rs.serve.run import run

    router = Router(pool_at(endpoint, slots=512), FixedPredictor(), Policy(min_quality=0.6))
    run(build_app(router), "127.0.0.1", port, quiet=True)


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
        assert json.loads(answer)["choices"][0]["message"]["content"].split()[0] in ("right", "wrong")

    begin = time.perf_counter() + 0.05
    count = int(rate * seconds)
    await asyncio.gather(*(ask(begin + i / rate, TEXTS[i % len(TEXTS)]) for i in range(count)))
    return took


async def compare(endpoint: str, gateway: str, rate: float, seconds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"endpoint": [], "gateway": []}
    ways = (("endpoint", Client(endpoint), "small"), ("gateway", Client(gateway), "eccos"))
    for _, client, model in ways:
        for _ in range(100):
            try:
                await load(client, model, rate, 1.0)
                break
            except OSError:
                await asyncio.sleep(0.1)
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
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    once = bool(os.environ.get("ECCOS_BENCH_ONCE"))
    ports = 18431, 18432
    endpoint, gateway = (f"http://127.0.0.1:{port}" for port in ports)
    spawn = multiprocessing.get_context("spawn")
    servers = [
        spawn.Process(target=serve_endpoint, args=(ports[0],), daemon=True),
        spawn.Process(target=serve_gateway, args=(ports[1], endpoint), daemon=True),
    ]
    for server in servers:
        server.start()
    try:
        times = asyncio.run(compare(endpoint, gateway, given.rate, 1 if once else given.seconds))
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
        print(json.dumps({"rate": given.rate, "requests": len(times["gateway"]), **figures}))
        return
    print(f"{given.rate:g} requests per second, {len(times['gateway'])} each way, on {os.cpu_count()} cores")
    for name, row in figures.items():
        print(f"{name:9}", "  ".join(f"{key} {value:8.3f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
