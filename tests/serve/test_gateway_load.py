"""The gateway with many streams, slow readers, endless heads, and a store that fails."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from eccos_rs.routing.policy import Policy
from eccos_rs.serve.protocol import MAX_HEADERS
from eccos_rs.serve.replay import ReplaySettings, build_replay_app
from tests.helpers.serving import TEXTS, chat, pool_at, recorded, running
from tests.serve.test_gateway import FAST, eventually, gateway, in_flight


@pytest.fixture(scope="module")
def upstream():
    with running(build_replay_app(recorded(), FAST)) as url:
        yield url


def stats(url):
    return httpx.get(f"{url}/v1/stats").json()


def ask(url, text=TEXTS[0], **fields):
    return httpx.post(f"{url}/v1/chat/completions", json=chat(text, **fields), timeout=30)


def test_three_hundred_streams_are_served_or_wait_and_nothing_is_left():
    engine_app = build_replay_app(recorded(), ReplaySettings(tokens_per_second=100.0, ttft=0.05))
    most = {"running": 0, "waiting": 0}

    async def streams(url, count):
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:

            async def one(at):
                got = await client.post(f"{url}/v1/chat/completions", json=chat(TEXTS[at % 40], stream=True))
                return got.text

            async def watch():
                while True:
                    seen = (await client.get(f"{url}/v1/stats")).json()
                    most["waiting"] = max(most["waiting"], seen["waiting"])
                    most["running"] = max(most["running"], sum(engine_app.state.replay.running.values()))
                    await asyncio.sleep(0.02)

            watching = asyncio.create_task(watch())
            texts = await asyncio.gather(*(one(at) for at in range(count)))
            watching.cancel()
            return texts

    with running(engine_app) as engine, gateway(pool_at(engine, slots=20)) as url:
        handles = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else None
        texts = asyncio.run(streams(url, 300))
        assert all(text.rstrip().endswith("data: [DONE]") for text in texts)
        eventually(lambda: in_flight(url) == 0)
        assert stats(url)["waiting"] == 0
        if handles is not None:
            # Idle connections to the endpoint stay, no more than there were slots, each with two ends here.
            eventually(lambda: len(os.listdir("/proc/self/fd")) <= handles + 2 * 40 + 10)
    assert 1 < most["running"] <= 40
    assert most["waiting"] > 100


def test_an_answer_is_fetched_no_faster_than_it_is_read():
    sent, over = 0, False

    async def endless(scope, receive, send):
        nonlocal sent
        piece = b"data: " + b"x" * 65_000 + b"\n\n"
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        while not over:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            sent += len(piece)
            await asyncio.sleep(0)

    def grown(seconds):
        before = sent
        time.sleep(seconds)
        return sent - before

    with running(endless, lifespan="off") as engine, gateway(pool_at(engine)) as url:
        host, port = url.removeprefix("http://").split(":")
        raw = json.dumps(chat("x", stream=True)).encode()
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n")
            client.sendall(b"content-length: %d\r\n\r\n%s" % (len(raw), raw))
            # The kernel's buffers fill, then everything stands still.
            eventually(lambda: sent > 0 and grown(0.3) == 0)
            assert sent < 64 * 2**20
            client.settimeout(5)
            got, wanted = 0, 2 * sent
            while got < wanted:
                got += len(client.recv(2**20))
        over = True
        eventually(lambda: in_flight(url) == 0)


def test_fifty_megabytes_are_refused(upstream):
    with gateway(pool_at(upstream)) as url:
        try:
            got = httpx.post(f"{url}/v1/chat/completions", content=b"x" * 50_000_000)
            assert got.status_code == 413
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            pass  # the server closes while the rest is on its way, and the answer may be lost with it
        assert ask(url).status_code == 200


def test_a_client_that_leaves_while_it_sends_is_no_failure(upstream, capsys):
    with gateway(pool_at(upstream)) as url:
        host, port = url.removeprefix("http://").split(":")
        for _ in range(3):
            with socket.create_connection((host, int(port))) as line:
                line.sendall(
                    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n{"
                )
        assert ask(url).status_code == 200
        assert in_flight(url) == 0
    assert "Traceback" not in capsys.readouterr().err


def talk(url, pieces):
    """Send pieces over one connection until it is closed or they end; return what came back."""
    host, port = url.removeprefix("http://").split(":")
    got = b""
    with socket.create_connection((host, int(port))) as line:
        line.settimeout(5)
        try:
            for piece in pieces:
                line.sendall(piece)
                time.sleep(0.001)
            while more := line.recv(65_536):
                got += more
        except ConnectionError:
            pass
    return got


def test_a_head_without_an_end_is_refused(upstream):
    with gateway(pool_at(upstream)) as url:
        piece = b"x-more: " + b"y" * 1_000 + b"\r\n"
        for endless in ([piece] * 60, [b"x-more: "] + [b"y" * 1_000] * 60):
            got = talk(url, [b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n", *endless])
            assert got.startswith(b"HTTP/1.1 431") or got == b""
        assert talk(
            url, [b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"]
        ).startswith(b"HTTP/1.1 200")


def test_trailers_without_an_end_are_cut_off(upstream):
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    sent = 0

    def pieces():
        nonlocal sent
        yield head + b"2\r\n{}\r\n0\r\n"
        for _ in range(2_000):
            sent += 1_000
            yield b"x-more: " + b"y" * 990 + b"\r\n"

    with gateway(pool_at(upstream)) as url:
        talk(url, pieces())
        # It is closed after some tens of kilobytes and what the kernel held meanwhile.
        assert MAX_HEADERS < sent < 1_900_000


def test_a_body_of_many_small_pieces_is_no_endless_head(upstream):
    raw = json.dumps(chat(TEXTS[1])).encode() + b" " * 20_000
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in raw)
    assert len(chunks) > 2 * MAX_HEADERS
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    head += b"transfer-encoding: chunked\r\n\r\n"
    with gateway(pool_at(upstream)) as url:
        assert talk(url, [head, chunks, b"0\r\n\r\n"]).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "content", [b'{"model": "eccos", "x": NaN}', b"\xff\xfe{", b'{"model": "eccos\xff"}']
)
def test_what_is_nearly_json_is_not(upstream, content):
    with gateway(pool_at(upstream)) as url:
        got = httpx.post(f"{url}/v1/chat/completions", content=content)
    assert (got.status_code, got.json()["error"]["code"]) == (400, "invalid_json")


def test_odd_letters_pass():
    """Half a surrogate pair is legal JSON and no Unicode text."""
    app = build_replay_app(recorded(), ReplaySettings(1e9, 0.0, unknown="mean"))
    raw = b'{"model": "eccos", "messages": [{"role": "user", "content": "a \\ud800 b"}]}'
    with running(app) as engine, gateway(pool_at(engine)) as url:
        assert httpx.post(f"{url}/v1/chat/completions", content=raw).status_code == 200


# Stores.


def test_a_store_that_cannot_be_written_refuses_feedback_and_serves(upstream):
    with gateway(pool_at(upstream), store="/proc/eccos/store.db") as url:
        got = ask(url)
        assert got.status_code == 200
        for _ in range(2):
            refused = httpx.post(
                f"{url}/v1/feedback", json={"lease": got.headers["x-eccos-lease"], "quality": 1}
            )
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
        assert ask(url, stream=True).text.rstrip().endswith("[DONE]")
        metrics = httpx.get(f"{url}/metrics").text
        assert "eccos_store_failing 1.0" in metrics
        assert "eccos_feedback_refused_total 2.0" in metrics
        assert "the store takes no feedback" in stats(url)["state"]


def test_a_disk_that_fills_up_while_serving(upstream, tmp_path):
    resource = pytest.importorskip("resource")
    store = tmp_path / "store.db"
    with gateway(pool_at(upstream), store=store) as url:

        def feedback(got):
            body = {"lease": got.headers["x-eccos-lease"], "quality": 1}
            return httpx.post(f"{url}/v1/feedback", json=body).status_code

        assert feedback(ask(url)) == 200
        # No file may grow beyond the write-ahead log's size: what a full disk does.
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{store}-wal").stat().st_size, hard))
        try:
            during = ask(url)
            assert during.status_code == 200
            assert feedback(during) == 503
            assert ask(url, stream=True).status_code == 200
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert feedback(during) == 200
        assert "eccos_store_failing 0.0" in httpx.get(f"{url}/metrics").text


def test_two_gateways_on_one_store_share_budget_and_feedback(upstream, tmp_path):
    store, policy = tmp_path / "store.db", Policy(budget=5.0, per="day", overload="raise")
    with (
        gateway(pool_at(upstream), store=store, policy=policy) as one,
        gateway(pool_at(upstream), store=store, policy=policy) as other,
    ):
        got = [ask(one, model="large") for _ in range(3)][-1]
        eventually(lambda: stats(other)["spend"]["spent"] == pytest.approx(stats(one)["spend"]["spent"]))
        assert stats(one)["spend"]["spent"] > 0
        body = {"lease": got.headers["x-eccos-lease"], "quality": 1}
        assert httpx.post(f"{other}/v1/feedback", json=body).status_code == 200


def test_a_damaged_store_is_refused_with_what_to_do(tmp_path):
    store = tmp_path / "store.db"
    store.write_bytes(b"SQLite format 3\0" + b"\xff" * 8_000)
    pool = tmp_path / "pool.toml"
    pool.write_text(
        "schema_version = 1\n[[model]]\nname = 'gpt-4o'\ninput_price = 1.0\noutput_price = 1.0\n"
        "[model.endpoint]\nbase_url = 'http://127.0.0.1:9/v1'\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "eccos_rs.cli.main", "serve", "--pool", pool, "--store", store, "--port", "0"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert str(store) in done.stderr
    assert "Traceback" not in done.stderr
    assert store.read_bytes().startswith(b"SQLite format 3\0\xff")


# Time and the page.


def test_a_clock_that_jumps_moves_nothing(upstream, tmp_path, monkeypatch):
    policy = Policy(budget=5.0, per="day", overload="raise")
    with gateway(pool_at(upstream), store=tmp_path / "store.db", policy=policy) as url:
        before = stats(url)["spend"]
        real = time.time
        for jump in (-1e6, 1e9, -1e9):
            monkeypatch.setattr("time.time", lambda jump=jump: real() + jump)
            got = ask(url)
            assert got.status_code == 200
            body = {"lease": got.headers["x-eccos-lease"], "quality": 1}
            assert httpx.post(f"{url}/v1/feedback", json=body).status_code == 200
        after = stats(url)
        assert after["quality"]["feedback"] == 3
        assert after["spend"]["spent"] > before["spent"]
        assert after["spend"]["on_pace"] == pytest.approx(before["on_pace"], abs=0.01)
        assert float(got.headers["x-eccos-overhead-ms"]) < 1e5


def flat(value, place=""):
    if isinstance(value, dict):
        return {path for key, inner in value.items() for path in flat(inner, f"{place}.{key}")}
    return {place}


def test_the_page_shows_every_figure_and_asks_for_no_other(upstream):
    with gateway(pool_at(upstream)) as url:
        ask(url)
        page, figures = httpx.get(url), stats(url)
    script = page.text.split("<script>")[1]
    models, details = figures.pop("models"), figures.pop("model_details")
    asked = {path.removesuffix(".map") for path in re.findall(r"\bs((?:\.[a-z_0-9]+)+)", script)}
    assert asked - {".models", ".model_details"} == flat(figures)
    assert set(re.findall(r"\bm(\.[a-z_]+)", script)) == flat(models[0])
    assert set(re.findall(r"\bd(\.[a-z_0-9]+)", script)) >= flat(details[models[0]["name"]])
    # The name of a name space is an address that nobody asks.
    text = page.text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(?:src|href)\s*=|@import|url\(|//", text)
    assert "default-src 'none'" in page.headers["content-security-policy"]
