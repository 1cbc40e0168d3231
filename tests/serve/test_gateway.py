"""The gateway: real servers on both sides, the real client in front."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager

import httpx
import openai
import pytest

from eccos_rs.errors import PoolError
from eccos_rs.pools.pool import LLM, Endpoint, Pool
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from eccos_rs.serve.app import GatewaySettings, build_app
from eccos_rs.serve.replay import ReplaySettings, build_replay_app
from tests.helpers.serving import TEXTS, FixedPredictor, chat, pool_at, recorded, running

FAST = ReplaySettings(tokens_per_second=float("inf"), ttft=0.0)


@contextmanager
def gateway(pool, *, policy=None, **settings):
    """Serve a gateway in front of a pool; yields its address."""
    router = Router(pool, FixedPredictor(), policy or Policy(min_quality=0.6, overload="raise"))
    with running(build_app(router, GatewaySettings(**settings))) as url:
        yield url


@pytest.fixture(scope="module")
def upstream():
    with running(build_replay_app(recorded(), FAST)) as url:
        yield url


@pytest.fixture(scope="module")
def address(upstream, tmp_path_factory):
    store = tmp_path_factory.mktemp("store") / "eccos.db"
    with gateway(pool_at(upstream, slots=64), store=store) as url:
        yield url


@pytest.fixture(scope="module")
def client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as made:
        yield made


def in_flight(address):
    return httpx.get(f"{address}/v1/stats").json()["in_flight"]


def eventually(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def test_a_routed_answer_says_who_gave_it(client):
    raw = client.chat.completions.with_raw_response.create(**chat(TEXTS[1]))
    assert raw.headers["x-eccos-model"] == "small"
    assert float(raw.headers["x-eccos-predicted-quality"]) == pytest.approx(0.6)
    assert float(raw.headers["x-eccos-cost"]) == pytest.approx((8 * 0.1 + 12 * 0.1) / 1e6, rel=0.01)
    assert float(raw.headers["x-eccos-overhead-ms"]) > 0
    assert raw.headers["x-eccos-lease"]
    assert raw.parse().choices[0].message.content.startswith("right")


def test_auto_routes_and_a_models_own_name_goes_straight_there(client):
    auto = client.chat.completions.with_raw_response.create(**chat(TEXTS[1], "auto"))
    assert auto.headers["x-eccos-model"] == "small"
    straight = client.chat.completions.with_raw_response.create(**chat(TEXTS[1], "large"))
    assert straight.headers["x-eccos-model"] == "large"


@pytest.mark.parametrize(
    ("headers", "model"),
    [
        ({"x-eccos-min-quality": "0.8"}, "large"),
        ({"x-eccos-models": "large"}, "large"),
        ({"x-eccos-models": "small, large", "x-eccos-max-cost": "0.00001"}, "small"),
    ],
)
def test_a_request_brings_its_own_limits(client, headers, model):
    raw = client.chat.completions.with_raw_response.create(**chat(TEXTS[0]), extra_headers=headers)
    assert raw.headers["x-eccos-model"] == model


@pytest.mark.parametrize("asked", [True, False])
def test_a_stream_passes_through_and_usage_only_where_asked(client, asked):
    options = {"stream_options": {"include_usage": True}} if asked else {}
    with client.chat.completions.create(**chat(TEXTS[1]), stream=True, **options) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith("right")
    assert any(chunk.usage is not None for chunk in chunks) is asked


def test_what_was_spent_is_what_the_endpoint_counted(upstream):
    with gateway(pool_at(upstream)) as url:
        for text in TEXTS[:5]:
            httpx.post(f"{url}/v1/chat/completions", json=chat(text, "large")).raise_for_status()
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", json=chat(TEXTS[0], "large", stream=True)
        ) as got:
            got.read()
        spent = httpx.get(f"{url}/v1/stats").json()["spend"]["spent"]
        metrics = httpx.get(f"{url}/metrics").text
    assert spent == pytest.approx(6 * (8 * 5.0 + 24 * 15.0) / 1e6)
    assert 'eccos_tokens_total{direction="output",model="large"} 144.0' in metrics
    assert 'eccos_requests_total{model="large",status="200"} 6.0' in metrics


def test_decision_only(address):
    before = httpx.get(f"{address}/v1/stats").json()["spend"]["spent"]
    got = httpx.post(f"{address}/v1/route", json={"messages": [{"role": "user", "content": "Hi"}]}).json()
    assert got["model"] == "small"
    assert got["runner_up"] == "large"
    assert "small" in got["reason"]
    assert in_flight(address) == 0
    assert httpx.get(f"{address}/v1/stats").json()["spend"]["spent"] == before


def test_feedback_is_taken_for_a_known_lease(address, client):
    raw = client.chat.completions.with_raw_response.create(**chat(TEXTS[1]))
    lease = raw.headers["x-eccos-lease"]
    got = httpx.post(f"{address}/v1/feedback", json={"lease": lease, "quality": 1})
    assert got.json() == {"lease": lease, "accepted": True}
    assert httpx.get(f"{address}/v1/stats").json()["quality"]["feedback"] >= 1
    assert httpx.post(f"{address}/v1/feedback", json={"lease": "none", "quality": 1}).status_code == 400
    assert httpx.post(f"{address}/v1/feedback", json={"lease": lease, "quality": 7}).status_code == 400


def test_small_pages(address):
    models = httpx.get(f"{address}/v1/models").json()["data"]
    assert [row["id"] for row in models] == ["eccos", "small", "large"]
    assert httpx.get(f"{address}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{address}/readyz").json()["status"] == "ready"
    page = httpx.get(f"{address}/")
    assert page.status_code == 200
    # The name of SVG, which nobody asks for.
    assert re.findall(r"https?://[^\"]*", page.text) == ["http://www.w3.org/2000/svg"]
    assert "eccos_routing_overhead_seconds_bucket" in httpx.get(f"{address}/metrics").text


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ({"content": b"{"}, 400, "invalid_json"),
        ({"content": b"[]"}, 400, "invalid_json"),
        ({"content": b"[" * 100_000}, 400, "invalid_json"),
        ({"json": {"model": "eccos"}}, 400, "invalid_messages"),
        ({"json": {"model": "eccos", "messages": []}}, 400, "invalid_messages"),
        ({"json": {"messages": [{"role": "user", "content": "x"}]}}, 400, "invalid_model"),
        ({"json": chat("x", "huge")}, 404, "model_not_found"),
        ({"json": chat("x"), "headers": {"x-eccos-min-quality": "2"}}, 400, "invalid_header"),
        ({"json": chat("x"), "headers": {"x-eccos-min-quality": "nan"}}, 400, "invalid_header"),
        ({"json": chat("x"), "headers": {"x-eccos-max-cost": "-1"}}, 400, "invalid_header"),
        ({"json": chat("x"), "headers": {"x-eccos-models": "huge"}}, 404, "model_not_found"),
        ({"json": chat("x"), "headers": {"x-eccos-models": ","}}, 400, "invalid_header"),
        ({"json": chat("x"), "headers": {"x-eccos-priority": "high"}}, 400, "invalid_header"),
        ({"json": chat("x"), "headers": {"x-eccos-min-quality": "0.99"}}, 422, "no_model"),
    ],
)
def test_bad_requests(address, content, status, code):
    got = httpx.post(f"{address}/v1/chat/completions", **content)
    assert (got.status_code, got.json()["error"]["code"]) == (status, code)
    assert in_flight(address) == 0


def test_an_image_to_a_pool_of_text_models(address):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = {"model": "eccos", "messages": [{"role": "user", "content": [image]}]}
    got = httpx.post(f"{address}/v1/chat/completions", json=body)
    assert got.status_code == 422
    assert "no vision" in got.json()["error"]["message"]


def test_a_large_body_is_refused_whether_or_not_it_says_so(upstream):
    with gateway(pool_at(upstream), max_body=10_000) as url:
        path = f"{url}/v1/chat/completions"
        assert httpx.post(path, content=b"x" * 20_000).status_code == 413
        pieces = (b"x" * 1_000 for _ in range(20))
        assert httpx.post(path, content=pieces).status_code == 413
        assert httpx.post(path, json=chat(TEXTS[0])).status_code == 200


def test_large_headers_are_refused(address):
    got = httpx.get(f"{address}/healthz", headers={"x-big": "x" * 40_000})
    assert got.status_code == 431


def test_client_tokens(upstream):
    token = "a-token-of-enough-length"
    with gateway(pool_at(upstream), tokens=("another-token-of-length", token)) as url:
        path = f"{url}/v1/chat/completions"
        assert httpx.post(path, json=chat(TEXTS[0])).status_code == 401
        for wrong in ("Bearer x", "Basic " + token, "Bearer", f"Bearer {token}x"):
            got = httpx.post(path, json=chat(TEXTS[0]), headers={"authorization": wrong})
            assert got.status_code == 401
            assert token not in got.text
        right = {"authorization": f"Bearer {token}"}
        assert httpx.post(path, json=chat(TEXTS[0]), headers=right).status_code == 200
        assert httpx.get(f"{url}/metrics").status_code == 401
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_an_endpoint_gets_its_own_key_alone(monkeypatch):
    seen = []

    async def echo(scope, receive, send):
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        seen.append(headers.get("authorization"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"choices": []}'})

    monkeypatch.setenv("KEY_SMALL", "secret-of-small")
    monkeypatch.setenv("KEY_LARGE", "secret-of-large")
    with running(echo, lifespan="off") as url:
        pool = Pool(
            [
                LLM("small", 1, 1, endpoint=Endpoint(f"{url}/v1", api_key_env="KEY_SMALL")),
                LLM("large", 2, 2, endpoint=Endpoint(f"{url}/v1", api_key_env="KEY_LARGE")),
            ]
        )
        with gateway(pool, tokens=("client-token-0123456789",)) as front:
            mine = {"authorization": "Bearer client-token-0123456789"}
            for name in ("small", "large"):
                got = httpx.post(f"{front}/v1/chat/completions", json=chat("x", name), headers=mine)
                assert got.status_code == 200
    assert seen == ["Bearer secret-of-small", "Bearer secret-of-large"]


def test_a_pool_without_endpoint_or_key_is_refused(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    bare = Pool([LLM("small", 1, 1), LLM("large", 2, 2)])
    with pytest.raises(PoolError, match="'small' has no endpoint"):
        build_app(Router(bare, FixedPredictor()))
    endpoint = Endpoint("http://127.0.0.1:1/v1", api_key_env="NO_SUCH_KEY")
    keyless = Pool([LLM("small", 1, 1, endpoint=endpoint), LLM("large", 2, 2, endpoint=endpoint)])
    with pytest.raises(PoolError, match="NO_SUCH_KEY"):
        build_app(Router(keyless, FixedPredictor()))
