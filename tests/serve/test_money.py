"""What is booked when an answer does not come to its end, and what a request is expected to cost."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.helpers.scripted import COMPLETION, DONE, FINAL, WORDS, chunk, data, plain, stream
from tests.helpers.serving import chat
from tests.serve.test_endpoint_faults import ask, good, row, served, spent, stats
from tests.serve.test_gateway import eventually

SLOW = stream(*[piece for _ in range(200) for piece in (data(chunk("word ")), 0.05)], data(FINAL), DONE)


def metrics(front):
    return httpx.get(f"{front}/metrics").text


def test_a_stream_left_early_is_booked_as_far_as_it_went_and_is_no_failed_model():
    with served(lambda *_: SLOW) as (front, there):
        read = b""
        with httpx.stream(
            "POST", f"{front}/v1/chat/completions", json=chat("hi", model="small", stream=True)
        ) as got:
            for piece in got.iter_raw():
                read += piece
                if read.count(b"word ") >= 20:
                    break
        eventually(lambda: stats(front)["in_flight"] == 0)
        low, high = ((8 * 1 + words * 4) / 1e6 for words in (20, 45))
        assert low <= spent(front) <= high
        assert row(front, "small")["failed"] == 0
        assert 'eccos_model_failures_total{model="small"} 0.0' in metrics(front)
        assert 'eccos_broken_streams_total{model="small",side="client"} 1.0' in metrics(front)
        eventually(lambda: there.left == 1)


def test_a_stream_that_the_endpoint_cuts_is_booked_as_far_as_it_went():
    with served(lambda *_: stream(*WORDS[:2], cut=True)) as (front, _):
        assert "upstream_broke" in ask(front, model="small", stream=True).text
        assert spent(front) == pytest.approx((8 * 1 + 2 * 4) / 1e6)
        assert row(front, "small")["failed"] == 1


def test_a_first_byte_that_does_not_come_counts_at_its_most():
    def answer(body, path):
        return stream(20.0, kind="application/json") if body["model"] == "small" else good(body, path)

    with served(answer, first_byte_timeout=0.3) as (front, _):
        assert ask(front, max_tokens=700, n=2).headers["x-eccos-model"] == "large"
        assert row(front, "small")["spent"] == pytest.approx((8 * 1 + 2 * 700 * 4) / 1e6)


@pytest.mark.parametrize(("cap", "tokens"), [({}, 12), ({"max_tokens": 700}, 700)])
def test_a_plain_call_that_is_left_counts_at_its_most(cap, tokens):
    with served(lambda *_: stream(20.0, kind="application/json")) as (front, _):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{front}/v1/chat/completions", json=chat("hi", model="small", **cap), timeout=1.0)
        eventually(lambda: stats(front)["in_flight"] == 0)
        assert spent(front) == pytest.approx((8 * 1 + tokens * 4) / 1e6)
        assert row(front, "small")["failed"] == 0


def test_what_never_went_out_costs_nothing():
    from eccos_rs.pools.pool import LLM, Endpoint, Pool
    from tests.serve.test_gateway import gateway
    from tests.serve.test_gateway_faults import free_address

    endpoint = Endpoint(f"{free_address()}/v1")
    pool = Pool([LLM("small", 1, 4, endpoint=endpoint), LLM("large", 2, 8, endpoint=endpoint)])
    with gateway(pool) as front:
        assert ask(front, max_tokens=700).status_code == 502
        assert spent(front) == 0


FORMS = {
    "comment": [*WORDS, b": ping\n" + data(FINAL), DONE],
    "event": [*WORDS, b"event: message\n" + data(FINAL), DONE],
    "id": [*WORDS, b"id: 7\n" + data(FINAL), DONE],
    "spare": [*WORDS, b"\n" + data(FINAL), DONE],
    "crlf": [piece.replace(b"\n", b"\r\n") for piece in (*WORDS, data(FINAL), DONE)],
    "cr": [piece.replace(b"\n", b"\r") for piece in (*WORDS, data(FINAL), DONE)],
    "no choices": [*WORDS, data({name: value for name, value in FINAL.items() if name != "choices"}), DONE],
    "null choices": [*WORDS, data({**FINAL, "choices": None}), DONE],
    "no done": [*WORDS, data(FINAL)],
    "no end": [*WORDS, data(FINAL).rstrip()],
    "after done": [*WORDS, DONE, data(FINAL)],
    "in one": [b"".join([*WORDS, data(FINAL), DONE])],
    "by bytes": [bytes([byte]) for byte in b"".join([*WORDS, data(FINAL), DONE])],
}


@pytest.mark.parametrize("form", FORMS)
def test_usage_is_seen_and_hidden_in_every_form(form):
    with served(lambda *_: stream(*FORMS[form])) as (front, _):
        hidden = ask(front, model="small", stream=True)
        assert "1010" not in hidden.text
        assert all(word in hidden.text for word in ("one ", "two ", "three"))
        asked = ask(front, model="small", stream=True, stream_options={"include_usage": True})
        if form != "after done":
            assert "1010" in asked.text
        assert spent(front) == pytest.approx(2 * (10 + 1000 * 4) / 1e6)


def test_a_verdict_of_a_filter_is_passed_on_though_it_has_no_choices():
    verdict = data({"choices": [], "prompt_filter_results": [{"x": 1}], "usage": None})
    with served(lambda *_: stream(verdict, *WORDS, data(FINAL), DONE)) as (front, _):
        assert "prompt_filter_results" in ask(front, stream=True).text


def test_answers_tools_and_schemas_count_before_anything_is_sent():
    tools = [{"type": "function", "function": {"name": "f", "description": "word " * 40_000}}]
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"description": "word " * 2_000}}}
    with served(
        lambda *_: plain(COMPLETION), small={"context_window": 8_000, "tools": True}, large={"tools": True}
    ) as (
        front,
        _,
    ):
        route = f"{front}/v1/route"
        plain_cost = httpx.post(route, json=chat("hi")).json()
        many = httpx.post(route, json=chat("hi", n=100)).json()
        assert many["predicted_cost_usd"] == pytest.approx((8 * 1 + 100 * 12 * 4) / 1e6)
        assert ask(front, n=100, model="small").status_code == 200
        limited = httpx.post(
            f"{front}/v1/chat/completions", json=chat("hi", n=100), headers={"x-eccos-max-cost": "0.001"}
        )
        assert limited.status_code == 422
        large = httpx.post(route, json=chat("hi", tools=tools)).json()
        assert large["model"] == "large"
        assert 38_000 <= large["input_tokens"] <= 42_000
        shaped = httpx.post(route, json=chat("hi", response_format=schema)).json()
        assert 1_900 <= shaped["input_tokens"] - plain_cost["input_tokens"] <= 2_100


def test_a_decision_alone_takes_nothing():
    with served(good, small={"requests_per_minute": 3}) as (front, _):
        for _ in range(6):
            assert httpx.post(f"{front}/v1/route", json=chat("hi")).json()["model"] == "small"
        assert all(model["failed"] == 0 and model["share"] == 0 for model in stats(front)["models"])
        assert ask(front).headers["x-eccos-model"] == "small"


def test_the_second_request_takes_no_longer_because_the_first_was_warm(monkeypatch):
    from tests.helpers.serving import FixedPredictor

    seen = []
    predict = FixedPredictor.predict
    monkeypatch.setattr(
        FixedPredictor,
        "predict",
        lambda self, queries: seen.append(time.monotonic()) or predict(self, queries),
    )
    with served(good) as (front, _):
        assert seen, "nothing was predicted before the gateway was ready"
        assert httpx.get(f"{front}/readyz").json()["status"] == "ready"
