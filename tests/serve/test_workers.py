"""`eccos serve --workers`: several processes behind one address share limits; one that dies is replaced."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from eccos_rs.errors import EccosError
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from eccos_rs.serve.app import GatewaySettings
from eccos_rs.serve.replay import ReplaySettings, build_replay_app
from eccos_rs.serve.workers import run_workers
from tests.helpers.paths import ROOT
from tests.helpers.serving import TEXTS, FixedPredictor, chat, pool_at, recorded, running

SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from functools import partial
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from eccos_rs.serve.app import GatewaySettings
from eccos_rs.serve.workers import load_app, run_workers, shared_between
from tests.helpers.serving import FixedPredictor, pool_at

def load():
    return Router(pool_at({address!r}, slots=2), FixedPredictor(), Policy(min_quality=0.6))

if __name__ == "__main__":
    with shared_between(3, None) as store:
        make = partial(load_app, load, GatewaySettings(store=store, wait=30.0))
        run_workers(make, "127.0.0.1", {port}, workers=3, grace=5.0)
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def ask(port, path, body=None):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        None if body is None else json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def until_ready(port, process):
    end = time.monotonic() + 60
    while True:
        try:
            return ask(port, "/readyz")
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.1)


async def test_workers_share_slots_and_are_replaced(tmp_path):
    settings = ReplaySettings(tokens_per_second=200.0, ttft=0.05)
    with running(build_replay_app(recorded(), settings)) as address:
        port, script = free_port(), tmp_path / "serving.py"
        script.write_text(SCRIPT.format(root=str(ROOT), address=address, port=port))
        process = subprocess.Popen(
            [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            await asyncio.to_thread(until_ready, port, process)
            asked = [
                asyncio.create_task(asyncio.to_thread(ask, port, "/v1/chat/completions", chat(TEXTS[at])))
                for at in range(24)
            ]
            most = 0
            while not all(each.done() for each in asked):
                found = await asyncio.to_thread(ask, port, "/v1/stats")
                most = max(most, *(model["in_flight"] for model in found["models"]))
                await asyncio.sleep(0.02)
            assert all("choices" in each.result() for each in asked)
            assert 1 <= most <= 2
            children = subprocess.run(
                ["pgrep", "-P", str(process.pid), "-f", "spawn_main"],
                capture_output=True, text=True, check=True,
            ).stdout.split()  # fmt: skip
            assert len(children) == 3
            os.kill(int(children[0]), signal.SIGKILL)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(until_ready, port, process)
            answer = await asyncio.to_thread(ask, port, "/v1/chat/completions", chat(TEXTS[0]))
            assert "choices" in answer
        finally:
            process.terminate()
            said, _ = await asyncio.to_thread(process.communicate, None, 40)
        assert process.returncode == 0, said
        assert re.search(r"worker \d+ has ended .* is started again", said)


def test_an_address_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EccosError, match=str(port)):
            run_workers(lambda: None, "127.0.0.1", port, workers=2, quiet=True)


def test_a_store_that_is_not_there_is_said_at_the_start():
    from eccos_rs.errors import StoreError
    from eccos_rs.serve.app import build_app

    router = Router(pool_at("http://127.0.0.1:1"), FixedPredictor(), Policy(min_quality=0.6))
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1"):
        build_app(router, GatewaySettings(store="redis://127.0.0.1:1/0"))
