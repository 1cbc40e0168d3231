"""Malformed requests are refused in the client's words; foreign pages and slow clients are kept out."""

from __future__ import annotations

import socket
import time

import httpx
import openai
import pytest

from eccos_rs.serve import protocol
from eccos_rs.serve.replay import build_replay_app
from tests.helpers.scripted import COMPLETION, plain
from tests.helpers.serving import TEXTS, chat, pool_at, recorded, running
from tests.serve.test_endpoint_faults import ask, good, served
from tests.serve.test_gateway import FAST, gateway


@pytest.fixture(scope="module")
def front():
    with running(build_replay_app(recorded(), FAST)) as engine, gateway(pool_at(engine, tools=True)) as url:
        yield url


MALFORMED = [
    ("tool_calls", {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": 5}]}),
    ("stream_options", {"stream": True, "stream_options": "x"}),
    ("stream", {"stream": "false"}),
    ("stream", {"stream": 1}),
    ("max_tokens", {"max_tokens": 10.0}),
    ("max_tokens", {"max_tokens": -1}),
    ("max_tokens", {"max_tokens": 0}),
    ("max_tokens", {"max_tokens": True}),
    ("max_tokens", {"max_tokens": "10"}),
    ("max_tokens", {"max_tokens": int("9" * 400)}),
    ("max_completion_tokens", {"max_completion_tokens": 1.5}),
    ("max_completion_tokens", {"max_completion_tokens": 2**63, "max_tokens": 10}),
    ("n", {"n": 0}),
    ("n", {"n": 1000}),
    ("n", {"n": "2"}),
    ("tools", {"tools": 5}),
    ("tools", {"tools": [5]}),
    ("tools", {"tools": {"a": 1}}),
    ("functions", {"functions": "f"}),
    ("response_format", {"response_format": "json"}),
    ("messages", {"messages": "hi"}),
    ("messages", {"messages": [5]}),
    ("messages", {"messages": [{"role": 5, "content": "x"}]}),
    ("content", {"messages": [{"role": "user", "content": 5}]}),
    ("content", {"messages": [{"role": "user", "content": [5]}]}),
    ("model", {"model": 5}),
]


@pytest.mark.parametrize(("word", "fields"), MALFORMED)
@pytest.mark.parametrize("model", ["eccos", "small"])
def test_a_malformed_member_is_400_in_the_clients_words(front, word, fields, model):
    got = ask(front, text=TEXTS[0], **{"model": model, **fields})
    assert got.status_code == 400, got.text
    error = got.json()["error"]
    assert word in f"{error['param']} {error['message']}"


def test_numbers_beyond_json_do_not_go_upstream(front):
    for number in ("1e999", "-1e999", "NaN", "Infinity"):
        raw = f'{{"model":"small","temperature":{number},"messages":[{{"role":"user","content":"x"}}]}}'
        got = httpx.post(f"{front}/v1/chat/completions", content=raw)
        assert (got.status_code, got.json()["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize(
    "value", ["9223372036854775808", "-9223372036854775809", "1" * 400, "1.5", "high", "", "١", "2147483649"]
)
def test_a_priority_out_of_range_is_400(front, value):
    got = httpx.post(
        f"{front}/v1/chat/completions", json=chat(TEXTS[0]), headers={"x-eccos-priority": value.encode()}
    )
    if value == "١":  # an int to Python; in a header it is Latin-1 noise
        assert got.status_code == 400
    assert (got.status_code, got.json()["error"]["code"]) == (400, "invalid_header")


def test_a_null_cap_does_not_hide_the_other(front):
    body = chat(TEXTS[1], max_completion_tokens=None, max_tokens=10)
    got = httpx.post(f"{front}/v1/route", json=body).json()
    assert got["predicted_output_tokens"] == 10
    newer = httpx.post(f"{front}/v1/route", json={**body, "max_completion_tokens": 5}).json()
    assert newer["predicted_output_tokens"] == 5


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/audio/speech", 404),
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("OPTIONS", "/v1/chat/completions", 405),
        ("POST", "/metrics", 405),
        ("GET", "/v1/models/huge", 404),
    ],
)
def test_unknown_paths_and_methods_answer_the_error_object(front, method, path, status):
    got = httpx.request(method, front + path)
    assert got.status_code == status
    error = got.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}
    if status == 405:
        assert got.headers["allow"]


