"""What goes wrong upstream and at the client, and what the gateway makes of it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from eccos_rs.pools.pool import LLM, Endpoint, Pool
from eccos_rs.serve.replay import ReplaySettings, build_replay_app
from tests.helpers.paths import ROOT
from tests.helpers.serving import TEXTS, chat, pool_at, recorded, running
from tests.serve.test_gateway import FAST, eventually, gateway, in_flight

SLOW = ReplaySettings(tokens_per_second=20.0, ttft=0.0)


def pool_of(small, large):
    """The small model at one address, the large one at another."""
    return Pool(
        [
            LLM("small", 0.1, 0.1, endpoint=Endpoint(f"{small}/v1", timeout=20.0)),
            LLM("large", 5.0, 15.0, endpoint=Endpoint(f"{large}/v1", timeout=20.0)),
        ]
    )


def free_address():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def sound():
    with running(build_replay_app(recorded(), FAST)) as url:
        yield url


def faulty(kind, **settings):
    content = {"tokens_per_second": float("inf"), "ttft": 0.0, "fault_rate": 1.0, "faults": (kind,)}
    return build_replay_app(recorded(60), ReplaySettings(**{**content, **settings}))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "reason"), [("500", "status_5xx"), ("429", "status_429"), ("stall", "timeout")]
)
def test_a_failing_endpoint_falls_over_before_the_first_byte(sound, kind, reason, stream):
    with (
        running(faulty(kind), log_level="critical") as broken,
        gateway(pool_of(broken, sound), first_byte_timeout=0.5) as url,
    ):
        got = httpx.post(f"{url}/v1/chat/completions", json=chat(TEXTS[0], stream=stream), timeout=20)
        assert got.status_code == 200
        assert got.headers["x-eccos-model"] == "large"
        assert "right" in got.text
        assert (
            f'eccos_fallbacks_total{{model="small",reason="{reason}"}} 1.0'
            in httpx.get(f"{url}/metrics").text
        )
        assert in_flight(url) == 0


def test_nothing_left_to_ask_is_502_and_says_so():
    dead = free_address()
    with gateway(pool_of(dead, dead)) as url:
        got = httpx.post(f"{url}/v1/chat/completions", json=chat(TEXTS[0]))
        assert got.status_code == 502
        assert "cannot be reached" in got.json()["error"]["message"]
        assert in_flight(url) == 0


def test_an_unknown_query_of_a_replay_is_the_endpoints_failure(sound):
    with gateway(pool_at(sound)) as url:
        got = httpx.post(f"{url}/v1/chat/completions", json=chat("not recorded"))
    assert got.status_code == 502
    assert "404" in got.json()["error"]["message"]


def test_a_dead_endpoint_leaves_the_pool_until_it_answers_again(sound):
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with gateway(pool_of(f"http://127.0.0.1:{port}", sound)) as url:
        path = f"{url}/v1/chat/completions"
        for text in TEXTS[:4]:
            assert httpx.post(path, json=chat(text)).headers["x-eccos-model"] == "large"
        assert httpx.get(f"{url}/readyz").json()["models"] == ["large"]
        metrics = httpx.get(f"{url}/metrics").text
        # Three failures, then it is asked no more.
        assert 'eccos_fallbacks_total{model="small",reason="connect"} 3.0' in metrics
        assert 'eccos_breaker_trips_total{model="small"} 1.0' in metrics
        back = build_replay_app(recorded(), FAST)
        import uvicorn

        server = uvicorn.Server(uvicorn.Config(back, port=port, log_level="error", ws="none"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            eventually(lambda: httpx.get(f"{url}/readyz").json()["models"] == ["small", "large"])
            assert httpx.post(path, json=chat(TEXTS[0])).headers["x-eccos-model"] == "small"
        finally:
            server.should_exit = True
            thread.join(10)


def test_an_endpoint_that_dies_in_mid_stream_is_an_error_event(sound):
    app = faulty("drop", tokens_per_second=400.0)
    with running(app, log_level="critical") as broken, gateway(pool_of(broken, sound)) as url:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=chat(TEXTS[0], stream=True)) as got:
            events = [line[6:] for line in got.iter_lines() if line.startswith("data: ")]
        assert got.headers["x-eccos-model"] == "small"
        assert json.loads(events[-1])["error"]["code"] == "upstream_broke"
        assert "[DONE]" not in events
        assert in_flight(url) == 0
        metrics = httpx.get(f"{url}/metrics").text
        assert 'eccos_broken_streams_total{model="small",side="endpoint"} 1.0' in metrics
        assert "eccos_fallbacks_total{" not in metrics


def test_half_an_answer_is_502(sound):
    with (
        running(faulty("drop", tokens_per_second=400.0), log_level="critical") as broken,
        gateway(pool_of(broken, broken), attempts=1) as url,
    ):
        got = httpx.post(f"{url}/v1/chat/completions", json=chat(TEXTS[0]), timeout=20)
        assert got.status_code in (500, 502)
        assert in_flight(url) == 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot_and_the_upstream(stream):
    with running(build_replay_app(recorded(400), SLOW)) as engine, gateway(pool_at(engine, slots=1)) as url:

        def running_upstream():
            return sum(httpx.get(f"{engine}/healthz").json()["running"].values())

        body = chat(TEXTS[0], "small", stream=stream)
        with httpx.Client(timeout=httpx.Timeout(5.0)) as leaver:
            request = leaver.build_request("POST", f"{url}/v1/chat/completions", json=body)
            if stream:
                got = leaver.send(request, stream=True)
                next(got.iter_bytes())
                got.close()
            else:
                with pytest.raises(httpx.ReadTimeout):
                    httpx.post(f"{url}/v1/chat/completions", json=body, timeout=0.5)
        left = time.monotonic()
        eventually(lambda: in_flight(url) == 0 and running_upstream() == 0, seconds=5)
        assert time.monotonic() - left < 1.0 + 0.5  # what the asking itself may take
        side = httpx.get(f"{url}/metrics").text
        if stream:
            assert 'eccos_broken_streams_total{model="small",side="client"} 1.0' in side


def test_when_all_is_taken_one_waits_and_then_hears_when_to_come_back():
    engine_app = build_replay_app(recorded(30), SLOW)
    with running(engine_app) as engine, gateway(pool_at(engine, slots=1), wait=0.3) as url:
        path = f"{url}/v1/chat/completions"
        with httpx.Client() as http, http.stream("POST", path, json=chat(TEXTS[0], "small", stream=True)):
            eventually(lambda: in_flight(url) == 1)
            start = time.monotonic()
            got = httpx.post(path, json=chat(TEXTS[1], "small"))
            assert got.status_code == 429
            assert int(got.headers["retry-after"]) >= 1
            assert time.monotonic() - start >= 0.3
            other = httpx.post(path, json=chat(TEXTS[1]), timeout=20)
            assert other.headers["x-eccos-model"] == "large"


def load(url):
    seen = httpx.get(f"{url}/v1/stats").json()
    return seen["in_flight"], seen["waiting"]


PROCESS = """
import sys
sys.path.insert(0, {root!r})
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from eccos_rs.serve.app import build_app
from eccos_rs.serve.run import run
from tests.helpers.serving import FixedPredictor, pool_at
router = Router(pool_at({engine!r}, slots={slots}), FixedPredictor(), Policy(min_quality=0.6))
run(build_app(router), "127.0.0.1", {port}, quiet=True)
"""


@pytest.mark.parametrize("slots", [None, 3])
def test_sigterm_under_load_loses_no_accepted_request(slots):
    """Neither one that is answered nor one that waits for a model."""
    port = int(free_address().rsplit(":", 1)[1])
    with running(build_replay_app(recorded(30), SLOW)) as engine:
        code = PROCESS.format(root=str(ROOT), engine=engine, port=port, slots=slots)
        process = subprocess.Popen([sys.executable, "-c", code])
        try:
            url = f"http://127.0.0.1:{port}"

            def ready():
                try:
                    return httpx.get(f"{url}/readyz").status_code == 200
                except httpx.ConnectError:
                    return False

            eventually(ready, seconds=20)
            answers = []

            def ask(text):
                with httpx.stream(
                    "POST", f"{url}/v1/chat/completions", json=chat(text, stream=True), timeout=30
                ) as got:
                    answers.append(got.read().decode())

            threads = [threading.Thread(target=ask, args=(text,)) for text in TEXTS[:12]]
            for thread in threads:
                thread.start()
            eventually(lambda: load(url) == ((12, 0) if slots is None else (2 * slots, 12 - 2 * slots)))
            process.send_signal(signal.SIGTERM)
            for thread in threads:
                thread.join(30)
            assert process.wait(30) in (0, -signal.SIGTERM)
            assert len(answers) == 12
            assert all(answer.rstrip().endswith("data: [DONE]") for answer in answers)
        finally:
            process.kill()
            process.wait()
