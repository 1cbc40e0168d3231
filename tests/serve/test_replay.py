"""The replay server answers what was recorded, at the speed and with the faults it was told."""

from __future__ import annotations

import time

import httpx
import openai
import pytest

from eccos_rs.errors import InputError, PoolError
from eccos_rs.pools.pool import LLM, Pool
from eccos_rs.serve.replay import ReplaySettings, build_replay_app
from eccos_rs.serve.replay_caches import cache_models
from tests.helpers.serving import TEXTS, chat, recorded, running

FAST = {"tokens_per_second": float("inf"), "ttft": 0.0}


@pytest.fixture(scope="module")
def address():
    with running(build_replay_app(recorded(), ReplaySettings(**FAST))) as url:
        yield url


@pytest.fixture(scope="module")
def client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_recorded_answer_and_usage(client):
    for number in (0, 1):
        got = client.chat.completions.create(**chat(TEXTS[number], "small"))
        assert got.choices[0].message.content.split()[0] == ("right" if number % 2 else "wrong")
        assert got.usage.completion_tokens == 12
        assert got.usage.prompt_tokens == 8
        assert got.choices[0].finish_reason == "stop"


def test_stream_adds_up_to_the_same_answer(client):
    whole = client.chat.completions.create(**chat(TEXTS[3], "large"))
    with client.chat.completions.create(
        **chat(TEXTS[3], "large"), stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


def test_max_tokens_cuts_the_answer(client):
    got = client.chat.completions.create(**chat(TEXTS[1], "small", max_tokens=5))
    assert got.usage.completion_tokens == 5
    assert got.choices[0].finish_reason == "length"


def test_unknown_query_and_model_are_404(client):
    with pytest.raises(openai.NotFoundError, match="no answer of 'small'"):
        client.chat.completions.create(**chat("never asked", "small"))
    with pytest.raises(openai.NotFoundError, match="no model 'huge'"):
        client.chat.completions.create(**chat(TEXTS[0], "huge"))


def test_unknown_query_may_take_the_mean_length():
    settings = ReplaySettings(**FAST, unknown="mean")
    with running(build_replay_app(recorded(), settings)) as url:
        got = httpx.post(f"{url}/v1/chat/completions", json=chat("never asked", "large"))
    assert got.json()["usage"]["completion_tokens"] == 24
    assert got.json()["choices"][0]["message"]["content"].startswith("unrecorded")


def test_the_speed_is_kept():
    settings = ReplaySettings(tokens_per_second=60.0, ttft=0.1)
    with running(build_replay_app(recorded(), settings)) as url:
        start = time.monotonic()
        httpx.post(f"{url}/v1/chat/completions", json=chat(TEXTS[0], "small")).raise_for_status()
    # 0.1 s to the first token and 12 tokens at 60 a second; a sleep never ends early.
    assert time.monotonic() - start >= 0.1 + 12 / 60


def test_one_more_than_the_slots_is_429():
    settings = ReplaySettings(tokens_per_second=float("inf"), ttft=2.0, slots=1)
    slow = chat(TEXTS[0], "small", stream=True)
    with (
        running(build_replay_app(recorded(), settings)) as url,
        httpx.Client() as http,
        http.stream("POST", f"{url}/v1/chat/completions", json=slow),
    ):
        deadline = time.monotonic() + 10
        while not httpx.get(f"{url}/healthz").json()["running"]["small"]:
            assert time.monotonic() < deadline
        refused = httpx.post(f"{url}/v1/chat/completions", json=chat(TEXTS[1], "small"))
        other = httpx.post(f"{url}/v1/chat/completions", json=chat(TEXTS[1], "large"))
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert other.status_code == 200


def test_faults_come_at_their_rate_and_are_the_same_again():
    def statuses():
        settings = ReplaySettings(**FAST, fault_rate=0.5, faults=("500", "429"), seed=3)
        with running(build_replay_app(recorded(), settings)) as url, httpx.Client() as http:
            path = f"{url}/v1/chat/completions"
            return [http.post(path, json=chat(text, "small")).status_code for text in TEXTS]

    first = statuses()
    assert set(first) == {200, 429, 500}
    assert 8 <= sum(status == 200 for status in first) <= 32
    assert statuses() == first


def test_a_dropped_stream_breaks_off():
    settings = ReplaySettings(tokens_per_second=500.0, ttft=0.0, fault_rate=1.0, faults=("drop",))
    with (
        running(build_replay_app(recorded(100), settings), log_level="critical") as url,
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("POST", f"{url}/v1/chat/completions", json=chat(TEXTS[0], "large", stream=True)) as got,
    ):
        got.read()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"tokens_per_second": 0.0}, "tokens_per_second must be above 0"),
        ({"ttft": -1.0}, "ttft must be a finite number"),
        ({"slots": 0}, "slots must be at least 1"),
        ({"fault_rate": 1.5}, "fault_rate must lie in"),
        ({"faults": ("fire",)}, "got 'fire'"),
        ({"unknown": "guess"}, "got 'guess'"),
    ],
)
def test_settings_out_of_range(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        ReplaySettings(**settings)


def test_body_that_is_no_request(address):
    path = f"{address}/v1/chat/completions"
    assert httpx.post(path, content=b"{").status_code == 400
    assert httpx.post(path, json=[1]).status_code == 400
    assert httpx.post(path, json={"model": "small", "messages": []}).status_code == 400
    assert httpx.post(path, json={"messages": [{"role": "user", "content": "x"}]}).status_code == 400


def talk(turns, system="Be brief. " * 400):
    """A chat of so many questions that are recorded."""
    said = [{"role": "system", "content": system}]
    for number in range(turns):
        said += [{"role": "user", "content": TEXTS[number]}, {"role": "assistant", "content": "right . ."}]
    return said[:-1]


CACHED = {"cached_input_price": 0.1, "cache_minimum": 256}


def test_caches_are_kept_by_model_text_and_time(tmp_path):
    now = [0.0]
    models = {
        "small": LLM("small", 1, 4, **CACHED, cache_lifetime=300.0),
        "large": LLM("large", 1, 4, **CACHED, cache_write_price=1.25),
    }
    app = build_replay_app(recorded(), ReplaySettings(**FAST, caches=models))
    app.state.replay.caches.clock = lambda: now[0]
    with running(app) as url:

        def ask(messages, model="small", **fields):
            body = {"model": model, "messages": messages, **fields}
            got = httpx.post(f"{url}/v1/chat/completions", json=body)
            assert got.status_code == 200, got.text
            usage = got.json()["usage"]
            return usage["prompt_tokens"], usage["prompt_tokens_details"]

        first, told = ask(talk(1))
        assert told == {"cached_tokens": 0}
        second, told = ask(talk(2))
        assert second > first > 700
        assert 128 * (first // 128) - 128 <= told["cached_tokens"] <= first
        assert told["cached_tokens"] % 128 == 0
        assert ask(talk(2, "Be long. " * 400))[1]["cached_tokens"] == 0
        assert ask(talk(2), "large")[1] == {"cached_tokens": 0, "cache_write_tokens": second}
        assert ask(talk(1, "Be brief."))[1]["cached_tokens"] == 0
        assert ask(talk(1, "Be brief."))[1]["cached_tokens"] == 0  # below the shortest that is cached
        now[0] = 299.0
        assert ask(talk(2))[1]["cached_tokens"] > 0
        now[0] = 598.0
        assert ask(talk(2))[1]["cached_tokens"] > 0  # its last use counts
        now[0] = 898.0
        assert ask(talk(2))[1]["cached_tokens"] == 0
        body = {
            "model": "small",
            "messages": talk(2),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        streamed = httpx.post(f"{url}/v1/chat/completions", json=body).text
        assert '"cached_tokens":0' not in streamed
        assert '"cached_tokens":' in streamed


def test_whose_caches_are_kept(tmp_path):
    path = tmp_path / "pool.toml"
    path.write_text(Pool([LLM("small", 1, 4, **CACHED), LLM("large", 1, 4)]).to_toml())
    assert list(cache_models(str(path), ["small", "large", "other"])) == ["small"]
    with pytest.raises(PoolError, match="no model of the data has a cached_input_price"):
        cache_models(str(path), ["large"])
    with pytest.raises(PoolError, match="in catalogue"):
        cache_models("catalogue", ["nobody-knows-it"])
    known = cache_models("catalogue", ["gpt-5-mini", "nobody-knows-it"])["gpt-5-mini"]
    assert known.cached_input_price < known.input_price
