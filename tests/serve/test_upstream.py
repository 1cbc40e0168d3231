"""The gateway's side towards the endpoints: broken connections, time-outs, keys, certificates, proxies."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import pytest

from eccos_rs.errors import PoolError
from eccos_rs.pools.pool import LLM, Endpoint, Pool
from eccos_rs.serve.body import parse_body
from eccos_rs.serve.upstream import Outbound, Upstream, UpstreamDisconnected, UpstreamError
from tests.helpers.paths import ROOT

BODY = {"model": "eccos", "messages": [{"role": "user", "content": "Hi"}]}
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


HALF_STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 400\r\n\r\n"
    b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
)
STREAM = {**BODY, "stream": True}
HALF = WHOLE.replace(b"length: 2", b"length: 4")


class Last(bytes):
    """What is said before the connection is closed."""


GONE = Last()


class Line:
    """A server that answers each request with what a function of its place says.

    The function gets the numbers of the connection and of the request on it, both from 0, and returns the
    bytes to send, or a coroutine that does.
    """

    def __init__(self, answer):
        self.answer = answer
        self.heads = []
        self.bodies = []
        self.connections = 0
        self.left = asyncio.Event()

    async def serve(self, reader, writer):
        connection, self.connections = self.connections, self.connections + 1
        try:
            for request in range(100):
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().split(b"content-length: ")
                self.bodies.append(
                    await reader.readexactly(int(length[1].split(b"\r\n")[0])) if length[1:] else b""
                )
                self.heads.append(head.decode())
                said = self.answer(connection, request)
                if asyncio.iscoroutine(said):
                    said = await said
                writer.write(said)
                await writer.drain()
                if isinstance(said, Last):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            writer.close()


@asynccontextmanager
async def line(answer, *, tls=None, key=None, scheme="http", **settings):
    """Yield an upstream to one model behind a `Line`, and the line."""
    there = Line(answer)
    server = await asyncio.start_server(there.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    endpoint = Endpoint(
        f"{scheme}://127.0.0.1:{port}/v1", api_key_env=key, timeout=settings.pop("timeout", 20.0)
    )
    upstream = Upstream(Pool([LLM("m", 1.0, 1.0, endpoint=endpoint)]), **settings)
    upstream.open()
    try:
        yield upstream, there
    finally:
        await upstream.close()
        server.close()


async def ask(upstream):
    reply = await upstream.send("m", outbound(BODY))
    return reply.status, reply.whole


def outbound(body):
    return Outbound(parse_body(json.dumps(body).encode()))


async def test_a_kept_connection_that_was_closed_is_replaced():
    # The endpoint closes the connection just as the second request goes out on it.
    async with line(lambda connection, request: GONE if (connection, request) == (0, 1) else WHOLE) as (
        up,
        there,
    ):
        assert await ask(up) == (200, b"{}")
        assert await ask(up) == (200, b"{}")
        assert there.connections == 2
        assert len(there.heads) == 3
        assert there.bodies[1] == there.bodies[2]
        assert json.loads(there.bodies[2])["model"] == "m"


async def test_connections_are_kept_for_the_next_request():
    async with line(lambda *_: WHOLE) as (up, there):
        for _ in range(5):
            await ask(up)
        assert there.connections == 1


async def test_a_new_connection_that_breaks_is_not_tried_again():
    async with line(lambda *_: GONE) as (up, there):
        with pytest.raises(UpstreamError, match="ServerDisconnectedError") as broken:
            await ask(up)
        assert broken.value.reason == "protocol"
        assert there.connections == 1


@pytest.mark.parametrize("begun", [b"HTTP/1.1 200 OK\r\ncontent-le", HALF])
async def test_what_had_begun_to_answer_is_not_asked_again(begun):
    async with line(lambda _, request: Last(begun) if request else WHOLE) as (up, there):
        await ask(up)
        with pytest.raises((UpstreamError, UpstreamDisconnected)):
            await ask(up)
        assert there.connections == 1


async def test_what_may_have_been_worked_on_is_not_sent_twice():
    async def later():
        await asyncio.sleep(1.2)
        return GONE

    async with line(lambda _, request: later() if request else WHOLE) as (up, there):
        await ask(up)
        with pytest.raises(UpstreamError):
            await ask(up)
        assert there.connections == 1


async def silence():
    await asyncio.sleep(30)
    return WHOLE


async def test_no_first_byte_in_time():
    async with line(lambda *_: silence(), first_byte_timeout=0.2) as (up, there):
        start = time.monotonic()
        with pytest.raises(UpstreamError) as late:
            await ask(up)
        assert late.value.reason == "timeout"
        assert 0.2 <= time.monotonic() - start < 5
        assert there.connections == 1


async def test_headers_are_no_first_byte():
    async with line(lambda *_: HALF[:-2], first_byte_timeout=0.3) as (up, _):
        with pytest.raises(UpstreamError) as late:
            await ask(up)
        assert late.value.reason == "timeout"


async def test_an_endpoint_that_falls_silent_in_mid_answer():
    async with line(lambda *_: HALF, timeout=0.3) as (up, _):
        with pytest.raises(UpstreamError) as late:
            await ask(up)
        assert (late.value.reason, late.value.charged) == ("timeout", True)
    async with line(lambda *_: HALF_STREAM, timeout=0.3) as (up, _):
        with pytest.raises(UpstreamDisconnected, match="Timeout"):
            await read(await up.send("m", outbound(STREAM)))


async def test_an_endpoint_that_breaks_off_in_mid_answer():
    async with line(lambda *_: Last(HALF)) as (up, there):
        with pytest.raises(UpstreamError) as broken:
            await ask(up)
        assert (broken.value.reason, broken.value.charged) == ("protocol", True)
        assert there.connections == 1
    async with line(lambda *_: Last(HALF_STREAM)) as (up, there):
        with pytest.raises(UpstreamDisconnected):
            await read(await up.send("m", outbound(STREAM)))
        assert there.connections == 1


async def read(reply):
    try:
        return [event async for event in reply.events()]
    finally:
        reply.close()


async def test_cancelling_closes_the_call():
    async with line(lambda *_: HALF_STREAM) as (up, there):
        reply = await up.send("m", outbound(STREAM))
        reply.close()
        await asyncio.wait_for(there.left.wait(), 1.0)

    async with line(lambda *_: silence()) as (up, there):
        task = asyncio.create_task(up.send("m", outbound(BODY)))
        while not there.heads:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("status", [301, 307])
async def test_a_redirect_is_not_followed_and_takes_no_key_along(status, monkeypatch):
    monkeypatch.setenv("KEY", "secret-of-m")
    elsewhere = Line(lambda *_: WHOLE)
    other = await asyncio.start_server(elsewhere.serve, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    said = f"HTTP/1.1 {status} Go\r\nlocation: http://127.0.0.1:{port}/\r\ncontent-length: 0\r\n\r\n".encode()
    async with line(lambda *_: said, key="KEY") as (up, there):
        with pytest.raises(UpstreamError, match="redirect"):
            await ask(up)
        assert "Bearer secret-of-m" in there.heads[0]
    other.close()
    assert elsewhere.heads == []


async def test_no_cookie_is_kept():
    said = WHOLE.replace(b"\r\n\r\n", b"\r\nset-cookie: session=1; path=/\r\n\r\n")
    async with line(lambda *_: said) as (up, there):
        await ask(up)
        await ask(up)
        assert "cookie" not in there.heads[1].lower()


async def test_keys_are_in_no_log_and_no_message(monkeypatch, caplog):
    monkeypatch.setenv("KEY", "secret-of-m")
    caplog.set_level(logging.DEBUG)
    async with line(lambda *_: GONE, key="KEY") as (up, there):
        with pytest.raises(UpstreamError) as broken:
            await ask(up)
        assert "Bearer secret-of-m" in there.heads[0]
    error = broken.value
    while error is not None:
        assert "secret-of-m" not in f"{error!r} {error}"
        error = error.__cause__ or error.__context__
    assert "secret-of-m" not in caplog.text


async def test_the_environments_proxy_is_not_asked(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with line(lambda *_: WHOLE) as (up, _):
        assert await ask(up) == (200, b"{}")


@pytest.fixture
def certificate(tmp_path):
    """Make a certificate for 127.0.0.1 that nobody has signed; its file, and the server's side of it."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context


