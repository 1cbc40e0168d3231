"""Endpoints of every kind are asked in their own dialect, at their own address, with their own key."""

from __future__ import annotations

import asyncio

import pytest

from eccos_rs.bulk.batch_endpoint import OpenAIBatches
from eccos_rs.errors import PoolError
from eccos_rs.pools.pool import LLM, Endpoint, Pool
from eccos_rs.records import RecordTable
from eccos_rs.records.collect import CollectOptions, Task, collect
from eccos_rs.records.collect.client import complete, open_client
from eccos_rs.records.collect.options import Retry
from tests.helpers.dialects import ANSWERS, BASES, CALL, DialectEndpoint
from tests.helpers.scripted import Scripted, plain
from tests.helpers.serving import running

PLACES = {
    "openai": "/v1/chat/completions",
    "azure": "/openai/deployments/small/chat/completions?api-version=2026-01-01",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/small:generateContent",
}
KEYS = {"openai": "authorization", "azure": "api-key", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}


def pool_at(url, kind, **fields):
    endpoint = Endpoint(f"{url}{BASES[kind]}", kind=kind, api_key_env="ENDPOINT_KEY", timeout=20.0)
    return Pool([LLM("small", 1, 4, endpoint=endpoint, tools=True, **fields)])


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("ENDPOINT_KEY", "secret")


@pytest.mark.parametrize("kind", list(ANSWERS))
def test_collect_asks_every_kind(kind, tmp_path):
    there = DialectEndpoint(kind)
    tasks = [Task(query="Say hello.", kind="exact", answers=("hello",))]
    with running(there, lifespan="off") as url:
        collect(tasks, pool_at(url, kind, effort="low"), tmp_path / "out.jsonl")
    assert there.paths == [PLACES[kind]]
    headers = there.headers[0]
    assert headers[KEYS[kind]].endswith("secret")
    assert sum("secret" in value for value in headers.values()) == 1
    if kind == "anthropic":
        assert headers["anthropic-version"]
    told = {
        "openai": lambda body: body["reasoning_effort"],
        "azure": lambda body: body["reasoning_effort"],
        "anthropic": lambda body: body["output_config"]["effort"],
        "gemini": lambda body: body["generationConfig"]["thinkingConfig"]["thinkingLevel"].lower(),
    }
    assert told[kind](there.requests[0]) == "low"
    table = RecordTable.read(tmp_path / "out.jsonl")
    assert table.quality.tolist() == [[1.0]]
    assert table.output_tokens.tolist() == [[1000.0]]


@pytest.mark.parametrize("kind", list(ANSWERS))
def test_a_lane_is_asked_for(kind, tmp_path):
    there = DialectEndpoint(kind)
    tasks = [Task(query="Say hello.", kind="exact", answers=("hello",))]
    with running(there, lifespan="off") as url:
        summary = collect(tasks, pool_at(url, kind, lane="flex"), tmp_path / "out.jsonl")
    if kind == "anthropic":
        assert there.requests == []
        assert "sells no lane 'flex'" in str(summary)
    else:
        assert there.requests[0]["serviceTier" if kind == "gemini" else "service_tier"] == "flex"


@pytest.mark.parametrize("kind", list(ANSWERS))
def test_calls_of_tools_come_back_alike(kind):
    there = DialectEndpoint(kind)
    there.what = "call"
    turns = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]

    async def ask(model):
        client = open_client(model)
        try:
            body = {"model": "small", "messages": turns, "max_tokens": 9}
            return await complete(client, model.endpoint, body, {"Idempotency-Key": "k"})
        finally:
            await client.close()

    with running(there, lifespan="off") as url:
        answer = asyncio.run(ask(pool_at(url, kind)["small"]))
    call = answer.choices[0].message.tool_calls[0]
    assert (call.function.name, answer.choices[0].finish_reason) == ("weather", "tool_calls")
    assert there.headers[0]["idempotency-key"] == "k"


@pytest.mark.parametrize("kind", ["anthropic", "gemini", "azure"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (plain({"error": {"message": "bad key"}}, 401), "status 401"),
        (plain({"error": {"message": "went wrong"}}), "cannot be read"),
        (plain([1, 2]), "cannot be read"),
    ],
)
def test_failures_are_told_alike(kind, answer, said, tmp_path):
    there = Scripted(lambda _body, _path: answer)
    options = CollectOptions(retry=Retry(attempts=1))
    with running(there, lifespan="off") as url:
        tasks = [Task(query="Say hello.", kind="exact", answers=("hello",))]
        summary = collect(tasks, pool_at(url, kind), tmp_path / "out.jsonl", options=options)
    assert said in str(summary)


def test_a_query_of_the_base_address_stays_behind_the_path(tmp_path):
    there = DialectEndpoint("openai")
    with running(there, lifespan="off") as url:
        endpoint = Endpoint(f"{url}/v1?api-version=7", timeout=20.0)
        tasks = [Task(query="Say hello.", kind="exact", answers=("hello",))]
        collect(tasks, Pool([LLM("small", 1, 4, endpoint=endpoint)]), tmp_path / "out.jsonl")
    assert there.paths == ["/v1/chat/completions?api-version=7"]


def test_what_has_no_form_is_named(tmp_path):
    there = DialectEndpoint("anthropic")
    fields = (("response_format", {"type": "json_object"}),)
    tasks = [Task(query="Say hello.", kind="exact", answers=("hello",), fields=fields)]
    with running(there, lifespan="off") as url:
        summary = collect(tasks, pool_at(url, "anthropic"), tmp_path / "out.jsonl")
    assert "no form for response_format: json_object" in str(summary)
    assert there.paths == []


@pytest.mark.parametrize("kind", ["anthropic", "gemini"])
def test_a_batch_lane_of_another_form_is_refused_by_name(kind):
    with pytest.raises(PoolError, match=f"model 'small': batches .* got {kind}"):
        OpenAIBatches(pool_at("http://127.0.0.1:9", kind)["small"])
