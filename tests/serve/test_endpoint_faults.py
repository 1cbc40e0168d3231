"""The many ways in which an endpoint fails, and what each means for the request, the model and the money."""

from __future__ import annotations

import json
import logging
import time
from contextlib import contextmanager

import httpx
import openai
import pytest

from eccos_rs.pools.pool import LLM, Endpoint, Pool
from tests.helpers.scripted import COMPLETION, DONE, FINAL, WORDS, Scripted, data, plain, stream
from tests.helpers.serving import chat, running
from tests.serve.test_gateway import gateway

SECRET = "Incorrect API key provided: sk-live-secret. Organization org-secret has no credit"


def good(body, _path):
    return stream(*WORDS, data(FINAL), DONE) if body.get("stream") else plain(COMPLETION)


def one_bad(bad, model="small"):
    """Answer soundly, except for one model."""
    return lambda body, path: bad(body) if body.get("model") == model else good(body, path)


@contextmanager
def served(answer, *, policy=None, small=None, large=None, **settings):
    """Yield the gateway's address and the endpoint behind both of its models."""
    there = Scripted(answer)
    with running(there, lifespan="off", log_level="critical") as url:
        endpoint = {"base_url": f"{url}/v1", "timeout": 20.0}
        models = [
            LLM(
                name,
                **{
                    "input_price": price,
                    "output_price": 4 * price,
                    "endpoint": Endpoint(**endpoint),
                    **(fields or {}),
                },
            )
            for name, price, fields in (("small", 1.0, small), ("large", 10.0, large))
        ]
        with gateway(Pool(models), policy=policy, **{"wait": 0.3, **settings}) as front:
            yield front, there


def ask(front, text="hi", **fields):
    return httpx.post(f"{front}/v1/chat/completions", json=chat(text, **fields), timeout=20)


def stats(front):
    return httpx.get(f"{front}/v1/stats").json()


def row(front, name):
    return next(model for model in stats(front)["models"] if model["name"] == name)


def spent(front):
    return stats(front)["spend"]["spent"]


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405, 408, 409, 451, 500, 503, 529])
def test_what_is_the_endpoints_own_fault_goes_to_another_model(status, caplog):
    caplog.set_level(logging.INFO, "eccos_rs.serve")
    refusal = {"error": {"message": SECRET, "code": "invalid_api_key"}}
    with served(one_bad(lambda _: plain(refusal, status))) as (front, _):
        for turn in range(8):
            got = ask(front, stream=bool(turn % 2))
            assert got.status_code == 200
            assert got.headers["x-eccos-model"] == "large"
        assert row(front, "small")["out"]
        assert row(front, "small")["spent"] == 0
        # Named, there is nobody else; the provider's words stay here all the same.
        alone = ask(front, model="small")
        assert alone.status_code in (429, 502)
        assert "secret" not in alone.text
    if status in (401, 402, 403, 404, 408):
        assert any(r.levelno == logging.ERROR and "small" in r.getMessage() for r in caplog.records)
    assert "secret" not in caplog.text


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_the_requests_own_fault_is_passed_on(status):
    refusal = {"error": {"message": "temperature must be at most 2", "param": "temperature"}}
    with served(one_bad(lambda _: plain(refusal, status))) as (front, there):
        got = ask(front)
        assert (got.status_code, got.json()) == (status, refusal)
        assert len(there.requests) == 1
        assert (spent(front), row(front, "small")["failed"], row(front, "small")["out"]) == (0, 0, False)