async def test_a_certificate_is_checked(certificate):
    _, context = certificate
    async with line(lambda *_: WHOLE, tls=context, scheme="https") as (up, there):
        with pytest.raises(UpstreamError) as refused:
            await ask(up)
        assert refused.value.reason == "tls"
        assert "certificate of its endpoint is not accepted (self-signed certificate" in str(refused.value)
        assert there.heads == []


def test_a_private_authority_is_known_by_the_environment(certificate):
    """In a process of its own: certificates are read once."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.serve.test_upstream import *

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[2:])
    async with line(lambda *_: WHOLE, tls=context, scheme="https") as (up, there):
        print(await ask(up))

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, ROOT, certificate[0], certificate[0].with_name("key.pem")],
        env={**os.environ, "SSL_CERT_FILE": str(certificate[0])},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "(200, b'{}')", done.stderr


def test_a_user_in_the_address_beside_a_key_is_refused(monkeypatch):
    monkeypatch.setenv("KEY", "secret")
    endpoint = Endpoint("http://me:word@127.0.0.1:1/v1", api_key_env="KEY")
    with pytest.raises(PoolError, match="names a user"):
        Upstream(Pool([LLM("m", 1.0, 1.0, endpoint=endpoint)]))


async def test_a_large_body_and_odd_letters_arrive_as_they_are():
    async with line(lambda *_: WHOLE) as (up, there):
        text = "x" * 3_000_000 + "\u00e9\u6f22\U0001f600\ud800"
        await up.send("m", outbound({"messages": [{"role": "user", "content": text}]}))
        assert json.loads(there.bodies[0])["messages"][0]["content"] == text