def test_one_model_can_be_asked_for(front, closing):
    client = closing(openai.OpenAI(base_url=f"{front}/v1", api_key="none", max_retries=0))
    for name in ("eccos", "auto", "small", "large"):
        assert client.models.retrieve(name).id == name
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("huge")


LOCAL = {"content-type": "application/json"}
FOREIGN = [
    ({"content-type": "text/plain", "origin": "https://evil.example", "sec-fetch-site": "cross-site"}, 403),
    ({"content-type": "application/json", "origin": "https://evil.example"}, 403),
    ({"content-type": "application/json", "origin": "null"}, 403),
    ({"content-type": "application/json", "origin": "http://localhost.evil.example"}, 403),
    ({"content-type": "application/json", "origin": "http://127.0.0.1:1"}, 403),
    ({"content-type": "application/json", "sec-fetch-site": "cross-site"}, 403),
    ({"content-type": "application/json", "host": "evil.example:8080"}, 403),
    ({"content-type": "application/json", "host": "127.0.0.1.evil.example"}, 403),
    ({"content-type": "application/json", "host": ""}, 403),
    ({"content-type": "text/plain"}, 415),
    ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ({"content-type": "multipart/form-data; boundary=x"}, 415),
    ({"content-type": "text/plain; application/json"}, 415),
    ({"sec-fetch-site": "same-origin"}, 415),
]


@pytest.mark.parametrize(("headers", "status"), FOREIGN)
def test_without_tokens_no_foreign_page_is_served(front, headers, status):
    import json

    raw = json.dumps(chat(TEXTS[0])).encode()
    got = httpx.post(f"{front}/v1/chat/completions", content=raw, headers=headers)
    assert got.status_code == status
    assert got.json()["error"]["type"] == "invalid_request_error"
    assert "access-control-allow-origin" not in got.headers


def test_without_tokens_a_foreign_name_reads_nothing(front):
    for path in ("/v1/stats", "/metrics", "/", "/v1/models"):
        assert httpx.get(front + path, headers={"host": "evil.example:8080"}).status_code == 403


def test_programs_of_this_machine_are_served(front):
    port = front.rsplit(":", 1)[1]
    for headers in (
        {},
        {"content-type": "application/json; charset=utf-8"},
        {
            "host": f"localhost:{port}",
            "origin": f"http://localhost:{port}",
            "content-type": "application/json",
        },
        {"host": "[::1]:80", "content-type": "application/json"},
    ):
        import json

        raw = json.dumps(chat(TEXTS[0])).encode()
        assert httpx.post(f"{front}/v1/chat/completions", content=raw, headers=headers).status_code == 200


def test_cors_is_for_those_that_were_named():
    with served(good, cors=("https://app.example",)) as (front, _):
        asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
        preflight = httpx.options(f"{front}/v1/chat/completions", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        got = httpx.post(
            f"{front}/v1/chat/completions", json=chat("hi"), headers={"origin": "https://app.example"}
        )
        assert got.status_code == 200
        evil = httpx.post(
            f"{front}/v1/chat/completions", json=chat("hi"), headers={"origin": "https://evil.example"}
        )
        assert evil.status_code == 403


def send_slowly(front, head, body=b""):
    host, port = front.removeprefix("http://").split(":")
    start = time.monotonic()
    with socket.create_connection((host, int(port))) as there:
        there.settimeout(20)
        there.sendall(head)
        got = b""
        try:
            for at in range(len(body)):
                there.sendall(body[at : at + 1])
                time.sleep(0.1)
            while piece := there.recv(65536):
                got += piece
        except OSError:
            pass
    return got, time.monotonic() - start


def test_slow_bodies_and_heads_get_a_time_out(monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 1.0)
    with served(good, body_timeout=0.5) as (front, _):
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n"
        got, took = send_slowly(front, head)
        assert b" 408 " in got.split(b"\r\n")[0]
        assert took < 8
        _, took = send_slowly(front, b"POST /v1/chat/completions HTTP/1.1\r\nhost: lo")
        assert took < 8
        _, took = send_slowly(front, b"")
        assert took < 8


def test_a_named_model_takes_whatever_it_is_sent():
    parts = [
        {"type": "text", "text": "hi"},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "of_tomorrow", "x": 1},
    ]
    messages = [{"role": "user", "content": parts}]
    with served(lambda *_: plain(COMPLETION)) as (front, there):
        assert ask(front, model="small", messages=messages, tools=[{"type": "x"}]).status_code == 200
        assert there.requests[0]["messages"] == messages
        assert ask(front, messages=messages).status_code == 400