OVERFLOWS = [
    {"error": {"message": "Too much.", "code": "context_length_exceeded"}},
    {"object": "error", "message": "This model's maximum context length is 8192 tokens. You requested 9000"},
    {"type": "error", "error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}},
    {"error": {"message": "The input token count (1200000) exceeds the maximum number of tokens allowed"}},
]


@pytest.mark.parametrize("refusal", OVERFLOWS)
def test_a_request_too_long_for_one_model_goes_to_another(refusal):
    with served(one_bad(lambda _: plain(refusal, 400))) as (front, _):
        for _ in range(5):
            assert ask(front).headers["x-eccos-model"] == "large"
        assert not row(front, "small")["out"]  # a long request says nothing about the endpoint
        got = ask(front, model="small")
        assert (got.status_code, got.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_a_key_refused_with_400_is_no_fault_of_the_request():
    refusal = {"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}
    with served(one_bad(lambda _: plain(refusal, 400))) as (front, _):
        assert ask(front).headers["x-eccos-model"] == "large"
        assert "key not valid" not in ask(front, model="small").text


NO_ANSWERS = {
    "error": plain({"error": {"message": "Provider returned error", "code": 502}}),
    "anthropic": plain({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    "vllm": plain({"object": "error", "message": "boom", "code": 500}),
    "nothing": plain(b""),
    "blank": plain(b" \n"),
    "html": plain(b"<html>please log in</html>", kind="text/html"),
    "half": plain(b'{"choices": ['),
    "list": plain([1, 2]),
}


@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_a_200_that_is_no_answer_is_a_failure(kind):
    with served(one_bad(lambda _: NO_ANSWERS[kind])) as (front, _):
        for streaming in (False, True):
            assert ask(front, stream=streaming).headers["x-eccos-model"] == "large"
        assert row(front, "small")["failed"] == 2
        assert row(front, "small")["spent"] == 0


NO_STREAMS = {
    "error": [data({"error": {"message": "Provider returned error", "code": 502}, "choices": []})],
    "named": [b'event: error\ndata: {"message": "boom"}\n\n'],
    "behind a comment": [b": ping\n\n", data({"error": {"message": "boom"}})],
    "behind a verdict": [data({"choices": [], "prompt_filter_results": [1]}), data({"error": {"a": 1}})],
    "nothing": [],
    "comments": [b": ping\n\n"] * 3,
    "done": [DONE],
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_STREAMS)
def test_a_stream_that_is_no_answer_is_a_failure(kind):
    with served(one_bad(lambda _: stream(*NO_STREAMS[kind]))) as (front, _):
        got = ask(front, stream=True)
        assert got.headers["x-eccos-model"] == "large"
        assert "three" in got.text
        assert row(front, "small")["failed"] == 1


def test_comments_are_no_first_byte():
    with served(one_bad(lambda _: stream(*[b": ping\n\n", 0.2] * 50)), first_byte_timeout=0.5) as (front, _):
        start = time.monotonic()
        assert ask(front, stream=True).headers["x-eccos-model"] == "large"
        assert time.monotonic() - start < 5


def test_done_ends_a_stream_whether_or_not_the_endpoint_does():
    held = stream(*WORDS, data(FINAL), DONE, hold=15.0)
    with served(lambda *_: held) as (front, _):
        start = time.monotonic()
        got = ask(front, stream=True)
        assert time.monotonic() - start < 5
        assert got.text.endswith("data: [DONE]\n\n")
        assert spent(front) == pytest.approx((10 * 1 + 1000 * 4) / 1e6)


def test_an_error_in_mid_stream_is_passed_on_and_counted():
    last = {"error": {"message": "boom"}, "choices": [{"delta": {}, "finish_reason": "error"}]}
    broken = stream(*WORDS[:2], data(last), DONE)
    with served(lambda *_: broken) as (front, _):
        assert "boom" in ask(front, model="small", stream=True).text
        assert row(front, "small")["failed"] == 1


def test_a_plain_answer_cut_off_goes_to_another_and_counts_at_its_most():
    with served(one_bad(lambda _: stream(b'{"choices"', kind="application/json", cut=True))) as (front, _):
        assert ask(front, max_tokens=500).headers["x-eccos-model"] == "large"
        assert row(front, "small")["spent"] == pytest.approx((8 * 1 + 500 * 4) / 1e6)


def test_all_busy_is_429():
    with served(lambda *_: plain({"error": {"message": "slow down"}}, 429, retry_after="7")) as (front, _):
        got = ask(front)
        assert (got.status_code, got.headers["retry-after"]) == (429, "7")


@pytest.mark.parametrize("status", [400, 422])
def test_stream_options_are_left_out_where_they_are_refused(status):
    refusal = {
        "detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "not permitted"}]
    }

    def answer(body, _path):
        return plain(refusal, status) if "stream_options" in body else stream(*WORDS, DONE)

    with served(answer) as (front, there):
        for asked in ({}, {}, {"stream_options": {"include_usage": True}}):
            got = ask(front, model="small", stream=True, **asked)
            assert got.status_code == 200
            assert "three" in got.text
        assert ["stream_options" in body for body in there.requests] == [True, False, False, False]
        # No usage is stated: the prompt and what was passed on are booked.
        assert spent(front) == pytest.approx(3 * (8 * 1 + 3 * 4) / 1e6)


def test_the_efforts_of_the_pool_are_sent_and_left_out_where_refused():
    with served(good, small={"effort": "high"}) as (front, there):
        ask(front, model="small")
        ask(front, model="small", reasoning_effort="low")
        ask(front, model="large")
        assert [body.get("reasoning_effort") for body in there.requests] == ["high", "low", None]

    def refusing(body, path):
        if "reasoning_effort" in body:
            return plain({"error": {"message": "Unrecognized request argument: reasoning_effort"}}, 400)
        return good(body, path)

    with served(refusing, small={"effort": "high"}) as (front, there):
        assert [ask(front, model="small").status_code for _ in range(2)] == [200, 200]
        assert ["reasoning_effort" in body for body in there.requests] == [True, False, False]


def test_the_query_of_an_address_is_kept(monkeypatch):
    monkeypatch.setenv("AZURE_KEY", "azure-secret\n")
    there = Scripted(good)
    with running(there, lifespan="off") as url:
        endpoint = Endpoint(
            f"{url}/openai/deployments/gpt-4o/?api-version=2024-06-01&x=a%20b",
            headers={"api-key": "${AZURE_KEY}"},
        )
        pool = Pool([LLM("small", 1, 1, endpoint=endpoint), LLM("large", 2, 2, endpoint=endpoint)])
        with gateway(pool) as front:
            assert ask(front).status_code == 200
    path = there.paths[0]
    assert path.startswith("/openai/deployments/gpt-4o/chat/completions?api-version=2024-06-01&x=a")
    assert there.headers[0]["api-key"] == "azure-secret"


def test_a_proxy_by_a_key_of_the_pool():
    seen = []

    async def proxy(scope, receive, send):
        seen.append(scope.get("raw_path"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(COMPLETION).encode()})

    with running(proxy, lifespan="off") as url:
        endpoint = Endpoint("http://models.example/v1", proxy=url)
        pool = Pool([LLM("small", 1, 1, endpoint=endpoint), LLM("large", 2, 2, endpoint=endpoint)])
        with gateway(pool) as front:
            assert ask(front).status_code == 200
    assert seen


def test_a_body_goes_on_byte_for_byte_but_for_the_model():
    raw = (
        b'{ "model" : "small",\n "temperature": 1.10, "x": "\\u00e9\xc3\xa9", "seed": 12345678901234567890,\t'
        b'"messages": [{"role":"user","content":"hi"}], "a":1,"a":2 }'
    )
    with served(good) as (front, there):
        got = httpx.post(
            f"{front}/v1/chat/completions", content=raw, headers={"content-type": "application/json"}
        )
        assert got.status_code == 200
        assert there.raw[0] == raw


def test_the_openai_client_sees_no_usage_that_it_did_not_ask_for(closing):
    pieces = [b": hello\n\n", b"\n", *WORDS, b": ping\n" + data(FINAL), DONE]
    with served(lambda *_: stream(*pieces)) as (front, _):
        client = closing(openai.OpenAI(base_url=f"{front}/v1", api_key="none", max_retries=0))
        chunks = list(client.chat.completions.create(**chat("hi"), stream=True))
        assert "".join(each.choices[0].delta.content or "" for each in chunks) == "one two three"
        assert spent(front) == pytest.approx((10 * 1 + 1000 * 4) / 1e6)


def test_a_model_that_stays_dead_is_probed_less_and_less():
    """Its list of models answers all the while, as that of a dead key may."""
    asked = []

    def answer(body, path):
        if body["model"] == "small":
            asked.append(time.monotonic())
            return plain({"error": {"message": "no"}}, 401)
        return good(body, path)

    with served(answer) as (front, there):
        there.listing = plain({"object": "list", "data": []})
        end = time.monotonic() + 4.5
        while time.monotonic() < end:
            assert ask(front).headers["x-eccos-model"] == "large"
            time.sleep(0.05)
    assert 2 <= len(asked) <= 3  # at once, after one second, after two more
